//! What is true when nothing happens: pools, endpoints and pods say the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::ResourceExt;
use kube::api::ListParams;
use spiderpool_crds::SpiderEndpoint;

use crate::scene::Scene;

/// Agents are done with what was sent to them after this. The operator frees nothing yet.
const AGENTS: Duration = Duration::from_secs(20);

/// The operator frees what no agent can after this: it looks twice, half a minute apart.
const OPERATOR: Duration = Duration::from_secs(100);

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Who has which address: `namespace/pod uid`.
pub(crate) type Owners = BTreeMap<IpAddr, String>;

/// The name of an owner in [`Owners`].
pub(crate) fn owner(namespace: &str, pod: &str, uid: &str) -> String {
    format!("{namespace}/{pod} {uid}")
}

/// An address that no agent gave back.
pub(crate) struct Left {
    /// The pod's UID.
    pub(crate) uid: String,
    /// Address and pod, in words.
    pub(crate) what: String,
}

/// Waits until pools and endpoints say of all addresses what the pods know. Tells which records were there that no agent gave back,
/// which the operator had to free.
pub(crate) async fn agrees(scene: &Scene, expected: &Owners) -> Result<Vec<Left>> {
    let started = Instant::now();
    let mut left = Vec::new();
    loop {
        let (recorded, told) = (recorded(scene).await?, told(scene).await?);
        if recorded == *expected && told == *expected {
            return Ok(left);
        }
        let took = started.elapsed();
        if took > AGENTS && left.is_empty() {
            let more = recorded.iter().filter(|(ip, by)| expected.get(ip) != Some(by));
            left = more.map(|(ip, by)| Left::of(*ip, by)).collect();
        }
        if took > OPERATOR {
            bail!(
                "at rest pools, endpoints and pods differ after {took:?}:\n{}{}",
                difference("pools", &recorded, expected),
                difference("endpoints", &told, expected)
            );
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Left {
    fn of(ip: IpAddr, owner: &str) -> Self {
        Self {
            uid: owner.rsplit(' ').next().unwrap_or_default().to_owned(),
            what: format!("{ip} of {owner}"),
        }
    }
}

fn difference(what: &str, said: &Owners, expected: &Owners) -> String {
    let more = said.iter().filter(|(ip, by)| expected.get(ip) != Some(by));
    let more = more.map(|(ip, by)| format!("{what} say {ip} is {by}, and no pod has it so\n"));
    let less = expected.iter().filter(|(ip, by)| said.get(ip) != Some(by));
    let less = less.map(|(ip, by)| format!("{what} do not say that {ip} is {by}\n"));
    more.chain(less).collect()
}

async fn recorded(scene: &Scene) -> Result<Owners> {
    let mut owners = Owners::new();
    for pool in scene.own_pools().await? {
        let records = pool
            .records()
            .with_context(|| format!("the records of {}", pool.name_any()))?;
        owners.extend(
            records
                .iter()
                .map(|(ip, record)| (ip, format!("{} {}", record.pod, record.pod_uid))),
        );
    }
    Ok(owners)
}

async fn told(scene: &Scene) -> Result<Owners> {
    let endpoints = scene.api::<SpiderEndpoint>().list(&ListParams::default()).await;
    let mut owners = Owners::new();
    for endpoint in endpoints.context("listing endpoints")?.items {
        let current = &endpoint.status.current;
        let items = current.ips.iter();
        let addresses = items
            .flat_map(|item| [item.ipv4.as_deref(), item.ipv6.as_deref()])
            .flatten();
        for text in addresses {
            let ip = text.split('/').next().unwrap_or_default().parse();
            let ip = ip.with_context(|| format!("the address {text} of an endpoint"))?;
            owners.insert(ip, owner(&scene.namespace, &endpoint.name_any(), &current.uid));
        }
    }
    Ok(owners)
}
