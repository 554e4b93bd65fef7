//! Processes that a test stops for a while.

use anyhow::Result;
use rustix::process::Signal;

use crate::node::Process;

/// A process that hangs. It goes on when this is dropped, whatever becomes of the test.
#[derive(Debug)]
pub struct Stopped(Process);

impl Stopped {
    /// Stops a process.
    pub fn stop(process: Process) -> Result<Self> {
        process.signal(Signal::STOP)?;
        Ok(Self(process))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // There is nobody to tell; the next test would fail loudly.
        let _ = self.0.signal(Signal::CONT);
    }
}
