//! The rules in the CRDs and those of the webhook are written twice, in CEL and in Rust. Random objects, most of them nearly right,
//! are judged alike by both, and so are random changes of objects that are there.
//!
//! `SPIDERPOOL_SOAK` is how many times 500 objects are tried, 4 without it, and `SPIDERPOOL_SEED` the number of the first.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use spiderpool_crds::admission::{Outcome, Rule, Settings, Stage, pool_alone, reserved_alone, subnet_alone};
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_e2e::DRY_RUN;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::scene::{Scene, scene};
use spiderpool_e2e::soak::number;
use spiderpool_e2e::wait::{self, SOON};

const AT_A_TIME: usize = 8;
const SETTINGS: Settings = Settings {
    ipv4: true,
    ipv6: true,
    subnets: true,
    protect_used: false,
};

/// A sequence of numbers that looks random and is the same in each run (splitmix64).
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    const fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.next() % of.len() as u64).unwrap_or_default();
        of.get(index).copied().unwrap_or_default()
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.next() % (most + 1)).map(|_| make(self)).collect()
    }
}

fn address(random: &mut Random, v6: bool) -> String {
    if random.once_in(12) {
        let odd = [
            "",
            "x",
            "10.81.0",
            "010.81.0.1",
            "10.81.0.256",
            "::ffff:10.81.0.1",
            "fe80::1%eth0",
            "10.81.0.1 ",
        ];
        return random.one(&odd).to_owned();
    }
    let v6 = v6 != random.once_in(20);
    let number = random.next();
    match (v6, random.once_in(20)) {
        (false, false) => format!("10.81.{}.{}", number % 3, number / 3 % 256),
        (false, true) => format!("10.{}.0.1", number % 256),
        (true, false) => format!("fd81::{:x}", number % 0x1_0000),
        (true, true) => format!("FD81:{:x}::0:1", number % 2),
    }
}

fn range(random: &mut Random, v6: bool) -> String {
    match random.next() % 12 {
        0..5 => address(random, v6),
        5..11 => format!("{}-{}", address(random, v6), address(random, v6)),
        _ => random
            .one(&[
                "10.81.0.0/24",
                "-",
                "10.81.0.1-",
                "a-b-c",
                "*",
                "10.81.0.1-10.81.0.2-10.81.0.3",
            ])
            .to_owned(),
    }
}

fn route(random: &mut Random, v6: bool) -> Value {
    let v4 = [
        "192.0.2.0/24",
        "192.0.2.7/24",
        "0.0.0.0/0",
        "1.2.3.4/0",
        "10.0.0.0/33",
        "192.0.2.0",
        "198.51.100.0/24",
    ];
    let six = ["fd82::/64", "::/0", "fd82::1/64", "fd83::/129", "::1/0"];
    let dst = if v6 != random.once_in(10) {
        random.one(&six)
    } else {
        random.one(&v4)
    };
    json!({"dst": dst, "gw": address(random, v6)})
}

fn word(random: &mut Random) -> &'static str {
    let words = [
        "shop",
        "a",
        "Shop",
        "team-a",
        "-a",
        "a.b",
        "a..b",
        "kube-system/vlan6",
        "a/b/c",
        "",
        "a b",
        "x_1",
        "/a",
        "a/",
        "n1.example.com",
    ];
    random.one(&words)
}

fn selector(random: &mut Random) -> Value {
    let labels: Map<String, Value> = random
        .some(2, |random| {
            let key = if random.once_in(4) {
                "ipam.spidernet.io/app-name"
            } else {
                word(random)
            };
            (key.to_owned(), json!(word(random)))
        })
        .into_iter()
        .collect();
    let terms = random.some(2, |random| {
        let operator = random.one(&["In", "NotIn", "Exists", "DoesNotExist", "Is"]);
        let mut term = json!({"key": word(random), "operator": operator});
        if random.once_in(2) || operator.ends_with("In") {
            term["values"] = json!(random.some(2, word));
        }
        term
    });
    match random.next() % 4 {
        0 => json!({}),
        1 => json!({"matchLabels": labels}),
        2 => json!({"matchExpressions": terms}),
        _ => json!({"matchLabels": labels, "matchExpressions": terms}),
    }
}

fn spec(random: &mut Random, kind: &str) -> Value {
    let v6 = random.once_in(2);
    let mut spec = Map::new();
    let mut maybe = |random: &mut Random, times: u64, field: &str, make: &mut dyn FnMut(&mut Random) -> Value| {
        if random.once_in(times) {
            spec.insert(field.to_owned(), make(random));
        }
    };
    maybe(random, 3, "ipVersion", &mut |random| {
        json!(if v6 != random.once_in(8) { 6 } else { 4 })
    });
    maybe(random, 1, "ips", &mut |random| {
        json!(random.some(3, |random| range(random, v6)))
    });
    if kind == "SpiderReservedIP" {
        return Value::Object(spec);
    }
    maybe(random, 1, "subnet", &mut |random| {
        let odd = [
            "10.81.0.1/16",
            "FD81::/64",
            "fd81:0::/64",
            "10.81.0.0",
            "10.81.0.0/016",
            "::ffff:10.0.0.0/104",
            "",
        ];
        let sound = if v6 { "fd81::/64" } else { "10.81.0.0/16" };
        json!(if random.once_in(10) { random.one(&odd) } else { sound })
    });
    maybe(random, 3, "excludeIPs", &mut |random| {
        json!(random.some(2, |random| range(random, v6)))
    });
    maybe(random, 3, "gateway", &mut |random| json!(address(random, v6)));
    maybe(random, 3, "routes", &mut |random| {
        json!(random.some(3, |random| route(random, v6)))
    });
    if kind == "SpiderIPPool" {
        for field in ["podAffinity", "namespaceAffinity", "nodeAffinity"] {
            maybe(random, 8, field, &mut selector);
        }
        for field in ["namespaceName", "nodeName", "multusName"] {
            maybe(random, 8, field, &mut |random| json!(random.some(2, word)));
        }
    }
    Value::Object(spec)
}

/// What was refused: fields of the spec, and the rules as far as they are known.
type Refused = (BTreeSet<String>, BTreeSet<Rule>);

/// What the rules in the CRD refuse, as Rust judges it.
fn refused_in_rust(object: &Value, old: Option<&Value>) -> Result<Refused> {
    let outcome: Outcome = match object["kind"].as_str() {
        Some("SpiderSubnet") => {
            let old: Option<SpiderSubnet> = old.map(read).transpose()?;
            subnet_alone(&read(object)?, old.as_ref(), SETTINGS)
        }
        Some("SpiderIPPool") => {
            let old: Option<SpiderIPPool> = old.map(read).transpose()?;
            pool_alone(&read(object)?, old.as_ref(), SETTINGS)
        }
        _ => {
            let old: Option<SpiderReservedIP> = old.map(read).transpose()?;
            reserved_alone(&read(object)?, old.as_ref(), SETTINGS)
        }
    };
    let of_crd = outcome.errors.iter().filter(|error| error.rule.stage() == Stage::Crd);
    Ok(of_crd.map(|error| (field(&error.field), error.rule)).unzip())
}

fn read<K: DeserializeOwned>(object: &Value) -> Result<K> {
    Ok(serde_json::from_value(object.clone())?)
}

/// `spec.ips` of `spec.ips[2]`.
fn field(path: &str) -> String {
    path.split(['.', '[']).take(2).collect::<Vec<_>>().join(".")
}

/// The fields that the API server refuses.
fn refused_by_the_api_server(answer: Result<DynamicObject, kube::Error>) -> Result<BTreeSet<String>> {
    let status = match answer {
        Ok(_) => return Ok(BTreeSet::new()),
        Err(kube::Error::Api(status)) if status.code == 422 => status,
        Err(error) => bail!("{error}"),
    };
    let details = status.details.context("a refusal without details")?;
    Ok(details.causes.iter().map(|cause| field(&cause.field)).collect())
}

fn same(object: &Value, server: &BTreeSet<String>, rust: &BTreeSet<String>) -> Result<()> {
    ensure!(
        server == rust,
        "the API server refuses {server:?}, Rust refuses {rust:?}: {object}"
    );
    Ok(())
}

/// Where objects are tried. What the webhook would fill in or refuse is not the question.
struct Trial {
    client: Client,
    kinds: [ApiResource; 3],
}

impl Trial {
    async fn new() -> Result<Self> {
        Ok(Self {
            client: Cluster::open().await?.unjudged()?,
            kinds: [
                ApiResource::erase::<SpiderIPPool>(&()),
                ApiResource::erase::<SpiderSubnet>(&()),
                ApiResource::erase::<SpiderReservedIP>(&()),
            ],
        })
    }

    /// Pools have most rules.
    const fn kind(&self, random: &mut Random) -> &ApiResource {
        let [pool, subnet, reserved] = &self.kinds;
        match random.next() % 6 {
            0..3 => pool,
            3..5 => subnet,
            _ => reserved,
        }
    }

    fn api(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), kind)
    }

    /// The rules that a random object breaks.
    async fn new_object(&self, number: u64) -> Result<BTreeSet<Rule>> {
        let mut random = Random(number);
        let kind = self.kind(&mut random);
        let object = json!({"apiVersion": kind.api_version, "kind": kind.kind,
            "metadata": {"name": format!("e2e-random-{number}")}, "spec": spec(&mut random, &kind.kind)});
        let answer = self.api(kind).create(&DRY_RUN, &read(&object)?).await;
        let server = refused_by_the_api_server(answer).with_context(|| object.to_string())?;
        let (rust, rules) = refused_in_rust(&object, None)?;
        same(&object, &server, &rust)?;
        Ok(rules)
    }

    /// The rules that a random change of an object breaks.
    async fn change(&self, number: u64, stored: &[Value]) -> Result<BTreeSet<Rule>> {
        let mut random = Random(number);
        let at = usize::try_from(random.next() % stored.len() as u64).unwrap_or_default();
        let old = stored.get(at).context("nothing is stored")?;
        let kind = self
            .kinds
            .iter()
            .find(|kind| old["kind"] == kind.kind)
            .context("an odd kind")?;
        let mut new = old.clone();
        let spec = spec(&mut random, &kind.kind);
        // All of it, or some fields.
        match random.once_in(2) {
            true => new["spec"] = spec,
            false => {
                for (field, value) in spec.as_object().into_iter().flatten().filter(|_| random.once_in(2)) {
                    new["spec"][field] = value.clone();
                }
            }
        }
        let patch = serde_json::from_value(json!([{"op": "replace", "path": "/spec", "value": new["spec"]}]))?;
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let name = old["metadata"]["name"].as_str().unwrap_or_default();
        let answer = self.api(kind).patch(name, &dry, &Patch::<Value>::Json(patch)).await;
        let server = refused_by_the_api_server(answer).with_context(|| new.to_string())?;
        let (rust, rules) = refused_in_rust(&new, Some(old))?;
        same(&json!({"from": old["spec"], "to": new["spec"]}), &server, &rust)?;
        Ok(rules)
    }
}

/// Numbers of objects to be tried.
fn numbers() -> Result<std::ops::Range<u64>> {
    let first = number("SPIDERPOOL_SEED")?.unwrap_or_default();
    Ok(first..first + 500 * number("SPIDERPOOL_SOAK")?.unwrap_or(4))
}

#[tokio::test]
async fn random_objects_are_judged_alike_in_cel_and_in_rust() -> Result<()> {
    let trial = Trial::new().await?;
    let verdicts: Vec<BTreeSet<Rule>> = stream::iter(numbers()?)
        .map(|number| trial.new_object(number))
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await?;
    let taken = verdicts.iter().filter(|broken| broken.is_empty()).count();
    ensure!(taken > verdicts.len() / 20, "only {taken} objects are sound");
    // What cannot be changed is broken by no new object.
    let changes = [Rule::SubnetStays, Rule::VersionStays];
    let broken: BTreeSet<Rule> = verdicts.into_iter().flatten().chain(changes).collect();
    let unbroken: Vec<&Rule> = Rule::ALL
        .iter()
        .filter(|rule| rule.stage() == Stage::Crd && !broken.contains(rule))
        .collect();
    ensure!(unbroken.is_empty(), "no object breaks {unbroken:?}");
    Ok(())
}

/// Objects to be changed, in networks of the scene. The operator fills in more of them, which nobody here changes.
async fn stored(scene: &Scene) -> Result<Vec<Value>> {
    let mut stored = Vec::new();
    for version in [4, 6] {
        let name = format!("random{version}");
        let spec = scene.range(version, "10", "19");
        let pool = scene.create_pool(&name, version, spec).await?.name_any();
        let complete = |version: Option<i64>| version.is_some().then_some(());
        wait::object(&scene.pools(), &pool, "its IP version", SOON, |pool| {
            complete(pool?.spec.ip_version)
        })
        .await?;
        stored.push(serde_json::to_value(scene.pools().get(&pool).await?)?);
        let subnet = if version == 4 { &scene.v4 } else { &scene.v6 };
        wait::object(&scene.subnets(), subnet, "its IP version", SOON, |subnet| {
            complete(subnet?.spec.ip_version)
        })
        .await?;
        stored.push(serde_json::to_value(scene.subnets().get(subnet).await?)?);
        scene.reserve(&name, vec![scene.ip(version, "77")]).await?;
        stored.push(serde_json::to_value(
            scene.reservations().get(&scene.own(&name)).await?,
        )?);
    }
    Ok(stored)
}

#[tokio::test]
async fn random_changes_are_judged_alike_in_cel_and_in_rust() -> Result<()> {
    scene("random_changes", async |scene: &Scene| {
        let (trial, stored) = (&Trial::new().await?, &stored(scene).await?);
        let verdicts: Vec<BTreeSet<Rule>> = stream::iter(numbers()?)
            .map(|number| trial.change(number, stored))
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await?;
        let taken = verdicts.iter().filter(|broken| broken.is_empty()).count();
        ensure!(taken > verdicts.len() / 50, "only {taken} changes are sound");
        let broken: BTreeSet<Rule> = verdicts.into_iter().flatten().collect();
        for rule in [Rule::SubnetStays, Rule::VersionStays, Rule::RangeInside] {
            ensure!(broken.contains(&rule), "no change breaks {rule:?}");
        }
        Ok(())
    })
    .await
}
