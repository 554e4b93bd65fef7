//! The log file: what it says, and that it neither fails a command nor loses a line.

use std::{fs, thread};

use serde_json::{Value, json};

use crate::host::{Host, answer, empty};

fn given() -> Vec<u8> {
    answer(
        200,
        &json!({"ips": [{"address": "10.61.2.9/20", "ipPool": "hall-v4", "nic": "net1", "version": 4}], "routes": null}),
    )
}

#[test]
fn one_line_for_each_command() {
    let host = Host::new();
    let _requests = host.serve([given(), empty(200), answer(500, &json!("no room"))]);
    let conf = host.conf("1.0.0", json!({}));
    for command in ["ADD", "DEL", "ADD"] {
        host.run(command, &conf);
    }
    let mut lines = host.log();
    for line in &mut lines {
        let members = line.as_object_mut().unwrap();
        let ts = members.remove("ts").unwrap();
        let parsed: jiff::Timestamp = ts.as_str().unwrap().parse().unwrap();
        assert_eq!(format!("{parsed:.3}"), ts.as_str().unwrap());
        assert!(members.remove("Milliseconds").unwrap().as_f64().unwrap() >= 0.0);
        members.remove("Details");
    }
    let line = |level: &str, action: &str, msg: &str| {
        json!({"level": level, "logger": "spiderpool", "msg": msg, "Action": action, "ContainerID": "c0ffee",
               "Netns": "/var/run/netns/cni-77", "IfName": "net1", "PodName": "oven-1", "PodNamespace": "bakery", "PodUID": "8a1d"})
    };
    let mut add = line("INFO", "ADD", "addresses given to the interface");
    add["IPs"] = json!([{"Address": "10.61.2.9/20", "Pool": "hall-v4"}]);
    let del = line("INFO", "DEL", "addresses of the sandbox handed back to the agent");
    let mut failed = line("ERROR", "ADD", "spiderpool IP allocation error: no room");
    failed["Code"] = json!(999);
    assert_eq!(lines, [add, del, failed]);
}

#[test]
fn levels() {
    for (level, expected) in [
        ("debug", vec!["DEBUG", "INFO", "ERROR"]),
        ("Warn", vec!["ERROR"]),
        ("fatal", vec![]),
        ("PANIC", vec![]),
    ] {
        let host = Host::new();
        let _requests = host.serve([given()]);
        let conf = host.conf("1.0.0", json!({"log_level": level}));
        host.run("ADD", &conf);
        let mut bad = conf.clone();
        bad["ipam"]["ipam_unix_socket_path"] = json!("/nowhere/agent.sock");
        bad["ipam"]["log_level"] = json!(if level == "debug" { "info" } else { level });
        host.run("ADD", &bad);
        let levels: Vec<Value> = host.log().iter().map(|line| line["level"].clone()).collect();
        assert_eq!(levels, expected, "{level}");
    }
}

#[test]
fn a_log_that_cannot_be_written_fails_nothing() {
    let host = Host::new();
    let _requests = host.serve([given()]);
    fs::write(host.path("file"), "").unwrap();
    let ended = host.run(
        "ADD",
        &host.conf("1.0.0", json!({"log_file_path": host.path("file/log")})),
    );
    assert_eq!(ended.status, Some(0));
    assert!(ended.stdout.contains("10.61.2.9/20"), "{ended:?}");
    assert!(ended.stderr.contains("cannot write the log"), "{ended:?}");
}

/// Two rows of processes write to a file that is nearly full, twice.
#[test]
fn processes_that_rotate_at_the_same_time_lose_no_line() {
    const EACH: usize = 12;
    let host = Host::new();
    let _requests = host.serve(std::iter::repeat_n(given(), 4 * EACH));
    let conf = host.conf("1.0.0", json!({"log_file_max_size": "1", "log_file_max_count": 0}));
    let log = host.path("log/spiderpool.log");
    let folder = log.parent().unwrap();
    fs::create_dir(folder).unwrap();
    for round in 1..=2 {
        // full but for a few lines, so that some of the processes write before the rotation and some after
        fs::write(&log, vec![b'\n'; (1 << 20) - 2000]).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        assert_eq!(host.run("ADD", &conf).status, Some(0));
                    }
                });
            }
        });
        let files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(files.len(), round + 1, "one rotation in a round: {files:?}");
        let mut lines = 0;
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            lines += text.lines().filter(|line| !line.is_empty()).map(parse).count();
            fs::write(file, "").unwrap();
        }
        assert_eq!(lines, 2 * EACH);
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}
