//! What the API server itself refuses, so that no object is unsound while no webhook runs.

use anyhow::{Result, bail, ensure};
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use serde_json::{Map, Value, json};
use spiderpool_crds::{
    IPPoolSpec, MAX_MULTUS_NAMES, MAX_NAMES, MAX_RANGES, MAX_ROUTES, MAX_SELECTOR_TERMS, MAX_SELECTOR_VALUES,
    SpiderIPPool, SpiderReservedIP, SpiderSubnet,
};
use spiderpool_e2e::DRY_RUN;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::scene::{Scene, scene};

/// What is expected of the API server: to take an object, or to refuse it with these words.
#[derive(Clone, Copy, Debug)]
enum Expect {
    Taken,
    Refused(&'static str),
}

use Expect::{Refused, Taken};

fn judge(what: &str, expected: Expect, outcome: Result<(), kube::Error>) -> Result<()> {
    match (expected, outcome) {
        (Taken, Ok(())) => Ok(()),
        (Refused(words), Err(kube::Error::Api(status))) => {
            ensure!(
                status.reason == "Invalid" && status.message.contains(words),
                "{what}: refused ({}) with {:?} which does not say {words:?}",
                status.reason,
                status.message
            );
            Ok(())
        }
        (Refused(words), Ok(())) => bail!("{what}: taken, but it should be refused with {words:?}"),
        (_, Err(error)) => bail!("{what}: {error}"),
    }
}

/// Whether the API server would take a new object.
async fn create(cluster: &Cluster, kind: &ApiResource, spec: &Value, expected: Expect) -> Result<()> {
    let api: Api<DynamicObject> = Api::all_with(cluster.unjudged()?, kind);
    let mut object = DynamicObject::new("e2e-dry-run", kind);
    object.data = json!({"spec": spec});
    let outcome = api.create(&DRY_RUN, &object).await.map(drop);
    judge(&format!("{} with {spec}", kind.kind), expected, outcome)
}

async fn create_each(kind: ApiResource, cases: &[(Value, Expect)]) -> Result<()> {
    let cluster = Cluster::open().await?;
    for (spec, expected) in cases {
        create(&cluster, &kind, spec, *expected).await?;
    }
    Ok(())
}

/// What subnets and pools have in common.
fn network_cases() -> Vec<(Value, Expect)> {
    let v4 = |more: Value| merged(json!({"subnet": "10.81.0.0/16"}), more);
    let v6 = |more: Value| merged(json!({"subnet": "fd81::/64"}), more);
    vec![
        (v4(json!({})), Taken),
        (
            v6(json!({"ipVersion": 6, "ips": ["fd81::1", "fd81::10-fd81::20"], "gateway": "fd81::ff"})),
            Taken,
        ),
        (
            v4(json!({"ipVersion": 4, "ips": ["10.81.0.1-10.81.0.9"], "excludeIPs": ["10.81.0.5"]})),
            Taken,
        ),
        (
            v4(json!({"routes": [{"dst": "192.168.0.0/24", "gw": "10.81.0.1"}]})),
            Taken,
        ),
        (json!({}), Refused("spec.subnet")),
        (json!({"subnet": "ten"}), Refused("is not a subnet in CIDR notation")),
        (
            json!({"subnet": "10.81.0.0"}),
            Refused("is not a subnet in CIDR notation"),
        ),
        (json!({"subnet": "10.81.0.1/16"}), Refused("canonical")),
        (json!({"subnet": "FD81::/64"}), Refused("canonical")),
        (json!({"subnet": "fd81:0::/64"}), Refused("canonical")),
        (v4(json!({"ipVersion": 5})), Refused("ipVersion")),
        (v4(json!({"ipVersion": 6})), Refused("leave ipVersion out")),
        (
            v4(json!({"ips": ["10.81.0.1 - 10.81.0.9"]})),
            Refused("is not an IP range"),
        ),
        (v4(json!({"ips": ["10.81.0.0/24"]})), Refused("is not an IP range")),
        (v4(json!({"ips": [""]})), Refused("is not an IP range")),
        (v4(json!({"ips": ["10.82.0.1"]})), Refused("is not inside spec.subnet")),
        (
            v4(json!({"ips": ["10.81.255.250-10.82.0.1"]})),
            Refused("is not inside spec.subnet"),
        ),
        (
            v4(json!({"ips": ["10.81.0.9-10.81.0.10", "10.81.1.0-10.81.0.255"]})),
            Refused("ips[1]: range \"10.81.1.0-10.81.0.255\" is reversed; write 10.81.0.255-10.81.1.0"),
        ),
        (v4(json!({"ips": ["::ffff:10.81.0.1"]})), Refused("is not an IP range")),
        (v4(json!({"gateway": ""})), Refused("is not an IP address")),
        (
            v4(json!({"routes": [{"dst": "1.2.3.4/0", "gw": "10.81.0.1"}]})),
            Refused("default route"),
        ),
        (v4(json!({"ips": ["fd81::1"]})), Refused("is not inside spec.subnet")),
        (v4(json!({"excludeIPs": ["x"]})), Refused("is not an IP range")),
        (v4(json!({"gateway": "10.81.0"})), Refused("is not an IP address")),
        (
            v4(json!({"gateway": "10.82.0.1"})),
            Refused("is not inside spec.subnet"),
        ),
        (
            v4(json!({"routes": [{"dst": "0.0.0.0/0", "gw": "10.81.0.1"}]})),
            Refused("default route"),
        ),
        (
            v4(json!({"routes": [{"dst": "192.168.0.0/24", "gw": "10.82.0.1"}]})),
            Refused("is not inside spec.subnet"),
        ),
        (
            v4(json!({"routes": [{"dst": "fd00::/64", "gw": "10.81.0.1"}]})),
            Refused("is not IPv4, as the subnet is"),
        ),
        (
            v4(
                json!({"routes": [{"dst": "192.168.0.0/24", "gw": "10.81.0.1"}, {"dst": "192.168.0.0/24", "gw": "10.81.0.2"}]}),
            ),
            Refused("another route goes to 192.168.0.0/24"),
        ),
    ]
}

fn merged(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

#[tokio::test]
async fn unsound_subnets_are_refused_with_what_to_write() -> Result<()> {
    create_each(ApiResource::erase::<SpiderSubnet>(&()), &network_cases()).await
}

#[tokio::test]
async fn unsound_pools_are_refused_with_what_to_write() -> Result<()> {
    let mut cases = network_cases();
    let pool = |more: Value| merged(json!({"subnet": "10.81.0.0/16"}), more);
    let term = |operator: &str, values: Value| {
        pool(json!({"podAffinity": {"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}}))
    };
    cases.extend([
        (
            pool(json!({"podAffinity": {"matchLabels": {"app": "shop"}}, "nodeName": ["n1"], "default": true})),
            Taken,
        ),
        (pool(json!({"podAffinity": {}})), Refused("empty podAffinity")),
        (term("In", json!(["x"])), Taken),
        (term("In", json!([])), Refused("In or NotIn with values")),
        (
            term("Exists", json!(["x"])),
            Refused("Exists or DoesNotExist without values"),
        ),
        (term("Like", json!(["x"])), Refused("operator")),
    ]);
    create_each(ApiResource::erase::<SpiderIPPool>(&()), &cases).await
}

#[tokio::test]
async fn unsound_reserved_addresses_are_refused_with_what_to_write() -> Result<()> {
    create_each(
        ApiResource::erase::<SpiderReservedIP>(&()),
        &[
            (json!({"ips": ["10.81.0.1", "10.82.0.1-10.82.0.9"]}), Taken),
            (json!({"ipVersion": 6}), Taken),
            (json!({}), Refused("IP version is unknown")),
            (json!({"ips": ["10.81.0.1", "fd81::1"]}), Refused("one IP version")),
            (json!({"ipVersion": 6, "ips": ["10.81.0.1"]}), Refused("one IP version")),
            (json!({"ips": ["10.81.0.0/24"]}), Refused("is not an IP range")),
        ],
    )
    .await
}

#[tokio::test]
async fn lists_may_be_as_long_as_documented_and_no_longer() -> Result<()> {
    let four = |count: usize| -> Vec<String> {
        let range = |n: usize| format!("100.100.{0}.{1}-100.100.{0}.{1}", 100 + n / 100, 100 + n % 100);
        (0..count).map(range).collect()
    };
    let six = |count: usize| -> Vec<String> {
        let address = |n: usize| format!("fd81:1111:2222:3333:4444:5555:6666:{:04x}", 0x1000 + n);
        (0..count).map(|n| format!("{0}-{0}", address(n))).collect()
    };
    let routes = |count: usize| -> Vec<Value> {
        let gw = "fd81:1111:2222:3333:4444:5555:6666:7777";
        let route =
            |n: usize| json!({"dst": format!("fd99:1111:2222:3333:4444:5555:{:04x}:0/112", 0x1000 + n), "gw": gw});
        (0..count).map(route).collect()
    };
    // Names as long as they can be.
    let names = |count: usize, length: usize| -> Vec<String> { (0..count).map(|n| format!("{n:0>length$}")).collect() };
    let attachment = |name: String| format!("{}/{name}", "n".repeat(63));
    let attachments = |count| -> Vec<String> { names(count, 253).into_iter().map(attachment).collect() };
    let selector = |terms: usize, values: usize| {
        let labels: Map<String, Value> = names(terms, 63)
            .into_iter()
            .map(|key| (key, json!("v".repeat(63))))
            .collect();
        let term = |key| json!({"key": key, "operator": "In", "values": names(values, 63)});
        let terms: Vec<Value> = names(terms, 63).into_iter().map(term).collect();
        json!({"matchLabels": labels, "matchExpressions": terms})
    };
    let v4 = |more: Value| merged(json!({"subnet": "100.100.0.0/16"}), more);
    let v6 = |more: Value| merged(json!({"subnet": "fd81:1111::/32"}), more);
    let (terms, values) = (MAX_SELECTOR_TERMS, MAX_SELECTOR_VALUES);
    create_each(
        ApiResource::erase::<SpiderIPPool>(&()),
        &[
            (
                v4(json!({"ips": four(MAX_RANGES), "excludeIPs": four(MAX_RANGES)})),
                Taken,
            ),
            (
                v6(json!({"ips": six(MAX_RANGES), "excludeIPs": six(MAX_RANGES), "routes": routes(MAX_ROUTES)})),
                Taken,
            ),
            (
                v4(json!({"nodeName": names(MAX_NAMES, 253), "namespaceName": names(MAX_NAMES, 63)})),
                Taken,
            ),
            (v4(json!({"multusName": attachments(MAX_MULTUS_NAMES)})), Taken),
            (
                v4(json!({"podAffinity": selector(terms, values), "nodeAffinity": selector(terms, values)})),
                Taken,
            ),
            (v4(json!({"ips": four(MAX_RANGES + 1)})), Refused("2048")),
            (v6(json!({"routes": routes(MAX_ROUTES + 1)})), Refused("128")),
            (v4(json!({"nodeName": names(MAX_NAMES + 1, 9)})), Refused("2048")),
            (
                v4(json!({"multusName": names(MAX_MULTUS_NAMES + 1, 9)})),
                Refused("512"),
            ),
            (v4(json!({"podAffinity": selector(terms + 1, 1)})), Refused("32")),
            (v4(json!({"podAffinity": selector(1, values + 1)})), Refused("256")),
        ],
    )
    .await
}

/// Whether the API server would take a change of an object that is there.
async fn change<K>(api: &Api<K>, name: &str, spec: Value, expected: Expect) -> Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let params = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let patch = json!({"spec": spec});
    let outcome = api.patch(name, &params, &Patch::Merge(&patch)).await.map(drop);
    judge(
        &format!("{} {name} changed by {patch}", K::kind(&())),
        expected,
        outcome,
    )
}

#[tokio::test]
async fn what_identifies_a_subnet_cannot_be_changed() -> Result<()> {
    scene("what_identifies_a_subnet", async |scene: &Scene| {
        let subnets = scene.subnets();
        let other = "10.79.0.0/24";
        change(
            &subnets,
            &scene.v4,
            json!({"subnet": other}),
            Refused("the subnet cannot be changed"),
        )
        .await?;
        change(&subnets, &scene.v4, json!({"ipVersion": 4}), Taken).await?;
        change(&subnets, &scene.v4, json!({"ipVersion": 6}), Refused("ipVersion")).await?;
        change(
            &subnets,
            &scene.v4,
            json!({"gateway": null, "ips": [scene.ip(4, "7")]}),
            Taken,
        )
        .await?;
        change(
            &subnets,
            &scene.v4,
            json!({"ips": ["10.79.0.1"]}),
            Refused("is not inside spec.subnet"),
        )
        .await
    })
    .await
}

#[tokio::test]
async fn ip_version_is_set_once() -> Result<()> {
    scene("ip_version_is_set_once", async |scene: &Scene| {
        let spec = IPPoolSpec {
            ip_version: Some(4),
            ..IPPoolSpec::default()
        };
        let pool = scene.create_pool("set-once", 4, spec).await?;
        let name = pool.metadata.name.unwrap_or_default();
        // The webhook would fill it in again.
        change(
            &scene.unjudged::<SpiderIPPool>()?,
            &name,
            json!({"ipVersion": null}),
            Refused("cannot be changed or removed"),
        )
        .await?;
        change(
            &scene.pools(),
            &name,
            json!({"ipVersion": 6}),
            Refused("cannot be changed or removed"),
        )
        .await?;
        change(
            &scene.pools(),
            &name,
            json!({"subnet": scene.network(6)}),
            Refused("cannot be changed"),
        )
        .await?;
        change(&scene.pools(), &name, json!({"disable": true}), Taken).await
    })
    .await
}
