//! Entry point of the IPAM plugin `spiderpool`; everything is in the library so that tests can reach it.

use std::process::ExitCode;

use spiderpool_cni::{Deadline, env::Vars, run, stdin};
use spiderpool_wire::CLIENT_TIMEOUT;

fn main() -> ExitCode {
    let deadline = Deadline::after(CLIENT_TIMEOUT);
    run(
        &Vars::of_process(),
        || stdin::read(std::io::stdin(), deadline),
        deadline,
    )
    .print()
}
