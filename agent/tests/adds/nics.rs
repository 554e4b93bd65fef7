//! Several NICs of one pod.

use super::agent::{Agent, ENDPOINT, POD, args, full, pool, records};
use super::api::POOLS;
use serde_json::json;
use spiderpool_agent::cancel::Cancel;
use spiderpool_agent::del::Released;
use spiderpool_agent::{add, tell};
use spiderpool_crds::names;

#[tokio::test]
async fn unnamed_items_go_with_the_nics_in_order_and_two_nics_of_one_pool_get_two_addresses() {
    let pools = [pool("a", "10.77.1.1-10.77.1.9", &json!({"gateway": "10.77.0.1"}))];
    let items = r#"[{"ipv4":["a"]},{"ipv4":["a"],"cleangateway":true}]"#;
    let agent = Agent::start(
        &pools,
        &json!({names::ANNOTATION_IPPOOLS: items, names::ANNOTATION_MULTUS_NETWORKS: "lan@store"}),
    );
    for nic in ["eth0", "store"] {
        assert_eq!(
            agent.add(nic, &[]).await.unwrap(),
            ["eth0 10.77.1.1/20", "store 10.77.1.2/20"]
        );
    }
    let error = agent.add("net2", &[]).await.unwrap_err();
    assert!(error.contains("in which net2 is number 3; add an item"), "{error}");
}

#[tokio::test]
async fn all_nics_are_claimed_for_at_the_first_add_and_later_ones_find_it_done() {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.9", &json!({})),
        pool("b", "10.77.2.1-10.77.2.9", &json!({})),
        pool("b6", "fd77::1-fd77::9", &json!({})),
    ];
    let items = r#"[{"interface":"net1","ipv4":["b"],"ipv6":["b6"]},{"interface":"eth0","ipv4":["a"]}]"#;
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOLS: items}));
    let all = ["net1 10.77.2.1/20", "net1 fd77::1/64", "eth0 10.77.1.1/20"];
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), all);
    assert_eq!(agent.nics().unwrap(), ["net1 -", "eth0 c"]);
    agent.server.asked();
    assert_eq!(agent.add("net1", &[]).await.unwrap(), all);
    // What was on record before is given out only while the pod exists.
    assert_eq!(agent.server.asked(), [format!("GET {POD}"), format!("PUT {ENDPOINT}")]);
    assert_eq!(agent.nics().unwrap(), ["net1 c", "eth0 c"]);
    let item = &agent.server.get(ENDPOINT).unwrap()["status"]["current"]["ips"][0];
    assert_eq!(item["networkName"], json!("lan"));
    let error = agent.add("net2", &[]).await.unwrap_err();
    assert!(
        error.contains("has no item for interface net2; it names \"net1\", \"eth0\"; add an item"),
        "{error}"
    );
    assert_eq!(agent.nics().unwrap().len(), 2);
    assert_eq!(agent.records("a"), ["10.77.1.1 eth0"]);
}

#[tokio::test]
async fn while_a_further_nic_gets_nothing_no_address_is_used_up() {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.9", &json!({})),
        pool("a6", "fd77::1-fd77::9", &json!({})),
        full("b", "10.77.2.1"),
    ];
    let items = r#"[{"ipv4":["a"],"ipv6":["a6"]},{"ipv4":["b"]}]"#;
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_IPPOOLS: items}));
    for _ in 0..200 {
        let error = agent.add("eth0", &[]).await.unwrap_err();
        for part in [
            "no IPPool available for Pod retail/shop NIC net1 IPv4: only NIC net1 IPv4 is missing",
            "all IP addresses used out in IPPool b",
        ] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!((agent.records("a").len(), agent.records("a6").len()), (0, 0));
    }
    for name in ["a", "a6"] {
        let history = agent.server.history(&format!("{POOLS}/{name}"));
        assert!(history.len() > 200 && history.iter().all(|pool| records(pool).len() <= 1));
    }
    assert_eq!(agent.nics(), None);
}

#[tokio::test]
async fn where_a_pool_counts_as_full_it_is_looked_at_before_others_are_written() {
    let mut counted = full("b", "10.77.2.1");
    counted["status"]["allocatedIPCount"] = json!(1);
    counted["status"]["totalIPCount"] = json!(1);
    let pools = [
        pool("a", "10.77.1.1-10.77.1.9", &json!({})),
        pool("a6", "fd77::1-fd77::9", &json!({})),
        counted.clone(),
    ];
    let items = json!({names::ANNOTATION_IPPOOLS: r#"[{"ipv4":["a"],"ipv6":["a6"]},{"ipv4":["b"]}]"#});
    let agent = Agent::start(&pools, &items);
    let error = agent.add("eth0", &[]).await.unwrap_err();
    assert!(error.contains("only NIC net1 IPv4 is missing"), "{error}");
    assert_eq!(agent.server.asked(), [format!("GET {POOLS}/b")]);
    // What else is missing is told as well.
    let mut more = items.clone();
    more[names::ANNOTATION_IPPOOLS] = json!(r#"[{"ipv4":["a"]},{"ipv4":["b"]},{"ipv4":["none"]}]"#);
    let lacking = Agent::start(&pools, &more);
    let error = lacking.add("eth0", &[]).await.unwrap_err();
    for told in ["used out in IPPool b", "IPPool none does not exist"] {
        assert!(error.contains(told), "{error}");
    }
    assert_eq!(lacking.server.asked(), [format!("GET {POOLS}/b")]);
    // The counter is wrong, or somebody has given back an address of which this node does not know yet.
    let mut right = pool("b", "10.77.2.1", &json!({}));
    right["metadata"]["resourceVersion"] = json!("99");
    agent.server.replace_silently(&format!("{POOLS}/b"), right);
    let all = ["eth0 10.77.1.1/20", "eth0 fd77::1/64", "net1 10.77.2.1/20"];
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), all);
}

#[tokio::test]
async fn what_an_add_left_that_never_ended_is_given_back_by_the_next_one_that_fails() {
    let mut left = pool("a", "10.77.1.1-10.77.1.9", &json!({}));
    left["status"]["allocatedIPs"] =
        json!(json!({"10.77.1.5": {"pod": "retail/shop", "podUid": "u", "nic": "eth0"}}).to_string());
    let items = json!({names::ANNOTATION_IPPOOLS: r#"[{"ipv4":["a"]},{"ipv4":["b"]}]"#});
    let agent = Agent::start(&[left.clone(), full("b", "10.77.2.1")], &items);
    agent.add("eth0", &[]).await.unwrap_err();
    assert_eq!(agent.records("a"), Vec::<String>::new());
    // An ADD that succeeds takes it up.
    let agent = Agent::start(&[left, pool("b", "10.77.2.1", &json!({}))], &items);
    assert_eq!(agent.add("eth0", &[]).await.unwrap()[0], "eth0 10.77.1.5/20");
}

#[tokio::test]
async fn a_nic_that_fails_later_takes_nothing_from_those_that_are_set_up() {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.9", &json!({})),
        pool("b", "10.77.2.1", &json!({})),
    ];
    let items = json!({names::ANNOTATION_IPPOOLS: r#"[{"ipv4":["a"]},{"ipv4":["b"]}]"#});
    let agent = Agent::start(&pools, &items);
    agent.add("eth0", &[]).await.unwrap();
    // Somebody takes the record of the second NIC away, and the address.
    agent.server.put(&format!("{POOLS}/b"), full("b", "10.77.2.1"));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    let gone = |_: &_| {
        agent
            .context
            .pools
            .nics("u")
            .iter()
            .all(|nic| nic == "eth0")
            .then_some(())
    };
    agent.context.pools.cache().wait(deadline, gone).await.unwrap();
    let error = agent.add("net1", &[]).await.unwrap_err();
    assert!(error.contains("NIC net1 IPv4"), "{error}");
    assert_eq!(agent.records("a"), ["10.77.1.1 eth0"]);
}

#[tokio::test]
async fn a_sandbox_that_is_made_again_finds_the_addresses_of_all_nics() {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.9", &json!({})),
        pool("b", "10.77.2.1-10.77.2.9", &json!({})),
    ];
    let items = json!({names::ANNOTATION_IPPOOLS: r#"[{"ipv4":["a"]},{"ipv4":["b"]}]"#});
    let agent = Agent::start(&pools, &items);
    let add = async |nic: &str, container: &str| {
        let args = spiderpool_wire::IpamAddArgs {
            container_id: container.to_owned(),
            ..args(nic, &[])
        };
        let answer = Box::pin(add::add(&agent.context, &args, &Cancel::default()))
            .await
            .unwrap();
        let addresses: Vec<String> = answer.ips.into_iter().map(|ip| ip.address).collect();
        assert_eq!(addresses, ["10.77.1.1/20", "10.77.2.1/20"], "{nic} {container}");
    };
    add("eth0", "c1").await;
    add("net1", "c1").await;
    // The runtime tears down one NIC, and later the other, and sends a DEL twice.
    assert_eq!(agent.del("net1", "c1").await.unwrap(), Released::PodAlive);
    assert_eq!(agent.nics().unwrap(), ["eth0 c1", "net1 -"]);
    add("net1", "c1").await;
    for nic in ["eth0", "net1", "net1"] {
        assert_eq!(agent.del(nic, "c1").await.unwrap(), Released::PodAlive);
    }
    add("eth0", "c2").await;
    add("net1", "c2").await;
    assert_eq!(agent.nics().unwrap(), ["eth0 c2", "net1 c2"]);
    // The pod ends; what an older sandbox says about it frees nothing.
    agent.end_pod().await.unwrap();
    assert_eq!(agent.del("eth0", "c1").await.unwrap(), Released::OlderSandbox);
    assert_eq!(agent.del("net1", "c2").await.unwrap(), Released::Freed);
    assert_eq!((agent.records("a").len(), agent.records("b").len()), (1, 0));
    assert_eq!(agent.nics().unwrap(), ["eth0 c2"]);
    assert_eq!(agent.del("eth0", "c2").await.unwrap(), Released::Freed);
    assert_eq!((agent.records("a").len(), agent.nics()), (0, None));
}

#[tokio::test]
async fn families_of_a_nic_in_a_subnets_own_pools_are_claimed_together() {
    let owned = |name: &str, ips: &str, nic: &str, version: i64| {
        let labels = json!({
            names::LABEL_OWNER_APP_GV: "apps_v1", names::LABEL_OWNER_APP_KIND: "DaemonSet",
            names::LABEL_OWNER_APP_NAMESPACE: "retail", names::LABEL_OWNER_APP_NAME: "store",
            names::LABEL_OWNER_APP_UID: "s", names::LABEL_INTERFACE: nic,
            names::LABEL_IP_VERSION: format!("IPv{version}"), names::LABEL_OWNER_SUBNET: "lan",
        });
        let mut pool = pool(name, ips, &json!({"ipVersion": version}));
        pool["metadata"]["labels"] = labels;
        pool
    };
    let pools = [
        owned("auto4", "10.77.1.1-10.77.1.9", "net1", 4),
        owned("auto6", "fd77::1-fd77::9", "net1", 6),
        owned("eth4", "10.77.2.1-10.77.2.9", "eth0", 4),
    ];
    let items = r#"[{"interface":"eth0","ipv4":["lan"]},{"interface":"net1","ipv4":["lan"],"ipv6":["lan"]}]"#;
    let agent = Agent::start(&pools, &json!({names::ANNOTATION_SUBNETS: items}));
    // Each NIC's own ADD claims for it.
    assert_eq!(agent.add("eth0", &[]).await.unwrap(), ["eth0 10.77.2.1/20"]);
    assert_eq!(agent.records("auto4"), Vec::<String>::new());
    let both = agent.add("net1", &[]).await.unwrap();
    assert_eq!(both, ["eth0 10.77.2.1/20", "net1 10.77.1.1/20", "net1 fd77::1/64"]);
}

#[tokio::test]
async fn routes_go_with_the_first_nic_that_reaches_their_gateway_and_others_are_told() {
    let routes = |dst: &str, gw: &str| json!([{"dst": dst, "gw": gw}]);
    let pools = [
        pool(
            "a",
            "10.77.1.1-10.77.1.9",
            &json!({"gateway": "10.77.0.1", "routes": routes("198.51.100.0/24", "10.77.0.7")}),
        ),
        pool("b", "10.77.2.1-10.77.2.9", &json!({"gateway": "10.77.0.1"})),
        pool(
            "b6",
            "fd77::1-fd77::9",
            &json!({"gateway": "fd77::f", "routes": routes("2001:db8:1::/48", "fd77::7")}),
        ),
    ];
    let custom = r#"[{"dst":"192.0.2.0/24","gw":"10.77.0.254"},{"dst":"2001:db8::/32","gw":"fd77::8"},{"dst":"203.0.113.0/24","gw":"10.9.0.1"}]"#;
    for items in [
        r#"[{"ipv4":["a"],"cleangateway":true},{"ipv4":["b"],"ipv6":["b6"]}]"#,
        r#"[{"interface":"eth0","ipv4":["a"],"cleangateway":true},{"interface":"net1","ipv4":["b"],"ipv6":["b6"]}]"#,
    ] {
        let annotations = json!({names::ANNOTATION_IPPOOLS: items, names::ANNOTATION_ROUTES: custom,
            names::ANNOTATION_MULTUS_NETWORKS: "lan"});
        let agent = Agent::start(&pools, &annotations);
        for nic in ["eth0", "net1", "eth0"] {
            let answer = Box::pin(add::add(&agent.context, &args(nic, &[]), &Cancel::default()))
                .await
                .unwrap();
            let told: Vec<String> = answer
                .routes
                .iter()
                .map(|route| format!("{} {} {}", route.if_name, route.dst, route.gw))
                .collect();
            let expected = [
                "eth0 198.51.100.0/24 10.77.0.7",
                "eth0 192.0.2.0/24 10.77.0.254",
                "net1 0.0.0.0/0 10.77.0.1",
                "net1 ::/0 fd77::f",
                "net1 2001:db8:1::/48 fd77::7",
                "net1 2001:db8::/32 fd77::8",
            ];
            assert_eq!(told, expected, "{nic} {items}");
            let gateways: Vec<&str> = answer.ips.iter().map(|ip| ip.gateway.as_str()).collect();
            assert_eq!(gateways, ["10.77.0.1", "10.77.0.1", "fd77::f"]);
        }
        let note = "routes of annotation ipam.spidernet.io/routes are not set up: 203.0.113.0/24 via 10.9.0.1; none of the pod's \
                    addresses is in a subnet with that gateway: eth0 10.77.1.1/20, net1 10.77.2.1/20, net1 fd77::1/64";
        assert_eq!(
            agent.events().await.unwrap(),
            [(tell::UNREACHED.to_owned(), note.to_owned())]
        );
    }
}

#[tokio::test]
async fn routes_of_nics_that_are_claimed_for_one_by_one_are_set_up_once() {
    let pools = [
        pool("a", "10.77.1.1-10.77.1.9", &json!({})),
        pool("b", "10.77.2.1-10.77.2.9", &json!({})),
    ];
    let annotations = json!({
        names::ANNOTATION_ROUTES: r#"[{"dst":"192.0.2.0/24","gw":"10.77.0.254"},{"dst":"203.0.113.0/24","gw":"10.9.0.1"}]"#,
        names::ANNOTATION_MULTUS_NETWORKS: "lan",
    });
    let agent = Agent::start(&pools, &annotations);
    agent.add("eth0", &["a"]).await.unwrap();
    let args = args("net1", &["b"]);
    let answer = Box::pin(add::add(&agent.context, &args, &Cancel::default()))
        .await
        .unwrap();
    let told: Vec<&str> = answer.routes.iter().map(|route| route.if_name.as_str()).collect();
    assert_eq!(told, ["eth0"]);
    // Told when the last NIC is there, not while one may follow that reaches it.
    let events = agent.events().await.unwrap();
    assert_eq!(events.len(), 1);
    assert!(events[0].1.contains("net1 10.77.2.1/20"), "{events:?}");
}
