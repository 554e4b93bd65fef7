//! ADD: a NIC of a pod gets its addresses.
//!
//! All families of the request are claimed or none: what was claimed by a failing request is given back. A repeated
//! request finds the addresses of the first one by the pod's UID and the NIC, whatever happened in between.

use crate::automatic::{Reach, Slot};
use crate::choose::{self, Choice, Defaults, Level};
use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::explain;
use crate::owner::Application;
use crate::pods;
use crate::pools::{Claimed, JobError, PoolState};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::{Route, SpiderIPPool, annotations};
use spiderpool_ipam::candidates::PodFacts;
use spiderpool_ipam::{Family, Owner};
use spiderpool_kit::cache::{Key, Store};
use spiderpool_wire::{IpamAddArgs, IpamAddResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an ADD may take. The plugin waits longer (100 s); the kubelet tries again and shows the reason meanwhile, so a
/// user reads it within half a minute.
pub const BUDGET: Duration = Duration::from_secs(30);

/// How long an ADD waits for its application's pool to have a free address. The rest of the budget is for the writes.
const POOL_WAIT: Duration = Duration::from_secs(20);

/// How long an ADD waits for a pool in a subnet that the pod's annotation names, before it takes an address of another pool
/// of the application. An application that moves to another subnet has its new pool well before that, and a pod should not
/// get a place where the application is leaving.
const ELSEWHERE_AFTER: Duration = Duration::from_secs(3);

/// How long giving back may take after a failure, in addition to the budget.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Serves an ADD.
pub async fn add(context: &Context, args: &IpamAddArgs) -> Result<IpamAddResponse, RequestError> {
    let deadline = Instant::now() + BUDGET;
    context.wait_ready(deadline).await?;
    let _turn = context.turns.take(&args.pod_uid).await;
    let pod = pods::of_add(context, &args.pod_namespace, &args.pod_name, &args.pod_uid, deadline).await?;
    let app = context.owners.application(&pod, deadline).await?;
    let defaults = Defaults {
        nic: &args.if_name,
        ipv4: &args.default_ipv4_ippool,
        ipv6: &args.default_ipv6_ippool,
        clean_gateway: args.clean_gateway,
    };
    let choice = choose::choose(context, &pod, &app.key, defaults)?;
    let custom = custom_routes(&pod)?;
    let facts = choose::pod_facts(context, &pod, &app.key, &choice, &args.if_name, deadline).await?;
    let request = Request {
        context,
        args,
        app: &app,
        choice: &choice,
        facts: &facts,
    };
    let claims = match request.claim_all(deadline).await {
        Err(error @ RequestError::NoPool { .. }) => {
            context.owners.forget(&pod);
            return Err(error);
        }
        claimed => claimed?,
    };
    let item = endpoints::item(
        &args.if_name,
        &args.container_id,
        choice.clean_gateway,
        &claims,
        &custom,
    );
    let item = endpoints::of_network(item, &args.network_name);
    match endpoints::publish(context, &pod, &app.key, &item, deadline).await {
        Ok(endpoint) => Ok(endpoints::answer(&endpoint)),
        Err(error) => {
            request.give_back(&claims).await;
            Err(error)
        }
    }
}

fn custom_routes(pod: &Pod) -> Result<Vec<Route>, RequestError> {
    let pod_name = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let routes = annotations::routes(pod.annotations()).map_err(|source| RequestError::Annotation {
        pod: pod_name(),
        source,
    })?;
    Ok(routes
        .into_iter()
        .map(|route| Route {
            dst: route.dst.to_string(),
            gw: route.gw.to_string(),
            ..Route::default()
        })
        .collect())
}

/// One ADD, once it is known what it asks for.
struct Request<'a> {
    context: &'a Context,
    args: &'a IpamAddArgs,
    app: &'a Application,
    choice: &'a Choice,
    facts: &'a PodFacts,
}

impl Request<'_> {
    /// Claims an address of each family, or none.
    async fn claim_all(&self, deadline: Instant) -> Result<Vec<Claimed>, RequestError> {
        let families = self.choice.names.keys().map(|family| self.claim(*family, deadline));
        let mut claims = Vec::new();
        let mut failures = Vec::new();
        for result in futures::future::join_all(families).await {
            match result {
                Ok(claimed) => claims.push(claimed),
                Err(error) => failures.push(error),
            }
        }
        match explain::failed(failures, self.choice.names.len()) {
            None => Ok(claims),
            Some(error) => {
                self.give_back(&claims).await;
                Err(error)
            }
        }
    }

    /// Gives back what this request took. What the pod had before stays its own.
    async fn give_back(&self, claims: &[Claimed]) {
        let deadline = Instant::now() + GIVE_BACK;
        let pod = self.pod();
        let releases = claims.iter().filter(|claimed| claimed.taken.new).map(|claimed| {
            let (name, pod) = (claimed.pool.name_any(), &pod);
            async move {
                let (uid, nic) = (&self.args.pod_uid, &self.args.if_name);
                if let Err(error) = self.context.pools.release(&name, pod, uid, nic, deadline).await {
                    // The next ADD of this pod takes the address up again, and its end frees it.
                    tracing::warn!(pool = name, pod, uid, nic, %error, "address not given back after a failed ADD");
                }
            }
        });
        futures::future::join_all(releases).await;
    }

    /// Whether an object is this request's pod, terminating or finished.
    fn is_ended(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_some_and(|pod| pods::has_uid(pod, &self.args.pod_uid) && !pods::is_alive(pod))
    }

    fn pod(&self) -> String {
        format!("{}/{}", self.args.pod_namespace, self.args.pod_name)
    }

    /// Claims an address of a family from the first candidate that has one. An automatic pool is waited for.
    async fn claim(&self, family: Family, deadline: Instant) -> Result<Claimed, RequestError> {
        if self.choice.level != Level::Subnets {
            return match self.try_once(family, Reach::All, deadline).await? {
                Tried::Claimed(claimed) => Ok(claimed),
                Tried::Nowhere { reasons, .. } => Err(self.no_pool(family, &reasons)),
            };
        }
        let give_up = deadline.min(Instant::now() + POOL_WAIT);
        let mut reach = Reach::Named;
        let mut until = give_up.min(Instant::now() + ELSEWHERE_AFTER);
        loop {
            let versions = match self.try_once(family, reach, deadline).await? {
                Tried::Claimed(claimed) => return Ok(claimed),
                Tried::Nowhere { versions, .. } => versions,
            };
            match self.wait_for_pool(family, reach, &versions, until).await {
                Waited::Appeared if Instant::now() < give_up => {}
                Waited::PodEnded => {
                    return Err(RequestError::DeadPod {
                        pod: self.pod(),
                        uid: self.args.pod_uid.clone(),
                    });
                }
                Waited::TimedOut if reach == Reach::Named => (reach, until) = (Reach::All, give_up),
                Waited::Appeared | Waited::TimedOut => {
                    let reasons = explain::no_pool(self.context, &self.slot(family), self.facts).await;
                    return Err(self.no_pool(family, &reasons));
                }
            }
        }
    }

    /// Tries each candidate of now.
    async fn try_once(&self, family: Family, reach: Reach, deadline: Instant) -> Result<Tried, RequestError> {
        let pools = match self.choice.level {
            Level::Subnets => self.context.pools.cache().indexed(&self.facts.application),
            Level::Named | Level::Default => self.context.pools.cache().list(),
        };
        let (candidates, mut reasons) = self.candidates(&pools, family, reach);
        // What an earlier ADD of this pod took comes first, also from a pool that it could not choose any more.
        let own = self.recorded(family);
        for pool in own.into_iter().chain(candidates.iter().map(|pool| pool.name_any())) {
            let owner = Owner {
                pod: self.pod(),
                uid: self.args.pod_uid.clone(),
                nic: Some(self.args.if_name.clone()),
            };
            match self.context.pools.claim(&pool, owner, deadline).await {
                Ok(claimed) => return Ok(Tried::Claimed(claimed)),
                Err(
                    error @ (JobError::Exhausted(_) | JobError::Closed(_) | JobError::Missing(_) | JobError::Broken(_)),
                ) => reasons.push(error.to_string()),
                Err(error @ (JobError::Refused { .. } | JobError::Deadline { .. })) => return Err(error.into()),
            }
        }
        let versions = candidates
            .iter()
            .map(|pool| (pool.name_any(), pool.resource_version()))
            .collect();
        Ok(Tried::Nowhere { versions, reasons })
    }

    /// The pools that may serve, in order, and why others may not where the user named them.
    fn candidates(
        &self,
        pools: &[Arc<SpiderIPPool>],
        family: Family,
        reach: Reach,
    ) -> (Vec<Arc<SpiderIPPool>>, Vec<String>) {
        if self.choice.level == Level::Subnets {
            let found = self.slot(family).candidates(pools, self.facts, reach);
            return (found, Vec::new());
        }
        choose::candidates(pools, self.choice, &self.args.if_name, family, self.facts)
    }

    fn slot(&self, family: Family) -> Slot<'_> {
        Slot {
            app: self.app,
            choice: self.choice,
            nic: &self.args.if_name,
            family,
        }
    }

    fn no_pool(&self, family: Family, reasons: &[String]) -> RequestError {
        RequestError::NoPool {
            pod: self.pod(),
            nic: self.args.if_name.clone(),
            family: family.to_string(),
            reasons: reasons.join("; "),
        }
    }

    /// Pools that record an address of this NIC already.
    fn recorded(&self, family: Family) -> Vec<String> {
        let mut own: Vec<String> = self
            .context
            .pools
            .holding(&self.args.pod_uid)
            .into_iter()
            .filter(|name| {
                let pool = self.context.pools.cache().get("", name);
                pool.and_then(|pool| PoolState::read(pool).ok()).is_some_and(|state| {
                    state.family() == family
                        && state
                            .ledger()
                            .owned_by(&self.args.pod_uid, &self.args.if_name)
                            .is_some()
                })
            })
            .collect();
        own.sort_unstable();
        own
    }

    /// Waits until a candidate exists that was not tried in its present version and has a free address.
    async fn wait_for_pool(&self, family: Family, reach: Reach, tried: &Versions, until: Instant) -> Waited {
        let context = self.context;
        let reserved = context.pools.reserved(family);
        let untried = |pool: &Arc<SpiderIPPool>| {
            tried.get(&pool.name_any()) != Some(&pool.resource_version())
                && PoolState::read(pool.clone()).is_ok_and(|state| state.has_free(&reserved))
        };
        let look = |store: &Store<SpiderIPPool>| {
            let pools: Vec<Arc<SpiderIPPool>> = store.indexed(&self.facts.application).cloned().collect();
            let (candidates, _) = self.candidates(&pools, family, reach);
            candidates.iter().any(untried).then_some(())
        };
        // A pod that is deleted meanwhile wants no address any more, and its DEL waits for this request to end. That the cache
        // does not have the pod says nothing: it may have been read live a moment before the cache does.
        let key = Key::new(&self.args.pod_namespace, &self.args.pod_name);
        let ended = |store: &Store<Pod>| self.is_ended(store.get(&key)).then_some(());
        tokio::select! {
            found = context.pools.cache().wait(until, look) => match found {
                Ok(()) => Waited::Appeared,
                Err(_) => Waited::TimedOut,
            },
            ended = context.pods.wait(until, ended) => match ended {
                Ok(()) => Waited::PodEnded,
                Err(_) => Waited::TimedOut,
            },
        }
    }
}

/// Versions of pools, by name.
type Versions = BTreeMap<String, Option<String>>;

/// What trying the candidates of a moment gave.
enum Tried {
    Claimed(Claimed),
    /// None of them has an address.
    Nowhere {
        /// The candidates as they were tried.
        versions: Versions,
        reasons: Vec<String>,
    },
}

/// How waiting for a pool ended.
enum Waited {
    /// There is one to try.
    Appeared,
    /// The pod is terminating or has finished.
    PodEnded,
    TimedOut,
}
