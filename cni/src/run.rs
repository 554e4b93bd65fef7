//! One command from its input to what it prints.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};
use spiderpool_wire::{IpamAddArgs, IpamDelArgs, IpamGcArgs};

use crate::{
    agent::{self, Agent},
    check,
    conf::NetConf,
    deadline::Deadline,
    env::{self, Attachment, Command, Vars},
    error::{Code, Failure, chain},
    journal,
    log::{Level, Log},
    net::{announce, master},
    question, result,
    version::{self, Version},
};

/// How long STATUS waits. Runtimes ask it in a loop to tell whether the node is ready, so a hanging agent must show soon.
const STATUS_TIMEOUT: Duration = Duration::from_secs(10);

/// How long DEL waits for the agent before it notes the DEL on the node. Longer than the agent takes when all is well, and well
/// below what the kubelet gives a pod's end.
const DEL_TIMEOUT: Duration = Duration::from_secs(10);

/// What the process prints and how it ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Result or failure, for the runtime.
    pub stdout: String,
    /// For a person who looks; runtimes ignore it.
    pub stderr: String,
    /// Whether the command failed.
    pub failed: bool,
}

impl Outcome {
    /// Prints and gives the exit status.
    pub fn print(&self) -> ExitCode {
        // With nobody to read standard error there is nobody to tell.
        let _ = io::stderr().write_all(self.stderr.as_bytes());
        let mut stdout = io::stdout();
        let written = stdout.write_all(self.stdout.as_bytes()).and_then(|()| stdout.flush());
        if written.is_err() || self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Runs the command that the variables name. `stdin` is read only when the command has a configuration.
pub fn run(vars: &Vars, stdin: impl FnOnce() -> io::Result<Vec<u8>>, deadline: Deadline) -> Outcome {
    let mut stderr = String::new();
    let done = match vars.command() {
        Ok(None) => {
            stderr = about();
            Ok(String::new())
        }
        Ok(Some(Command::Version)) => Ok(version::report()),
        Ok(Some(command)) => configured(command, vars, stdin, deadline, &mut stderr),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(stdout) => Outcome {
            stdout,
            stderr,
            failed: false,
        },
        Err(failure) => Outcome {
            stdout: failure.to_json(),
            stderr,
            failed: true,
        },
    }
}

fn about() -> String {
    format!(
        "Spiderpool IPAM {}\nCNI protocol versions supported: {}\n",
        env!("CARGO_PKG_VERSION"),
        version::names().join(", ")
    )
}

/// Checks the input in the order of the protocol's common library, so that a wrong input has the code that runtimes know.
fn configured(
    command: Command,
    vars: &Vars,
    stdin: impl FnOnce() -> io::Result<Vec<u8>>,
    deadline: Deadline,
    stderr: &mut String,
) -> Result<String, Failure> {
    let text = stdin().map_err(|error| {
        Failure::new(
            Code::Io,
            format!("cannot read the network configuration on standard input: {error}"),
        )
    })?;
    let conf = NetConf::parse(&text)?;
    let nic = if command.has_attachment() {
        Some(vars.attachment()?)
    } else {
        None
    };
    let version = Version::parse(&conf.cni_version)?;
    let mut log = Log::new(&conf.log, command, nic.as_ref());
    log.write(
        Level::Debug,
        "command read",
        &[("Config", Value::from(format!("{conf:?}")))],
    );
    let mut work = Work {
        conf: &conf,
        version,
        deadline,
        log: &mut log,
    };
    let done = match (command, &nic) {
        (Command::Add, Some(nic)) => work.add(nic),
        (Command::Del, Some(nic)) => work.del(nic),
        (Command::Check, Some(nic)) => work.check(nic),
        (Command::Status, _) => work.status(),
        (Command::Gc, _) => work.gc(),
        (Command::Add | Command::Del | Command::Check | Command::Version, _) => Ok(String::new()),
    };
    if let Err(failure) = &done {
        let members = [
            ("Code", json!(failure.code as u32)),
            ("Details", json!(failure.details)),
        ];
        log.write(Level::Error, &failure.msg, &members);
    }
    if let Some(trouble) = log.trouble() {
        *stderr = format!("spiderpool: {trouble}\n");
    }
    done
}

struct Work<'a, 'b> {
    conf: &'a NetConf,
    version: Version,
    deadline: Deadline,
    log: &'a mut Log<'b>,
}

impl Work<'_, '_> {
    fn agent(&self) -> Agent {
        Agent::new(self.conf.socket.clone(), self.deadline)
    }

    fn add(&mut self, nic: &Attachment) -> Result<String, Failure> {
        if let Some(variable) = nic.pod.missing() {
            return Err(env::Error::NoPod(variable).into());
        }
        let args = IpamAddArgs {
            container_id: nic.container_id.clone(),
            if_name: nic.if_name.clone(),
            net_namespace: nic.netns.clone(),
            pod_namespace: nic.pod.namespace.clone(),
            pod_name: nic.pod.name.clone(),
            pod_uid: nic.pod.uid.clone(),
            default_ipv4_ippool: self.conf.default_ipv4_ippool.clone(),
            default_ipv6_ippool: self.conf.default_ipv6_ippool.clone(),
            clean_gateway: self.conf.clean_gateway,
            match_master_subnet: self.conf.match_master_subnet,
            master_addresses: self.master(nic),
            network_name: self.conf.name.clone(),
        };
        const WHAT: &str = "spiderpool IP allocation error";
        let answer = self
            .agent()
            .add(&args)
            .map_err(|error| failed(WHAT, &error, Some(nic)))?;
        let text = result::render(self.version, &answer, &nic.if_name)
            .map_err(|error| described(Code::Internal, format!("{WHAT}: {error}"), Some(nic)))?;
        question::ask(self.conf, self.deadline, self.log, nic, &answer)
            .map_err(|msg| described(Code::Internal, format!("{WHAT}: {msg}"), Some(nic)))?;
        let ours = answer.ips.iter().filter(|ip| ip.nic == nic.if_name);
        let addresses: Vec<_> = ours
            .map(|ip| json!({"Address": ip.address, "Pool": ip.ip_pool}))
            .collect();
        self.log.write(
            Level::Info,
            "addresses given to the interface",
            &[("IPs", addresses.into())],
        );
        if let Err(error) = announce::switch_on(&nic.netns, &nic.if_name) {
            // The pod has its addresses all the same; neighbours find out on their own.
            let fields = [("Error", error.to_string().into())];
            self.log
                .write(Level::Warn, "the kernel will not announce the addresses", &fields);
        }
        Ok(text)
    }

    /// The addresses of what the NIC is made of, where pools have to be in its subnet. What cannot be found out has none: then no
    /// pool fits, and the error says so.
    fn master(&mut self, nic: &Attachment) -> Option<Vec<IpAddr>> {
        if !self.conf.match_master_subnet {
            return None;
        }
        Some(
            master::addresses(Path::new(&nic.netns), &nic.if_name).unwrap_or_else(|error| {
                let fields = [("Error", error.to_string().into())];
                self.log.write(
                    Level::Warn,
                    "the addresses of the master interface are not known",
                    &fields,
                );
                Vec::new()
            }),
        )
    }

    /// Leaves a note on the node when the agent cannot give the addresses back now: the pod's end does not wait for it, and the
    /// agent takes the note up. Without the note it fails, so that the runtime asks again: a success would leave the addresses
    /// taken by a pod that is no more.
    fn del(&mut self, nic: &Attachment) -> Result<String, Failure> {
        if nic.pod.missing().is_some() {
            // ADD refuses this, so there is nothing to give back.
            self.log
                .write(Level::Info, "nothing to give back: CNI_ARGS names no pod", &[]);
            return Ok(String::new());
        }
        let args = IpamDelArgs {
            container_id: nic.container_id.clone(),
            if_name: nic.if_name.clone(),
            net_namespace: nic.netns.clone(),
            pod_namespace: nic.pod.namespace.clone(),
            pod_name: nic.pod.name.clone(),
            pod_uid: nic.pod.uid.clone(),
            network_name: self.conf.name.clone(),
        };
        const WHAT: &str = "spiderpool IP release error";
        let agent = Agent::new(self.conf.socket.clone(), self.deadline.at_most(DEL_TIMEOUT));
        let error = match agent.release(&args) {
            Ok(()) => {
                self.log
                    .write(Level::Info, "addresses of the sandbox handed back to the agent", &[]);
                return Ok(String::new());
            }
            Err(error) if error.is_final() => return Err(failed(WHAT, &error, Some(nic))),
            Err(error) => error,
        };
        journal::leave(&self.conf.journal, &args).map_err(|trouble| {
            let mut failure = failed(WHAT, &error, Some(nic));
            failure.code = Code::TryAgainLater;
            failure.msg = format!("{}; {}", failure.msg, chain(&trouble));
            failure
        })?;
        let members = [
            ("Error", chain(&error).into()),
            ("Journal", self.conf.journal.display().to_string().into()),
        ];
        self.log
            .write(Level::Warn, "the agent will take the DEL up from the journal", &members);
        Ok(String::new())
    }

    fn check(&mut self, nic: &Attachment) -> Result<String, Failure> {
        const WHAT: &str = "spiderpool IP check error";
        self.since(Version::V0_4_0, Command::Check)?;
        let broken = |error: check::Error| described(error.code(), format!("{WHAT}: {}", chain(&error)), Some(nic));
        if let Some(variable) = nic.pod.missing() {
            return Err(env::Error::NoPod(variable).into());
        }
        let given = check::given(self.conf.prev_result.as_ref(), &nic.if_name).map_err(broken)?;
        let endpoint = self.agent().endpoint(&nic.pod.namespace, &nic.pod.name);
        let endpoint = endpoint.map_err(|error| failed(WHAT, &error, Some(nic)))?;
        check::compare(&given, endpoint.as_ref(), nic).map_err(broken)?;
        check::carried(&given, nic).map_err(broken)?;
        self.log
            .write(Level::Debug, "addresses are on record and on the interface", &[]);
        Ok(String::new())
    }

    fn status(&mut self) -> Result<String, Failure> {
        self.since(Version::V1_1_0, Command::Status)?;
        let agent = Agent::new(self.conf.socket.clone(), self.deadline.at_most(STATUS_TIMEOUT));
        match agent.health() {
            Ok(()) => Ok(String::new()),
            Err(error) => Err(Failure {
                code: Code::NotAvailable,
                ..failed("unhealthy spiderpool-agent backend", &error, None)
            }),
        }
    }

    /// Gives back what was set up for this network and is not in the runtime's list. The agent looks at each pod before: the list
    /// is this runtime's view, and a list that is too short must not free what a living pod uses.
    fn gc(&mut self) -> Result<String, Failure> {
        self.since(Version::V1_1_0, Command::Gc)?;
        let Some(attachments) = self.conf.valid_attachments.clone() else {
            return Err(Failure::new(
                Code::InvalidConfig,
                "network configuration: GC needs cni.dev/valid-attachments, the attachments that are in use",
            ));
        };
        let args = IpamGcArgs {
            network_name: self.conf.name.clone(),
            attachments,
        };
        self.agent()
            .collect(&args)
            .map_err(|error| failed("spiderpool IP collection error", &error, None))?;
        let known = [("Attachments", args.attachments.len().into())];
        self.log.write(Level::Info, "unknown attachments given back", &known);
        Ok(String::new())
    }

    fn since(&self, first: Version, command: Command) -> Result<(), Failure> {
        if self.version >= first {
            return Ok(());
        }
        let (command, version, first) = (command.as_str(), self.version.as_str(), first.as_str());
        Err(Failure::new(
            Code::IncompatibleVersion,
            format!("cniVersion {version} does not allow {command}, which came with {first}"),
        ))
    }
}

/// The failure of a request. The two phrases are what people and scripts look for in pod events: who could not be reached says so
/// itself, everything else begins with what was attempted.
fn failed(what: &str, error: &agent::Error, nic: Option<&Attachment>) -> Failure {
    let code = if error.is_transient() {
        Code::TryAgainLater
    } else {
        Code::Internal
    };
    let msg = match error {
        agent::Error::Unreachable { .. } | agent::Error::WentAway { .. } => chain(error),
        _ => format!("{what}: {}", chain(error)),
    };
    described(code, msg, nic)
}

/// Adds where it happened and where to look.
fn described(code: Code, msg: String, nic: Option<&Attachment>) -> Failure {
    let subject = nic.map_or_else(String::new, |nic| {
        format!(
            "pod {}/{}, interface {}, ",
            nic.pod.namespace, nic.pod.name, nic.if_name
        )
    });
    let details = format!(
        "{subject}node {}; see: kubectl -n kube-system logs -l app.kubernetes.io/component=spiderpool-agent --prefix",
        host_name()
    );
    Failure { code, msg, details }
}

/// Name of the host, which is the node's unless it was registered under another.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
