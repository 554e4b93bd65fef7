use super::*;

fn parse(text: &str) -> NetConf {
    NetConf::parse(text.as_bytes()).unwrap()
}

fn refused(text: &str) -> Failure {
    Failure::from(NetConf::parse(text.as_bytes()).unwrap_err())
}

#[test]
fn defaults() {
    let conf = parse(r#"{"name":"n","ipam":{"type":"spiderpool"}}"#);
    assert_eq!(
        conf,
        NetConf {
            cni_version: String::new(),
            name: "n".into(),
            socket: "/var/run/spidernet/spiderpool.sock".into(),
            default_ipv4_ippool: vec![],
            default_ipv6_ippool: vec![],
            clean_gateway: false,
            match_master_subnet: false,
            log: LogConf {
                level: Level::Info,
                path: "/var/log/spidernet/spiderpool.log".into(),
                max_bytes: 100 << 20,
                max_age: Some(Duration::from_secs(30 * 86400)),
                max_backups: Some(7),
            },
            journal: "/var/lib/cni/spiderpool".into(),
            prev_result: None,
            valid_attachments: None,
        }
    );
    assert_eq!(parse(r#"{"name":"n"}"#), conf, "a missing ipam section is an empty one");
    assert_eq!(parse(r#"{"name":"n","ipam":null,"prevResult":null}"#), conf);
}

#[test]
fn everything_set_in_any_case_with_numbers_as_text() {
    let conf = parse(
        r#"{"CNIVERSION":"0.3.1","Name":"hall","type":"macvlan","IPAM":{"TYPE":"spiderpool","Log_Level":"WARN","LOG_FILE_PATH":"/l",
            "log_file_max_size":"50","Log_File_Max_Age":7,"log_file_max_count":" 3 ","Default_IPv4_IPPool":["a","b-*"],
            "default_IPV6_ippool":["c"],"Clean_Gateway":true,"MATCH_master_subnet":true,"IPAM_unix_socket_path":"/s","Journal_Path":"/j"},
            "PrevResult":{"ips":[]},"cni.dev/valid-Attachments":[{"containerID":"c1","ifname":"eth0"}],"cni.dev/attachments":[]}"#,
    );
    assert_eq!(
        conf,
        NetConf {
            cni_version: "0.3.1".into(),
            name: "hall".into(),
            socket: "/s".into(),
            default_ipv4_ippool: vec!["a".into(), "b-*".into()],
            default_ipv6_ippool: vec!["c".into()],
            clean_gateway: true,
            match_master_subnet: true,
            log: LogConf {
                level: Level::Warn,
                path: "/l".into(),
                max_bytes: 50 << 20,
                max_age: Some(Duration::from_secs(7 * 86400)),
                max_backups: Some(3),
            },
            journal: "/j".into(),
            prev_result: Some(serde_json::json!({"ips": []})),
            valid_attachments: Some(vec![ValidAttachment {
                container_id: "c1".into(),
                if_name: "eth0".into(),
            }]),
        }
    );
}

#[test]
fn last_key_wins_but_null_never_unsets() {
    let conf = parse(r#"{"name":"a","NAME":"b","name":null,"ipam":{"clean_gateway":true,"CLEAN_GATEWAY":null}}"#);
    assert_eq!(conf.name, "b");
    assert!(conf.clean_gateway);
}

#[test]
fn zero_keeps_all_and_negative_is_the_default() {
    let zero =
        parse(r#"{"name":"a","ipam":{"log_file_max_size":0,"log_file_max_age":0,"log_file_max_count":"0"}}"#).log;
    assert_eq!(
        (zero.max_bytes, zero.max_age, zero.max_backups),
        (100 << 20, None, None)
    );
    let negative =
        parse(r#"{"name":"a","ipam":{"log_file_max_size":-1,"log_file_max_age":"-9","log_file_max_count":-2}}"#).log;
    assert_eq!(negative, parse(r#"{"name":"a"}"#).log);
    let huge = parse(r#"{"name":"a","ipam":{"log_file_max_size":18446744073709551615}}"#).log;
    assert_eq!(huge.max_bytes, u64::MAX);
}

#[test]
fn bad_json_has_code_6_and_names_the_member() {
    for text in ["", "null", "[]", "{", r#"{"name":7}"#, r#"{"name":"a","ipam":[]}"#] {
        assert_eq!(refused(text).code, Code::Decoding, "{text}");
    }
    for (text, member) in [
        (
            r#"{"name":"a","ipam":{"log_file_max_size":"big"}}"#,
            "log_file_max_size",
        ),
        (r#"{"name":"a","ipam":{"log_file_max_age":1.5}}"#, "log_file_max_age"),
        (r#"{"name":"a","ipam":{"Clean_Gateway":"yes"}}"#, "clean_gateway"),
        (
            r#"{"name":"a","ipam":{"default_ipv4_ippool":"one"}}"#,
            "default_ipv4_ippool",
        ),
    ] {
        let failure = refused(text);
        assert_eq!(failure.code, Code::Decoding, "{text}");
        assert!(failure.msg.contains(member), "{}", failure.msg);
    }
}

#[test]
fn bad_name_and_level_have_code_7() {
    for text in [r#"{}"#, r#"{"name":""}"#, r#"{"name":"a b"}"#, r#"{"name":"-a"}"#] {
        assert_eq!(refused(text).code, Code::InvalidConfig, "{text}");
    }
    let failure = refused(r#"{"name":"a","ipam":{"log_level":"loud"}}"#);
    assert_eq!(failure.code, Code::InvalidConfig);
    assert!(
        failure.msg.contains("unsupported log level \"loud\""),
        "{}",
        failure.msg
    );
}
