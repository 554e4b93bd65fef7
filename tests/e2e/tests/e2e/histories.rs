//! The check of histories finds what it is there for.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use spiderpool_crds::{IPPoolSpec, SpiderIPPool, SpiderSubnet};
use spiderpool_e2e::history::{Seen, replay};
use spiderpool_e2e::property::judge;
use spiderpool_e2e::scene::{Scene, scene};

fn pool(name: &str, ips: &str, records: &Value) -> Result<Seen> {
    let object = json!({
        "metadata": {"name": name, "labels": {
            "ipam.spidernet.io/owner-application-name": "shop",
            "ipam.spidernet.io/owner-spider-subnet": "net",
        }},
        "spec": {"subnet": "10.0.0.0/24", "ips": [ips]},
        "status": {"allocatedIPs": records.to_string()},
    });
    let pool: SpiderIPPool = serde_json::from_value(object)?;
    Ok(Seen::Pool(Box::new(pool)))
}

fn subnet(entries: &Value) -> Result<Seen> {
    let object = json!({
        "metadata": {"name": "net"},
        "spec": {"subnet": "10.0.0.0/24"},
        "status": {"controlledIPPools": entries.to_string()},
    });
    let subnet: SpiderSubnet = serde_json::from_value(object)?;
    Ok(Seen::Subnet(Box::new(subnet)))
}

fn record(pod: &str) -> Value {
    json!({"pod": format!("ns/{pod}"), "podUid": format!("uid-{pod}")})
}

fn wrongs(states: Vec<Result<Seen>>) -> Result<Vec<String>> {
    let states: Vec<Seen> = states.into_iter().collect::<Result<_>>()?;
    Ok(replay((1..).zip(states)))
}

#[test]
fn a_sound_life_is_not_reported() -> Result<()> {
    let none = json!({});
    let found = wrongs(vec![
        subnet(&none),
        subnet(&json!({"a": {"ips": ["10.0.0.1-10.0.0.2"]}})),
        pool("a", "10.0.0.1-10.0.0.2", &none),
        pool("a", "10.0.0.1-10.0.0.2", &json!({"10.0.0.1": record("x")})),
        pool("a", "10.0.0.1", &json!({"10.0.0.1": record("x")})),
        subnet(&json!({"a": {"ips": ["10.0.0.1"]}})),
        pool("a", "10.0.0.1", &none),
        Ok(Seen::NoPool("a".to_owned())),
        subnet(&none),
        Ok(Seen::NoSubnet("net".to_owned())),
    ])?;
    assert_eq!(found, Vec::<String>::new());
    Ok(())
}

#[test]
fn an_address_with_two_owners_is_found_however_short_it_was() -> Result<()> {
    let both = subnet(&json!({"a": {"ips": ["10.0.0.1"]}, "b": {"ips": ["10.0.0.2"]}}));
    let found = wrongs(vec![
        both,
        pool("a", "10.0.0.1", &json!({"10.0.0.1": record("x")})),
        pool("b", "10.0.0.2", &json!({"10.0.0.1": record("y")})),
        pool("b", "10.0.0.2", &json!({})),
    ])?;
    assert!(
        found
            .iter()
            .any(|text| text.starts_with("at resourceVersion 3: 10.0.0.1 is recorded")),
        "{found:?}"
    );
    Ok(())
}

#[test]
fn an_address_that_the_subnet_did_not_give_is_found() -> Result<()> {
    let found = wrongs(vec![
        subnet(&json!({"a": {"ips": ["10.0.0.1"]}})),
        pool("a", "10.0.0.1-10.0.0.2", &json!({})),
    ])?;
    assert!(
        matches!(found.as_slice(), [text] if text.contains("pool a has")),
        "{found:?}"
    );
    Ok(())
}

#[test]
fn accounting_that_is_not_what_the_pools_are_is_found() -> Result<()> {
    let judged = |entries: &Value, counted: i64, ranges: &[&str]| {
        let pools = ranges
            .iter()
            .zip(["a", "b"])
            .map(|(ips, name)| match pool(name, ips, &json!({}))? {
                Seen::Pool(pool) => Ok(*pool),
                seen => Err(anyhow::anyhow!("{seen:?} is no pool")),
            });
        let pools = pools.collect::<Result<Vec<SpiderIPPool>>>()?;
        let Seen::Subnet(mut subnet) = subnet(entries)? else {
            anyhow::bail!("no subnet")
        };
        subnet.spec.ips = Some(vec!["10.0.0.1-10.0.0.9".to_owned()]);
        subnet.status.get_or_insert_default().allocated_ip_count = Some(counted);
        let reserved = spiderpool_crds::ReservedIPSpec {
            ips: Some(vec!["10.0.0.9".to_owned(), "fd00::1".to_owned()]),
            ..Default::default()
        };
        let reserved = [spiderpool_crds::SpiderReservedIP::new("kept-back", reserved)];
        judge(&subnet, &pools, &reserved)
    };
    let both = json!({"a": {"ips": ["10.0.0.1-10.0.0.2"]}, "b": {"ips": ["10.0.0.3"]}});
    let sound = judged(&both, 3, &["10.0.0.1-10.0.0.2", "10.0.0.3"])?;
    assert_eq!(sound, Vec::<String>::new());
    let shared = json!({"a": {"ips": ["10.0.0.1"]}, "b": {"ips": ["10.0.0.1"]}});
    let cases = [
        (judged(&both, 3, &["10.0.0.1-10.0.0.2"])?, "does not exist"),
        (judged(&both, 3, &["10.0.0.1", "10.0.0.3"])?, "pool a has"),
        (judged(&both, 4, &["10.0.0.1-10.0.0.2", "10.0.0.3"])?, "counts 4"),
        (judged(&shared, 1, &["10.0.0.1", "10.0.0.1"])?, "shares"),
        (
            judged(&json!({"a": {"ips": ["10.0.0.10"]}}), 1, &["10.0.0.10"])?,
            "outside",
        ),
        (
            judged(&json!({"a": {"ips": ["10.0.0.9"]}}), 1, &["10.0.0.9"])?,
            "reserved",
        ),
    ];
    for (found, expected) in cases {
        assert!(
            found.iter().any(|text| text.contains(expected)),
            "{expected} is not in {found:?}"
        );
    }
    Ok(())
}

#[test]
fn entries_with_common_addresses_are_found() -> Result<()> {
    let both = |application: &Value| {
        subnet(&json!({
            "a": {"ips": ["10.0.0.1-10.0.0.5"], "application": application},
            "b": {"ips": ["10.0.0.5"], "application": application},
        }))
    };
    // Pools that users make are written into the accounting as they are; what keeps those apart is that one of them serves.
    assert_eq!(wrongs(vec![both(&Value::Null)])?, Vec::<String>::new());
    let found = wrongs(vec![both(&json!("apps_v1_Deployment_ns_shop"))])?;
    assert!(
        matches!(found.as_slice(), [text] if text.contains("twice")),
        "{found:?}"
    );
    Ok(())
}

/// Writes the records of a pool as nobody should.
async fn write_records(scene: &Scene, pool: &str, records: Option<&Value>) -> Result<()> {
    let change = json!({"status": {"allocatedIPs": records.map(Value::to_string)}});
    let pools = scene.pools();
    pools
        .patch_status(pool, &PatchParams::default(), &Patch::Merge(&change))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_test_fails_when_an_address_had_two_owners_for_a_moment() -> Result<()> {
    let outcome = scene("two_owners", async |scene: &Scene| {
        let ip = scene.ip(4, "10");
        let mut pools = Vec::new();
        for name in ["first", "second"] {
            let pool = scene.create_pool(name, 4, IPPoolSpec::default()).await?.name_any();
            write_records(scene, &pool, Some(&json!({ip.clone(): record(name)}))).await?;
            pools.push(pool);
        }
        for pool in &pools {
            write_records(scene, pool, None).await?;
        }
        Ok(())
    })
    .await;
    let error = outcome.err().context("two owners of one address were not noticed")?;
    ensure!(
        format!("{error:#}").contains("is recorded in pool"),
        "the test failed for another reason: {error:#}"
    );
    Ok(())
}
