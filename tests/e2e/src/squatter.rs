//! A host in the pods' layer 2 segment that nobody gave an address: a machine, a router, whatever is on such a network.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::node::{enter, output};
use crate::scene::Scene;

/// The bridge of that segment, in the cluster's network namespace, which the tests run in.
const SEGMENT: &str = "br1";

/// A host with a network namespace of its own; it is gone when this is dropped.
pub struct Squatter {
    keeper: Child,
    /// Its hardware address.
    pub mac: String,
}

impl Squatter {
    /// A host without addresses. A scene has at most one.
    pub async fn new(scene: &Scene) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sh", "-c"])
            .arg("echo inside; exec sleep 900")
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut keeper = command.spawn().context("making a network namespace")?;
        let stdout = keeper.stdout.take().context("no output of unshare")?;
        let line = BufReader::new(stdout).lines().next_line().await;
        let line = line.context("making a network namespace")?;
        ensure!(
            line.as_deref() == Some("inside"),
            "no network namespace: unshare needs root"
        );
        let squatter = Self {
            keeper,
            mac: format!("02:00:5e:00:00:{:02x}", scene.number),
        };
        let (pid, link, mac) = (squatter.pid()?, format!("sq{}", scene.number), &squatter.mac);
        let script = format!(
            "ip link add {link} type veth peer name eth0 address {mac} netns {pid} && ip link set {link} master {SEGMENT} up"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).kill_on_drop(true);
        output(command, "").await.context("connecting a host to the segment")?;
        squatter.ip("link set eth0 up").await?;
        Ok(squatter)
    }

    fn pid(&self) -> Result<u32> {
        self.keeper.id().context("the host is gone")
    }

    async fn ip(&self, args: &str) -> Result<()> {
        let pid = i32::try_from(self.pid()?).context("no process id")?;
        let mut command = enter(pid, &["--net"]);
        command.arg("ip").args(args.split(' '));
        output(command, "")
            .await
            .map(drop)
            .with_context(|| format!("ip {args}"))
    }

    /// Takes an address, given with its prefix length.
    pub async fn take(&self, address: &str) -> Result<()> {
        let flag = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev eth0{flag}")).await
    }

    /// Leaves an address, given with its prefix length.
    pub async fn leave(&self, address: &str) -> Result<()> {
        self.ip(&format!("addr del {address} dev eth0")).await
    }
}
