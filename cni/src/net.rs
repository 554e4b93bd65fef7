//! The kernel's side of the network: namespaces, interfaces, raw frames. Nothing outside of this module talks to the kernel about
//! any of them.
//!
//! A namespace is entered by a thread of its own which ends afterwards, so that the rest of the process never is in another
//! one than the runtime's. All calls are synchronous and time-boxed.

pub mod announce;
mod arp;
pub mod detect;
mod link;
pub mod mac;
pub mod master;
mod ndp;
mod netlink;
mod packet;
mod probe;

use std::{fs::File, io, path::Path};

pub use link::addresses;
use rustix::{
    fd::AsFd,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Runs the closure inside a network namespace.
pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let netns = File::open(netns)?;
    let inside = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        });
        thread.join()
    });
    inside.unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace failed")))
}
