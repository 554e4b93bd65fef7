//! What an ADD would do now, and why: the same decisions as an ADD's, with nothing claimed and nothing written.

use crate::automatic::{Reach, Slot};
use crate::choose::{self, Choice, Defaults};
use crate::context::Context;
use crate::error::RequestError;
use crate::explain;
use crate::look::Look;
use crate::owner::Application;
use crate::pools::{PoolState, about_held};
use crate::sticky::{self, Heirloom, Identity};
use crate::tries;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::pod::runtime_uid;
use spiderpool_crds::records::Held;
use spiderpool_ipam::candidates::{Level, PodFacts, PoolFacts, Verdicts, verdicts};
use spiderpool_ipam::sticky::Fate;
use spiderpool_ipam::{Family, Owner, addr};
use spiderpool_wire::{ExplainedAddress, Explanation, FamilyExplanation, PoolExplanation};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an explanation may take.
const BUDGET: Duration = Duration::from_secs(10);

/// Explains what a pod's NIC would get. None if there is no such pod. The pod may run on any node.
pub async fn preview(
    context: &Context,
    namespace: &str,
    name: &str,
    nic: &str,
) -> Result<Option<Explanation>, RequestError> {
    let deadline = Instant::now() + BUDGET;
    context.wait_ready(deadline).await?;
    let pod = match context.pods.get(namespace, name) {
        Some(pod) => pod,
        None => {
            let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
            let what = format!("read Pod {namespace}/{name}");
            match tries::read(what, deadline, || api.get_opt(name)).await? {
                Some(pod) => Arc::new(pod),
                None => return Ok(None),
            }
        }
    };
    let mut explanation = about(&pod, nic);
    let app = context.owners.application(&pod, deadline).await?;
    let defaults = Defaults {
        nic,
        ipv4: &[],
        ipv6: &[],
        clean_gateway: false,
    };
    let choice = match choose::choose(context, &pod, &app.key, defaults, deadline).await {
        Ok(choice) => choice,
        Err(
            error @ (RequestError::Annotation { .. }
            | RequestError::NamespaceAnnotation { .. }
            | RequestError::Unfit { .. }),
        ) => {
            explanation.problem = error.to_string();
            explanation.notes.push(UNKNOWN_NETWORK.to_owned());
            return Ok(Some(explanation));
        }
        Err(error) => return Err(error),
    };
    let facts = choose::pod_facts(context, &pod, &app.key, &choice, nic, deadline).await?;
    explanation.level = choice.asked.level.to_string();
    explanation.origin = choose::origin(choice.asked.level);
    explanation.clean_gateway = choice.asked.clean_gateway;
    if choice.asked.level == Level::Default {
        explanation.notes.push(UNKNOWN_NETWORK.to_owned());
    }
    let request = Request {
        context,
        app: &app,
        choice: &choice,
        facts: &facts,
        owner: owner(context, &pod, nic),
        identity: Identity::of(&context.config, &pod),
    };
    for family in choice.asked.names.keys() {
        explanation.families.push(request.family(*family).await);
    }
    Ok(Some(explanation))
}

/// What the agent learns only from the plugin.
const UNKNOWN_NETWORK: &str = "the CNI configuration of the network is known to the plugin only: pools that it names \
     (default_ipv4_ippool, default_ipv6_ippool) go before those with `spec.default`";

fn about(pod: &Pod, nic: &str) -> Explanation {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    Explanation {
        pod_namespace: pod.namespace().unwrap_or_default(),
        pod_name: pod.name_any(),
        pod_uid: runtime_uid(&pod.metadata).unwrap_or_default().to_owned(),
        node: node.unwrap_or_default(),
        nic: nic.to_owned(),
        ..Explanation::default()
    }
}

fn owner(context: &Context, pod: &Pod, nic: &str) -> Owner {
    Owner {
        pod: Identity::of(&context.config, pod).key(),
        uid: runtime_uid(&pod.metadata).unwrap_or_default().to_owned(),
        nic: Some(nic.to_owned()),
    }
}

/// What is explained.
struct Request<'a> {
    context: &'a Context,
    app: &'a Application,
    choice: &'a Choice,
    facts: &'a PodFacts,
    owner: Owner,
    identity: Identity,
}

impl Request<'_> {
    async fn family(&self, family: Family) -> FamilyExplanation {
        let context = self.context;
        let slot = Slot {
            app: self.app,
            choice: self.choice,
            nic: &self.facts.nic,
            family,
        };
        let pools = if self.choice.asked.level == Level::Subnets {
            let own = context.pools.cache().indexed(&self.facts.application);
            slot.considered(&own, Reach::All)
        } else {
            choose::considered(context, &self.choice.asked)
        };
        let reserved = context.pools.reserved(family);
        let look = Look {
            owner: self.owner.clone(),
            exact: self.choice.exact.get(&family).copied(),
            reserved: &reserved,
        };
        let holding = context.pools.holding(&self.owner.uid).into_iter();
        let holding = holding.filter_map(|name| context.pools.cache().get("", &name));
        let has = holding
            .filter_map(|pool| held(pool, family, &self.owner))
            .min_by(|a, b| a.ip_pool.cmp(&b.ip_pool));
        let mut told = judged(self.choice, self.facts, family, &pools, &look, has);
        let heirlooms = sticky::heirlooms(context, &self.identity, &self.owner.uid, &slot, self.facts);
        inherits(&mut told, heirlooms);
        if told.would_get.is_none() && self.choice.asked.level == Level::Subnets {
            let more = explain::no_pool(context, &slot, self.facts, self.owner.clone()).await;
            told.notes.extend(more);
        }
        told
    }
}

/// What is different for a NIC that may take over addresses.
fn inherits(told: &mut FamilyExplanation, heirlooms: Vec<Heirloom>) {
    for Heirloom { pool, ip, fate } in heirlooms {
        let takes = match &fate {
            Fate::Keep => told.has.is_none(),
            Fate::LastResort => told.would_get.is_none(),
            Fate::Leave(_) => false,
        };
        told.notes.push(match fate {
            Fate::Leave(why) => format!(
                "{ip} of IPPool {pool}, which the last pod had, is freed when this one has another: {}",
                why.line(&pool)
            ),
            Fate::Keep | Fate::LastResort => {
                format!("{ip} of IPPool {pool} is kept for the pod since the last one had it")
            }
        });
        if takes {
            told.would_get = Some(ExplainedAddress {
                address: ip.to_string(),
                ip_pool: pool,
            });
        }
    }
}

/// What a NIC has in a pool.
fn held(pool: Arc<SpiderIPPool>, family: Family, owner: &Owner) -> Option<ExplainedAddress> {
    let ip_pool = pool.name_any();
    let state = PoolState::read(pool).ok().filter(|state| state.family() == family)?;
    let bits = state
        .ledger()
        .owned_by(&owner.uid, owner.nic.as_deref().unwrap_or_default())?;
    Some(ExplainedAddress {
        address: addr::from_bits(family, bits).to_string(),
        ip_pool,
    })
}

/// What a family would get out of these pools.
fn judged(
    choice: &Choice,
    facts: &PodFacts,
    family: Family,
    pools: &[Arc<SpiderIPPool>],
    look: &Look<'_>,
    has: Option<ExplainedAddress>,
) -> FamilyExplanation {
    let judged: Vec<PoolFacts> = pools.iter().map(|pool| look.facts(pool)).collect();
    let Verdicts { chosen, rejected } = verdicts(&choice.asked, family, facts, &judged);
    let first = chosen
        .first()
        .and_then(|name| pools.iter().find(|pool| pool.name_any() == *name));
    let next = first.and_then(|pool| {
        let address = look.would_get(pool).ok()?.to_string();
        let ip_pool = pool.name_any();
        Some(ExplainedAddress { address, ip_pool })
    });
    let chosen = chosen.into_iter().map(|name| PoolExplanation {
        name,
        verdict: PoolExplanation::CHOSEN.to_owned(),
        reason: String::new(),
    });
    let rejected = rejected.into_iter().map(|verdict| PoolExplanation {
        verdict: verdict.rejection.word().to_owned(),
        reason: verdict.line(),
        name: verdict.pool,
    });
    FamilyExplanation {
        version: family.number(),
        asked: choice.asked.names(family).to_vec(),
        exact: look.exact.map(|address| address.to_string()).unwrap_or_default(),
        would_get: has.clone().or(next),
        has,
        pools: chosen.chain(rejected).collect(),
        notes: pools.iter().flat_map(withheld).collect(),
    }
}

/// Most addresses of a pool that are told of one by one.
const WITHHELD_MOST: usize = 4;

/// Free addresses of a pool that are not as good as others, in words. Those that nobody is given come first.
fn withheld(pool: &Arc<SpiderIPPool>) -> Vec<String> {
    let Ok(state) = PoolState::read(pool.clone()) else {
        // Why it cannot be read is the pool's verdict.
        return Vec::new();
    };
    let name = pool.name_any();
    let mut held: Vec<(IpAddr, &Held)> = state.held().iter().collect();
    held.sort_by_key(|(_, held)| !held.blocks());
    let told = held.iter().take(WITHHELD_MOST);
    let mut told: Vec<String> = told
        .map(|(ip, held)| format!("{ip} of IPPool {name} is {}", about_held(held)))
        .collect();
    if let Some(more) = held.len().checked_sub(WITHHELD_MOST).filter(|more| *more > 0) {
        told.push(format!(
            "{more} more addresses of IPPool {name} are held, see its status.heldIPs"
        ));
    }
    told
}

#[cfg(test)]
mod tests;
