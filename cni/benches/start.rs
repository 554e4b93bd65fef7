//! From starting the plugin to its request at the agent's socket, and to its end.
//!
//! Not a micro benchmark: each run is a process as the container runtime starts it, so the figures are percentiles over many
//! runs rather than a mean. The binary is the one cargo built for benches; `SPIDERPOOL_PLUGIN` names another by its
//! absolute path, such as the static one that is shipped.

use std::{
    env,
    error::Error,
    io::{Read, Write},
    os::unix::net::UnixListener,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const RUNS: usize = 200;
const WARM_UP: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let plugin = env::var("SPIDERPOOL_PLUGIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_spiderpool").to_owned());
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&socket)?;
    let conf = serde_json::json!({"cniVersion": "1.0.0", "name": "bench", "ipam": {"type": "spiderpool",
        "ipam_unix_socket_path": socket, "log_file_path": folder.path().join("spiderpool.log")}});
    let conf = conf.to_string();

    let mut arrivals = Vec::new();
    let mut totals = Vec::new();
    for run in 0..WARM_UP + RUNS {
        let (arrival, total) = once(&plugin, &conf, &listener)?;
        if run >= WARM_UP {
            arrivals.push(arrival);
            totals.push(total);
        }
    }
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{plugin}: {} bytes, {RUNS} runs",
        std::fs::metadata(&plugin)?.len()
    )?;
    writeln!(out, "exec to arrival of the request  {}", percentiles(arrivals))?;
    writeln!(out, "exec to exit                    {}", percentiles(totals))?;
    Ok(())
}

fn once(plugin: &str, conf: &str, listener: &UnixListener) -> Result<(Duration, Duration), Box<dyn Error>> {
    const BODY: &str = r#"{"ips":[{"address":"10.0.0.9/8","nic":"eth0","version":4}],"routes":null}"#;
    let started = Instant::now();
    let mut child = Command::new(plugin)
        .env_clear()
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "bench"),
            ("CNI_NETNS", "/proc/self/ns/net"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(conf.as_bytes())?;
    }
    let (mut stream, _) = listener.accept()?;
    let mut request = [0; 4096];
    let read = stream.read(&mut request)?;
    let arrival = started.elapsed();
    if read == 0 {
        return Err("the plugin sent no request".into());
    }
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len()).as_bytes())?;
    if !child.wait()?.success() {
        return Err("the plugin failed".into());
    }
    Ok((arrival, started.elapsed()))
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
    format!("p50 {:.2?}  p90 {:.2?}  p99 {:.2?}", at(50), at(90), at(99))
}
