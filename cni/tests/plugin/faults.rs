//! Agents that are absent, silent, gone or wrong. Every command ends with a reason.

use std::{
    io,
    os::unix::net::{UnixListener, UnixStream},
    time::{Duration, Instant},
};

use serde_json::json;
use spiderpool_cni::{Deadline, env::Vars, run as run_in_process, stdin};

use crate::host::{Host, answer};

fn add(host: &Host) -> (u64, String, String) {
    host.run("ADD", &host.conf("1.0.0", json!({}))).failure()
}

#[test]
fn no_socket() {
    let (code, msg, details) = add(&Host::new());
    assert_eq!(code, 11);
    assert!(
        msg.starts_with("unhealthy spiderpool-agent backend: cannot connect to "),
        "{msg}"
    );
    assert!(msg.contains("agent.sock: No such file"), "{msg}");
    assert!(details.contains("pod bakery/oven-1"), "{details}");
}

#[test]
fn a_socket_that_a_dead_agent_left_behind() {
    let host = Host::new();
    drop(UnixListener::bind(host.path("agent.sock")).unwrap());
    let (code, msg, _) = add(&host);
    assert_eq!(code, 11);
    assert!(
        msg.contains("unhealthy spiderpool-agent backend") && msg.contains("refused"),
        "{msg}"
    );
}

#[test]
fn a_socket_path_that_no_socket_can_have() {
    let host = Host::new();
    let ipam = json!({"ipam_unix_socket_path": format!("/{}", "x".repeat(200))});
    let (code, msg, _) = host.run("ADD", &host.conf("1.0.0", ipam)).failure();
    assert_eq!(code, 11);
    assert!(msg.contains("cannot connect to /xxx"), "{msg}");
}

#[test]
fn an_agent_that_dies_with_the_request_in_hand() {
    for cut in ["", "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"ips\":"] {
        let host = Host::new();
        let _requests = host.serve([cut]);
        let (code, msg, _) = add(&host);
        assert_eq!(code, 11, "{msg}");
        assert!(
            msg.starts_with("unhealthy spiderpool-agent backend: the agent at "),
            "{msg}"
        );
    }
}

#[test]
fn answers_that_make_no_sense() {
    let body = |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    for text in [
        "SSH-2.0-other\r\n\r\n".to_owned(),
        body(""),
        body("[]"),
        body("{}"),
        body("{\"ips\":[{\"nic\":\"net1\"}]}"),
        body("{"),
    ] {
        let host = Host::new();
        let _requests = host.serve([text.as_str()]);
        let (code, msg, _) = add(&host);
        assert_eq!(code, 999, "{text:?}: {msg}");
        assert!(
            msg.starts_with("spiderpool IP allocation error: the agent's answer cannot be used"),
            "{msg}"
        );
    }
}

#[test]
fn a_refusal_that_is_no_json_is_shown_as_it_is() {
    let host = Host::new();
    let _requests = host.serve([
        "HTTP/1.1 413 X\r\n\r\nlength limit exceeded\n",
        "HTTP/1.1 501 X\r\n\r\n",
    ]);
    assert_eq!(add(&host).1, "spiderpool IP allocation error: length limit exceeded");
    assert_eq!(
        add(&host).1,
        "spiderpool IP allocation error: status 501 without a reason"
    );
}

#[test]
fn an_answer_has_a_limit() {
    let host = Host::new();
    let _requests = host.serve([answer(200, &json!({"ips": [], "padding": "x".repeat(2 << 20)}))]);
    let (code, msg, _) = add(&host);
    assert_eq!(code, 999);
    assert!(msg.contains("larger than 1048576 bytes"), "{msg}");
}

/// Runs a command in this process, because only the library takes another deadline than the protocol's.
fn add_within(host: &Host, given: Duration) -> (serde_json::Value, Duration) {
    let conf = host.conf("1.0.0", json!({})).to_string().into_bytes();
    let started = Instant::now();
    let outcome = run_in_process(
        &Vars::from_pairs(Host::vars("ADD")),
        || Ok(conf),
        Deadline::after(given),
    );
    assert!(outcome.failed);
    (serde_json::from_str(&outcome.stdout).unwrap(), started.elapsed())
}

#[test]
fn an_agent_that_never_answers_is_given_up_at_the_deadline() {
    let host = Host::new();
    let listener = UnixListener::bind(host.path("agent.sock")).unwrap();
    let given = Duration::from_millis(300);
    let (failure, took) = add_within(&host, given);
    assert_eq!(failure["code"], 11);
    assert_eq!(
        failure["msg"],
        "spiderpool IP allocation error: the agent did not answer within 0.3 s"
    );
    assert!(took >= given, "{took:?}");
    drop(listener);
}

#[test]
fn an_agent_that_does_not_even_accept_is_given_up_at_the_deadline() {
    let host = Host::new();
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    let path = host.path("agent.sock");
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let waiting = UnixStream::connect(&path).unwrap(); // the queue has room for one
    let (failure, _) = add_within(&host, Duration::from_millis(300));
    assert_eq!(failure["code"], 11);
    let msg = failure["msg"].as_str().unwrap();
    assert!(
        msg.contains("unhealthy spiderpool-agent backend: cannot connect") && msg.contains("timed out"),
        "{msg}"
    );
    drop(waiting);
}

#[test]
fn a_runtime_that_keeps_standard_input_open_is_given_up_at_the_deadline() {
    let (reader, writer) = io::pipe().unwrap();
    let deadline = Deadline::after(Duration::from_millis(100));
    let outcome = run_in_process(
        &Vars::from_pairs(Host::vars("ADD")),
        || stdin::read(reader, deadline),
        deadline,
    );
    assert!(outcome.failed && outcome.stdout.contains("\"code\": 5"), "{outcome:?}");
    drop(writer);
}
