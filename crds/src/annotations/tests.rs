use super::*;
use crate::names::*;
use proptest::prelude::*;

fn one(key: &str, value: &str) -> Annotations {
    Annotations::from([(key.to_owned(), value.to_owned())])
}

fn items(value: &str) -> Vec<SubnetItem> {
    subnet_request(&one(ANNOTATION_SUBNETS, value)).unwrap().unwrap().items
}

fn item(interface: &str, ipv4: &[&str], ipv6: &[&str]) -> SubnetItem {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    SubnetItem {
        interface: interface.to_owned(),
        ipv4: owned(ipv4),
        ipv6: owned(ipv6),
    }
}

/// What is wrong with a value; the whole message must name the key and quote the value.
fn refused<T: std::fmt::Debug>(key: &str, value: &str, parsed: Result<T, AnnotationError>) -> Problem {
    let error = parsed.expect_err(value);
    let message = error.to_string();
    assert!(
        message.contains(key) && message.contains(&format!("{value:?}")),
        "{message}"
    );
    assert!(message.contains("write for example"), "{message}");
    *error.problem
}

#[test]
fn ip_numbers() {
    let number = |text: &str| ip_number(&one(ANNOTATION_IP_NUMBER, text));
    for (text, expected) in [
        ("5", IpNumber::Fixed(5)),
        ("0", IpNumber::Fixed(0)),
        ("007", IpNumber::Fixed(7)),
        ("+0", IpNumber::Flexible(0)),
        ("+3", IpNumber::Flexible(3)),
    ] {
        assert_eq!(number(text).unwrap(), Some(expected), "{text}");
    }
    // The last three pass in the peer, which throws away what stands before the plus sign.
    for text in ["", "+", "++5", "a", " 5", "5 ", "1e3", "٣", "1+2", "abc+2", "5+"] {
        assert_eq!(
            refused(ANNOTATION_IP_NUMBER, text, number(text)),
            Problem::Number,
            "{text}"
        );
    }
    for text in ["-1", "+-1", "-0"] {
        assert_eq!(
            refused(ANNOTATION_IP_NUMBER, text, number(text)),
            Problem::Negative,
            "{text}"
        );
    }
    let huge = "99999999999999999999";
    assert_eq!(refused(ANNOTATION_IP_NUMBER, huge, number(huge)), Problem::TooLarge);
    assert_eq!(ip_number(&Annotations::new()).unwrap(), None);
    assert_eq!(IpNumber::Flexible(1).to_string(), "+1");
    assert_eq!(IpNumber::Fixed(6).to_string(), "6");
}

#[test]
fn reclaim_values() {
    let value = |text: &str| reclaim(&one(ANNOTATION_RECLAIM, text));
    for text in ["1", "t", "T", "TRUE", "true", "True"] {
        assert!(value(text).unwrap(), "{text}");
    }
    for text in ["0", "f", "F", "FALSE", "false", "False"] {
        assert!(!value(text).unwrap(), "{text}");
    }
    for text in ["yes", "on", "", "tRUE"] {
        assert_eq!(refused(ANNOTATION_RECLAIM, text, value(text)), Problem::Bool, "{text}");
    }
    assert!(reclaim(&Annotations::new()).unwrap());
}

#[test]
fn object_form() {
    let request = |text: &str| subnet_request(&one(ANNOTATION_SUBNET, text)).unwrap().unwrap();
    let dual = request(r#"{"ipv4":["rack7-v4"],"ipv6":["rack7-v6"]}"#);
    assert_eq!(dual.form, Form::Subnet);
    assert_eq!(dual.items, [item("eth0", &["rack7-v4"], &["rack7-v6"])]);
    let named = request(r#"{"Interface":"net1","IPV4":["a","b","a"],"ipv6":null,"more":1}"#);
    assert_eq!(named.items, [item("net1", &["a", "b"], &[])]);
}

#[test]
fn list_form() {
    let two = r#"[{"interface":"eth0","ipv4":["rack7-v4"]},{"interface":"net1","ipv4":["rack7-v4"],"ipv6":["s"]}]"#;
    assert_eq!(
        items(two),
        [item("eth0", &["rack7-v4"], &[]), item("net1", &["rack7-v4"], &["s"])]
    );
    assert_eq!(items(r#"[{"ipv6":["a"]}]"#), [item("eth0", &[], &["a"])]);
    assert_eq!(
        items(r#"[{"interface":"net1","ipv6":["a"]}]"#),
        [item("net1", &[], &["a"])]
    );
}

#[test]
fn list_form_goes_first_even_when_it_is_broken() {
    let mut both = one(ANNOTATION_SUBNET, r#"{"ipv4":["a"]}"#);
    both.insert(ANNOTATION_SUBNETS.to_owned(), r#"[{"ipv4":["b"]}]"#.to_owned());
    let request = subnet_request(&both).unwrap().unwrap();
    assert_eq!(
        (request.form, request.items),
        (Form::Subnets, vec![item("eth0", &["b"], &[])])
    );
    both.insert(ANNOTATION_SUBNETS.to_owned(), "x".to_owned());
    assert!(subnet_request(&both).is_err());
    assert_eq!(subnet_request(&Annotations::new()).unwrap(), None);
}

#[test]
fn subnet_values_that_are_refused() {
    let list = |text: &str| refused(ANNOTATION_SUBNETS, text, subnet_request(&one(ANNOTATION_SUBNETS, text)));
    let object = |text: &str| refused(ANNOTATION_SUBNET, text, subnet_request(&one(ANNOTATION_SUBNET, text)));
    for text in ["null", "[]"] {
        assert_eq!(list(text), Problem::NoItems, "{text}");
    }
    for text in ["", "x", "{", r#"{"ipv4":["a"]} x"#] {
        assert!(matches!(object(text), Problem::Json(_)), "{text}");
    }
    for text in ["null", "{}", r#"{"ipv4":[],"ipv6":[]}"#, r#"{"ipv5":["a"]}"#] {
        assert!(matches!(object(text), Problem::NothingNamed { .. }), "{text}");
    }
    for text in [
        "[]",
        "7",
        r#"{"ipv4":"a"}"#,
        r#"{"ipv4":[7]}"#,
        r#"{"ipv4":["a"],"interface":1}"#,
    ] {
        assert!(matches!(object(text), Problem::Shape { .. }), "{text}");
    }
    assert!(matches!(list(r#"{"ipv4":["a"]}"#), Problem::Shape { .. }));
    assert!(matches!(object(r#"{"ipv4":[""]}"#), Problem::EmptyName { .. }));
    let unnamed = r#"[{"interface":"eth0","ipv4":["a"]},{"ipv4":["b"]}]"#;
    assert_eq!(
        list(unnamed),
        Problem::NoInterface {
            place: "item 2".to_owned()
        }
    );
    let twice = r#"[{"interface":"eth0","ipv4":["a"]},{"interface":"eth0","ipv4":["b"]}]"#;
    assert_eq!(list(twice), Problem::InterfaceTwice("eth0".to_owned()));
}

#[test]
fn pools() {
    let request = ippool(&one(
        ANNOTATION_IPPOOL,
        r#"{"ipv4":["rack7-v4","spare-?-v*"],"interface":"x"}"#,
    ))
    .unwrap()
    .unwrap();
    assert_eq!(request.ipv4, ["rack7-v4", "spare-?-v*"]);
    assert!(request.ipv6.is_empty());
    assert_eq!(ippool(&Annotations::new()).unwrap(), None);
    let empty = refused(ANNOTATION_IPPOOL, "{}", ippool(&one(ANNOTATION_IPPOOL, "{}")));
    assert!(matches!(empty, Problem::NothingNamed { what: "pool", .. }));
}

#[test]
fn pools_of_several_interfaces() {
    let parse = |text: &str| ippools(&one(ANNOTATION_IPPOOLS, text));
    let named = parse(r#"[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["b"],"cleanGateway":true}]"#);
    let named = named.unwrap().unwrap();
    assert_eq!(named[1].interface.as_deref(), Some("net1"));
    assert_eq!((named[0].clean_gateway, named[1].clean_gateway), (false, true));
    let unnamed = parse(r#"[{"ipv4":["a"]},{"ipv4":["b"]}]"#).unwrap().unwrap();
    assert!(unnamed.iter().all(|item| item.interface.is_none()));
    let mixed = r#"[{"ipv4":["a"]},{"interface":"net1","ipv4":["b"]}]"#;
    assert!(matches!(
        refused(ANNOTATION_IPPOOLS, mixed, parse(mixed)),
        Problem::NoInterface { .. }
    ));
    assert_eq!(refused(ANNOTATION_IPPOOLS, "[]", parse("[]")), Problem::NoItems);
    assert_eq!(ippools(&Annotations::new()).unwrap(), None);
}

#[test]
fn extra_routes() {
    let parse = |text: &str| routes(&one(ANNOTATION_ROUTES, text));
    let found = parse(r#"[{"dst":"192.0.2.0/24","gw":"10.20.0.254"},{"dst":"2001:db8::/32","gw":"fd00::1"}]"#).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].dst.to_string(), found[1].gw.to_string()),
        ("192.0.2.0/24".to_owned(), "fd00::1".to_owned())
    );
    for text in [
        r#"[{"dst":"192.0.2.0/24","gw":"fd00::1"}]"#,
        r#"[{"dst":"192.0.2.0","gw":"10.0.0.1"}]"#,
        r#"[{"dst":"192.0.2.0/24"}]"#,
    ] {
        assert!(
            matches!(refused(ANNOTATION_ROUTES, text, parse(text)), Problem::Address { .. }),
            "{text}"
        );
    }
    assert!(routes(&Annotations::new()).unwrap().is_empty());
    assert!(parse("[]").unwrap().is_empty());
}

#[test]
fn long_values_are_cut_in_messages() {
    let error = ip_number(&one(ANNOTATION_IP_NUMBER, &"ä".repeat(5000))).unwrap_err();
    assert!(error.to_string().len() < 1000);
}

#[test]
fn exact_addresses_are_one_of_each_family_for_an_interface() {
    let parse = |text: &str| exact_addresses(&one(ANNOTATION_IP, text));
    let found = parse(r#"{"eth0":["fd77::0033","10.77.1.33"],"net1":["10.78.0.1"]}"#).unwrap();
    let told: Vec<String> = found
        .iter()
        .map(|(nic, addresses)| format!("{nic} {:?}", addresses.values().collect::<Vec<_>>()))
        .collect();
    assert_eq!(told, ["eth0 [10.77.1.33, fd77::33]", "net1 [10.78.0.1]"]);
    assert!(exact_addresses(&Annotations::new()).unwrap().is_empty());

    for (text, message) in [
        ("eth0", "the value is not JSON: expected value at line 1 column 1"),
        (r#"["10.77.1.33"]"#, "the value must be an object"),
        (
            r#"{"eth0":"10.77.1.33"}"#,
            "\"eth0\" of the value must be a list of addresses",
        ),
        (r#"{"eth0":[10]}"#, "\"eth0\" of the value must be a list of addresses"),
        ("{}", "the list has no items"),
        (r#"{"eth0":[]}"#, "the list has no items"),
        (
            r#"{"eth0":["10.77.1.33","10.77.1.34"]}"#,
            "names more than one IPv4 address",
        ),
        (r#"{"eth0":["10.77.1.33/20"]}"#, "is not an IP address"),
        (
            r#"{"eth0":["::ffff:10.77.1.33"]}"#,
            "is an IPv4 address in IPv6 notation",
        ),
    ] {
        let problem = refused(ANNOTATION_IP, text, parse(text)).to_string();
        assert!(problem.contains(message), "{text}: {problem}");
    }
}

#[test]
fn default_pools_of_a_namespace() {
    let both = |ipv4: &str, ipv6: &str| {
        let mut all = one(ANNOTATION_DEFAULT_IPV4_IPPOOL, ipv4);
        all.insert(ANNOTATION_DEFAULT_IPV6_IPPOOL.to_owned(), ipv6.to_owned());
        namespace_pools(&all)
    };
    let found = both(r#"["a","b-*","a"]"#, r#"["c"]"#).unwrap().unwrap();
    assert_eq!(
        (found.ipv4, found.ipv6),
        (vec!["a".to_owned(), "b-*".to_owned()], vec!["c".to_owned()])
    );
    let found = both("", r#"["c"]"#).unwrap().unwrap();
    assert_eq!((found.ipv4.len(), found.ipv6.len()), (0, 1));
    for (ipv4, ipv6) in [("", " "), ("[]", "null")] {
        assert_eq!(both(ipv4, ipv6).unwrap(), None);
    }
    assert_eq!(namespace_pools(&Annotations::new()).unwrap(), None);
    for (text, message) in [
        ("a", "is not JSON"),
        (r#""a""#, "the value must be a list of names"),
        (r#"{"ipv4":["a"]}"#, "the value must be a list of names"),
        (r#"["a",""]"#, "the value contains an empty name"),
    ] {
        let key = ANNOTATION_DEFAULT_IPV6_IPPOOL;
        let problem = refused(key, text, namespace_pools(&one(key, text))).to_string();
        assert!(problem.contains(message), "{text}: {problem}");
    }
}

fn parse_all(annotations: &Annotations) {
    networks(annotations);
    let errors = [
        exact_addresses(annotations).err(),
        namespace_pools(annotations).err(),
        subnet_request(annotations).err(),
        ip_number(annotations).err(),
        reclaim(annotations).err(),
        ippool(annotations).err(),
        ippools(annotations).err(),
        routes(annotations).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(!error.to_string().is_empty());
    }
}

fn json_like() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[0-9]{1,4}",
        "\"[a-z0-9.:/+*-]{0,9}\""
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let key = prop_oneof![
            Just("ipv4"),
            Just("IPv6"),
            Just("interface"),
            Just("dst"),
            Just("gw"),
            Just("cleangateway"),
            Just("x")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((key, inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members
                    .iter()
                    .map(|(key, value)| format!("\"{key}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics(text in prop_oneof![".{0,40}", json_like()]) {
        for key in [
            ANNOTATION_SUBNETS,
            ANNOTATION_SUBNET,
            ANNOTATION_IP_NUMBER,
            ANNOTATION_RECLAIM,
            ANNOTATION_IPPOOL,
            ANNOTATION_IPPOOLS,
            ANNOTATION_ROUTES,
            ANNOTATION_IP,
            ANNOTATION_DEFAULT_IPV4_IPPOOL,
            ANNOTATION_MULTUS_NETWORKS,
            ANNOTATION_MULTUS_DEFAULT_NETWORK,
        ] {
            parse_all(&one(key, &text));
        }
    }

    #[test]
    fn a_request_names_each_interface_once_and_something_on_each(text in json_like()) {
        if let Ok(Some(request)) = subnet_request(&one(ANNOTATION_SUBNETS, &text)) {
            let mut interfaces: Vec<&str> = request.items.iter().map(|item| item.interface.as_str()).collect();
            interfaces.sort_unstable();
            interfaces.dedup();
            prop_assert_eq!(interfaces.len(), request.items.len());
            prop_assert!(request.items.iter().all(|item| !item.ipv4.is_empty() || !item.ipv6.is_empty()));
        }
    }
}
