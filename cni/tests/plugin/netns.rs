//! Network namespaces of a test: each is kept by a process of its own and gone with it, so nothing is left and nothing of the
//! machine's own namespace is touched.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// A fresh network namespace. Making one needs root; without it the test fails.
pub(crate) struct Netns(Child);

impl Netns {
    pub(crate) fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo inside; exec sleep 300"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = keeper.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "inside\n", "unshare --net needs root");
        Self(keeper)
    }

    /// Its path on the node.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// The process that keeps it, which tools take for its name.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// A program to be run inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs ip(8) inside and gives what it prints.
    pub(crate) fn ip(&self, args: &str) -> String {
        let output = self.command("ip").args(args.split(' ')).output().unwrap();
        assert!(
            output.status.success(),
            "ip {args}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
