//! The plugin's binary from standard input and environment to standard output and exit status, against a real HTTP server on a
//! real unix socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of #[test] functions")]

mod host;

mod add;
mod check;
mod del;
mod detection;
mod faults;
mod input;
mod log;
mod master;
mod netns;
mod status;
