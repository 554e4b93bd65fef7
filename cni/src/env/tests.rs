use std::os::unix::ffi::OsStringExt;

use super::*;

fn vars(extra: &[(&'static str, &str)]) -> Vars {
    let mut pairs = vec![
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_NETNS", "/var/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    pairs.extend(extra);
    Vars::from_pairs(pairs)
}

#[test]
fn no_command_is_no_error() {
    assert_eq!(Vars::default().command(), Ok(None));
}

#[test]
fn missing_variables_are_named_together() {
    let one = |command| Vars::from_pairs([("CNI_COMMAND", command)]).command();
    assert_eq!(
        one("ADD"),
        Err(Error::Missing(vec![
            "CNI_CONTAINERID",
            "CNI_NETNS",
            "CNI_IFNAME",
            "CNI_PATH"
        ]))
    );
    assert_eq!(
        one("DEL"),
        Err(Error::Missing(vec!["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]))
    );
    assert_eq!(one("GC"), Err(Error::Missing(vec!["CNI_PATH"])));
    assert_eq!(one("STATUS"), Ok(Some(Command::Status)));
    assert_eq!(one("VERSION"), Ok(Some(Command::Version)));
    assert_eq!(one("add"), Err(Error::Command("add".into())));
}

#[test]
fn bytes_that_are_no_text_are_an_error() {
    let vars = Vars::from_pairs([("CNI_COMMAND", OsString::from_vec(vec![0xff]))]);
    assert_eq!(vars.command(), Err(Error::NotText("CNI_COMMAND")));
}

#[test]
fn container_id_and_interface_rules() {
    for id in ["-a", "a b", "a/b", "ä", "_"] {
        assert_eq!(
            vars(&[("CNI_CONTAINERID", id)]).attachment(),
            Err(Error::ContainerId(id.into()))
        );
    }
    for id in ["a", "9_.-Z"] {
        assert!(vars(&[("CNI_CONTAINERID", id)]).attachment().is_ok(), "{id}");
    }
    for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-letters-"] {
        let error = vars(&[("CNI_IFNAME", name)]).attachment();
        assert!(matches!(error, Err(Error::IfName { .. })), "{name:?}: {error:?}");
    }
    assert!(vars(&[("CNI_IFNAME", "fifteen-letters")]).attachment().is_ok());
}

#[test]
fn pod_is_read_from_the_arguments() {
    let args =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_INFRA_CONTAINER_ID=9f;K8S_POD_UID=3f0c;X=";
    let expected = Pod {
        namespace: "shop".into(),
        name: "cart-0".into(),
        uid: "3f0c".into(),
    };
    assert_eq!(Pod::parse(args), Ok(expected));
    assert_eq!(Pod::parse(""), Ok(Pod::default()));
    assert_eq!(
        Pod::parse("K8S_POD_NAME=a;K8S_POD_NAME=b").map(|pod| pod.name),
        Ok("b".into())
    );
}

#[test]
fn bad_arguments_are_refused() {
    assert_eq!(Pod::parse("A=1;B=2"), Err(Error::Unknown(vec!["A".into(), "B".into()])));
    assert_eq!(
        Pod::parse("A=1;IgnoreUnknown=false"),
        Err(Error::Unknown(vec!["A".into()]))
    );
    assert_eq!(Pod::parse("A=1;IgnoreUnknown=TRUE"), Ok(Pod::default()));
    for pair in ["K8S_POD_NAME", "K8S_POD_NAME=a=b"] {
        assert_eq!(Pod::parse(pair), Err(Error::Pair(pair.into())));
    }
    assert_eq!(Pod::parse("IgnoreUnknown=1;"), Err(Error::Pair(String::new())));
    assert!(matches!(
        Pod::parse("IgnoreUnknown=yes"),
        Err(Error::Value {
            key: "IgnoreUnknown",
            ..
        })
    ));
    assert!(matches!(Pod::parse("IP=10.0.0"), Err(Error::Value { key: "IP", .. })));
    assert_eq!(Pod::parse("IP=fd00::1"), Ok(Pod::default()));
}
