//! The IPAM plugin `spiderpool`: a main CNI plugin (macvlan, ipvlan, ...) runs it to give a NIC of a pod its addresses.
//!
//! The plugin decides nothing. It reads what the runtime says (environment and standard input), asks the node's agent on its unix
//! socket, and prints the answer in the form of the CNI version in use. It is started for every NIC of every pod on a node, hence no
//! async runtime, one connection per command, and no work that the agent can do.
//!
//! Every command ends within the deadline given to [`run`], also when the agent accepts the connection and never answers.

pub mod agent;
pub mod check;
pub mod conf;
pub mod deadline;
pub mod env;
pub mod error;
pub mod http;
pub mod journal;
pub mod log;
pub mod net;
mod question;
pub mod result;
pub mod rotate;
mod run;
pub mod socket;
pub mod stdin;
pub mod version;

pub use deadline::Deadline;
pub use run::{Outcome, run};
