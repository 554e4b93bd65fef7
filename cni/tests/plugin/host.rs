//! A node for one test: a folder with the agent's socket and the log, a server on the socket, and the plugin's binary.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a step that must happen may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const ARGS: &str =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=bakery;K8S_POD_NAME=oven-1;K8S_POD_INFRA_CONTAINER_ID=c0ffee;K8S_POD_UID=8a1d";

/// Everything a test needs, gone when it is dropped.
pub(crate) struct Host {
    folder: TempDir,
}

/// A request as the server saw it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) body: Value,
}

/// How a run of the plugin ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Success with exactly that output.
    #[track_caller]
    pub(crate) fn succeeded_with(&self, stdout: &str) {
        assert_eq!(
            (self.status, self.stdout.as_str(), self.stderr.as_str()),
            (Some(0), stdout, "")
        );
    }

    /// The printed failure.
    #[track_caller]
    pub(crate) fn failure(&self) -> (u64, String, String) {
        assert_eq!(self.status, Some(1), "{self:?}");
        let printed: Value = serde_json::from_str(&self.stdout).unwrap();
        let text = |key: &str| printed[key].as_str().unwrap_or_default().to_owned();
        (printed["code"].as_u64().unwrap(), text("msg"), text("details"))
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Serves one connection for each answer, in order, and hands out the requests.
    pub(crate) fn serve<A: Into<Vec<u8>>>(&self, answers: impl IntoIterator<Item = A>) -> Requests {
        let listener = UnixListener::bind(self.path("agent.sock")).unwrap();
        let answers: Vec<Vec<u8>> = answers.into_iter().map(Into::into).collect();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(&stream);
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let mut length = 0;
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    if header.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let body = if body.is_empty() {
                    Value::Null
                } else {
                    serde_json::from_slice(&body).unwrap()
                };
                sender
                    .send(Request {
                        line: line.trim_end().to_owned(),
                        body,
                    })
                    .unwrap();
                // the plugin may hang up on an answer that is too long
                let _ = (&stream).write_all(&answer);
            }
        });
        Requests(receiver)
    }

    /// A configuration for this host; `ipam` members are added or replaced.
    pub(crate) fn conf(&self, version: &str, ipam: Value) -> Value {
        let mut conf = json!({"cniVersion": version, "name": "hall", "type": "macvlan", "master": "ens5", "ipam": {
            "type": "spiderpool", "log_file_path": self.path("log/spiderpool.log"), "ipam_unix_socket_path": self.path("agent.sock"),
            "journal_path": self.path("journal"),
        }});
        let Value::Object(members) = ipam else {
            unreachable!("ipam is an object")
        };
        conf["ipam"].as_object_mut().unwrap().extend(members);
        conf
    }

    /// The variables of a command as the kubelet's runtime sets them.
    pub(crate) fn vars(command: &'static str) -> Vec<(&'static str, &'static str)> {
        vec![
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", "c0ffee"),
            ("CNI_NETNS", "/var/run/netns/cni-77"),
            ("CNI_IFNAME", "net1"),
            ("CNI_ARGS", ARGS),
            ("CNI_PATH", "/opt/cni/bin"),
        ]
    }

    /// Runs the plugin with the usual variables.
    pub(crate) fn run(&self, command: &'static str, conf: &Value) -> Ended {
        run(&Self::vars(command), conf.to_string().as_bytes())
    }

    /// The lines of the log.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("log/spiderpool.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The requests a server got.
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Requests {
    pub(crate) fn next(&self) -> Request {
        self.0.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// The plugin's program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_spiderpool");

/// Runs the plugin.
pub(crate) fn run(vars: &[(&str, &str)], stdin: &[u8]) -> Ended {
    run_as(Command::new(PROGRAM).env_clear(), vars, stdin)
}

/// Runs the plugin as this command.
pub(crate) fn run_as(command: &mut Command, vars: &[(&str, &str)], stdin: &[u8]) -> Ended {
    let mut child = command
        .envs(vars.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // commands without a configuration may end before they are given one
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// An HTTP answer with a JSON body.
pub(crate) fn answer(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An HTTP answer without a body.
pub(crate) fn empty(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes()
}
