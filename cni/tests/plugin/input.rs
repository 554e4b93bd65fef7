//! Wrong input: the code of each fault, in the order in which faults are looked for.

use serde_json::{Value, json};

use crate::host::{Host, run};

fn code_of(vars: &[(&str, &str)], stdin: &[u8]) -> u64 {
    run(vars, stdin).failure().0
}

#[test]
fn failure_is_printed_like_every_plugin_does() {
    let ended = run(&[("CNI_COMMAND", "ADD")], b"");
    assert_eq!(ended.status, Some(1));
    assert_eq!(
        ended.stdout,
        r#"{
    "code": 4,
    "msg": "required environment variables are missing: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"
}"#
    );
}

#[test]
fn codes() {
    let host = Host::new();
    let conf = host.conf("1.0.0", json!({}));
    let with = |pointer: &str, value: Value| {
        let mut conf = conf.clone();
        *conf.pointer_mut(pointer).unwrap() = value;
        conf.to_string().into_bytes()
    };
    let vars = |name: &'static str, value: &'static str| {
        let mut vars = Host::vars("ADD");
        vars.retain(|(other, _)| *other != name);
        vars.push((name, value));
        vars
    };
    let good = with("/name", json!("hall"));
    let usual = Host::vars("ADD");

    assert_eq!(code_of(&vars("CNI_COMMAND", "UPDATE"), &good), 4);
    assert_eq!(code_of(&vars("CNI_NETNS", ""), &good), 4);
    assert_eq!(code_of(&usual, b"not json"), 6);
    assert_eq!(code_of(&usual, b""), 6);
    assert_eq!(code_of(&usual, &with("/ipam", json!("spiderpool"))), 6);
    assert_eq!(code_of(&usual, &with("/name", json!(null))), 7);
    assert_eq!(code_of(&usual, &with("/name", json!("two words"))), 7);
    assert_eq!(code_of(&vars("CNI_CONTAINERID", "-c0ffee"), &good), 4);
    assert_eq!(code_of(&vars("CNI_IFNAME", "sixteen-letters-"), &good), 4);
    assert_eq!(code_of(&vars("CNI_ARGS", "K8S_POD_NAME=oven-1;UNKNOWN=1"), &good), 4);
    for version in ["", "0.1.0", "0.2.0", "1.2.0"] {
        let (code, _, details) = run(&usual, &with("/cniVersion", json!(version))).failure();
        assert_eq!(code, 1, "{version:?}");
        assert_eq!(details, "supported versions: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
    }

    // the earlier check wins
    assert_eq!(code_of(&vars("CNI_IFNAME", "a/b"), &with("/name", json!(""))), 7);
    assert_eq!(code_of(&vars("CNI_IFNAME", "a/b"), &with("/cniVersion", json!("9"))), 4);
}

#[test]
fn a_configuration_has_a_limit() {
    let mut text = vec![b' '; 2 << 20];
    text[0] = b'{';
    let (code, msg, _) = run(&Host::vars("ADD"), &text).failure();
    assert_eq!(code, 5);
    assert!(msg.contains("more than 1048576 bytes"), "{msg}");
}
