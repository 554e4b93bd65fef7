//! ADD: a NIC of a pod gets its addresses.
//!
//! All families of the request are claimed or none: what was claimed by a failing request is given back. A repeated
//! request finds the addresses of the first one by the pod's UID and the NIC, whatever happened in between.

use crate::automatic::{Reach, Slot};
use crate::choose::{self, Choice, Defaults};
use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::explain;
use crate::kill::{self, Point};
use crate::look::Look;
use crate::owner::Application;
use crate::pods;
use crate::pools::{Claimed, JobError, PoolState};
use crate::tell;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::{Route, SpiderIPPool, annotations};
use spiderpool_ipam::candidates::{Level, PodFacts, PoolFacts, Rejection, Verdict, Verdicts, verdicts};
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

/// How long an ADD waits for the operator to check a pool that a user has just made or changed.
const READY_WAIT: Duration = Duration::from_millis(1500);

/// How long a pod waits for its application's pool without being told what it waits for.
const TELL_AFTER: Duration = Duration::from_millis(1500);

/// How long giving back may take after a failure, in addition to the budget.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Serves an ADD.
pub async fn add(context: &Context, args: &IpamAddArgs) -> Result<IpamAddResponse, RequestError> {
    let deadline = Instant::now() + BUDGET;
    context.wait_ready(deadline).await?;
    let _turn = context.turns.take(&args.pod_uid).await;
    kill::point(Point::AddAccepted);
    let pod = pods::of_add(context, &args.pod_namespace, &args.pod_name, &args.pod_uid, deadline).await?;
    kill::point(Point::AddPodFound);
    let result = serve(context, args, &pod, deadline).await;
    if let Err(error) = &result {
        tell::failed(context, &pod, error);
    }
    kill::point(Point::AddAnswered);
    result
}

async fn serve(
    context: &Context,
    args: &IpamAddArgs,
    pod: &Pod,
    deadline: Instant,
) -> Result<IpamAddResponse, RequestError> {
    let app = context.owners.application(pod, deadline).await?;
    let defaults = Defaults {
        nic: &args.if_name,
        ipv4: &args.default_ipv4_ippool,
        ipv6: &args.default_ipv6_ippool,
        clean_gateway: args.clean_gateway,
    };
    let choice = choose::choose(context, pod, &app.key, defaults, deadline).await?;
    let custom = custom_routes(pod)?;
    let mut facts = choose::pod_facts(context, pod, &app.key, &choice, &args.if_name, deadline).await?;
    facts.master = choose::master(args.match_master_subnet, &[]);
    kill::point(Point::AddChosen);
    let request = Request {
        context,
        args,
        pod,
        app: &app,
        choice: &choice,
        facts: &facts,
    };
    let claims = match request.claim_all(deadline).await {
        Err(error @ RequestError::NoPool { .. }) => {
            context.owners.forget(pod);
            return Err(error);
        }
        claimed => claimed?,
    };
    kill::point(Point::AddClaimed);
    let item = endpoints::item(
        &args.if_name,
        &args.container_id,
        choice.asked.clean_gateway,
        &claims,
        &custom,
    );
    let item = endpoints::of_network(item, &args.network_name);
    kill::point(Point::EndpointPlanned);
    match endpoints::publish(context, pod, &app.key, &item, deadline).await {
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
    pod: &'a Pod,
    app: &'a Application,
    choice: &'a Choice,
    facts: &'a PodFacts,
}

impl Request<'_> {
    /// Claims an address of each family, or none.
    async fn claim_all(&self, deadline: Instant) -> Result<Vec<Claimed>, RequestError> {
        let families = self
            .choice
            .asked
            .names
            .keys()
            .map(|family| self.claim(*family, deadline));
        let mut claims = Vec::new();
        let mut failures = Vec::new();
        for result in futures::future::join_all(families).await {
            match result {
                Ok(claimed) => claims.push(claimed),
                Err(error) => failures.push(error),
            }
        }
        match explain::failed(failures, self.choice.asked.names.len()) {
            None => Ok(claims),
            Some(error) => {
                self.give_back(&claims).await;
                Err(error)
            }
        }
    }

    /// Gives back what this request took. What the pod had before stays its own.
    async fn give_back(&self, claims: &[Claimed]) {
        kill::point(Point::GiveBackBefore);
        let deadline = Instant::now() + GIVE_BACK;
        let pod = self.pod_name();
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
        kill::point(Point::GiveBackDone);
    }

    /// Whether an object is this request's pod, terminating or finished.
    fn is_ended(&self, pod: Option<&Arc<Pod>>) -> bool {
        pod.is_some_and(|pod| pods::has_uid(pod, &self.args.pod_uid) && !pods::is_alive(pod))
    }

    fn pod_name(&self) -> String {
        format!("{}/{}", self.args.pod_namespace, self.args.pod_name)
    }

    /// Claims an address of a family from the first candidate that has one. An automatic pool is waited for.
    async fn claim(&self, family: Family, deadline: Instant) -> Result<Claimed, RequestError> {
        if self.choice.asked.level != Level::Subnets {
            return self.claim_named(family, deadline).await;
        }
        let start = Instant::now();
        let give_up = deadline.min(start + POOL_WAIT);
        let steps = [
            (Reach::Named, give_up.min(start + TELL_AFTER)),
            (Reach::Named, give_up.min(start + ELSEWHERE_AFTER)),
            (Reach::All, give_up),
        ];
        for (step, (reach, until)) in steps.into_iter().enumerate() {
            if step == 1 {
                let reasons = explain::no_pool(self.context, &self.slot(family), self.facts, self.owner()).await;
                tell::waiting(self.context, self.pod, &self.no_pool(family, reasons));
            }
            loop {
                let tried = match self.try_once(family, reach, deadline).await? {
                    Tried::Claimed(claimed) => return Ok(*claimed),
                    Tried::Nowhere { versions, .. } => versions,
                };
                match self.wait_for_pool(family, reach, &tried, until).await {
                    Waited::Appeared if Instant::now() < give_up => {}
                    Waited::Appeared | Waited::TimedOut => break,
                    Waited::PodEnded => {
                        return Err(RequestError::DeadPod {
                            pod: self.pod_name(),
                            uid: self.args.pod_uid.clone(),
                        });
                    }
                }
            }
        }
        let reasons = explain::no_pool(self.context, &self.slot(family), self.facts, self.owner()).await;
        Err(self.no_pool(family, reasons))
    }

    /// Claims an address of a family from the first pool that has one. A pool that the operator has not checked yet is
    /// waited for, if no other serves: users make pools and pods at once.
    async fn claim_named(&self, family: Family, deadline: Instant) -> Result<Claimed, RequestError> {
        let until = deadline.min(Instant::now() + READY_WAIT);
        loop {
            let rejected = match self.try_once(family, Reach::All, deadline).await? {
                Tried::Claimed(claimed) => return Ok(*claimed),
                Tried::Nowhere { rejected, .. } => rejected,
            };
            let unchecked = rejected
                .iter()
                .filter(|verdict| verdict.rejection == Rejection::NotReady);
            let unchecked: Vec<Key> = unchecked.map(|verdict| Key::new("", &verdict.pool)).collect();
            let checked = |store: &Store<SpiderIPPool>| {
                let ready = |key| store.get(key).is_some_and(|pool| pool.is_ready());
                unchecked.iter().any(ready).then_some(())
            };
            let pools = self.context.pools.cache();
            if unchecked.is_empty() || Instant::now() >= until || pools.wait(until, checked).await.is_err() {
                let origin = format!("asked for by {}", choose::origin(self.choice.asked.level));
                let reasons = [origin].into_iter().chain(rejected.iter().map(Verdict::line)).collect();
                return Err(self.no_pool(family, reasons));
            }
        }
    }

    /// Tries each candidate of now.
    async fn try_once(&self, family: Family, reach: Reach, deadline: Instant) -> Result<Tried, RequestError> {
        let considered = self.considered(family, reach);
        let Verdicts { chosen, mut rejected } = self.judge(family, &considered);
        // What an earlier ADD of this pod took comes first, also from a pool that it could not choose any more.
        let own = self.recorded(family);
        let others = chosen.iter().filter(|name| !own.contains(name));
        for pool in own.iter().chain(others) {
            let exact = self.choice.exact.get(&family).copied();
            match self.context.pools.claim(pool, self.owner(), exact, deadline).await {
                Ok(claimed) => return Ok(Tried::Claimed(Box::new(claimed))),
                Err(JobError::Rejected { pool, rejection }) => {
                    let rejection = *rejection;
                    rejected.push(Verdict { pool, rejection });
                }
                Err(error @ (JobError::Refused { .. } | JobError::Deadline { .. })) => return Err(error.into()),
            }
        }
        let versions = considered
            .iter()
            .map(|pool| (pool.name_any(), pool.resource_version()))
            .collect();
        Ok(Tried::Nowhere { versions, rejected })
    }

    /// The pools that are asked for.
    fn considered(&self, family: Family, reach: Reach) -> Vec<Arc<SpiderIPPool>> {
        if self.choice.asked.level == Level::Subnets {
            let pools = self.context.pools.cache().indexed(&self.facts.application);
            return self.slot(family).considered(&pools, reach);
        }
        choose::considered(self.context, &self.choice.asked)
    }

    /// Which of these pools may serve, in order, and why the others may not.
    fn judge(&self, family: Family, pools: &[Arc<SpiderIPPool>]) -> Verdicts {
        let exact = self.choice.exact.get(&family).copied();
        let facts = pools.iter().map(|pool| choose::pool_facts_for(pool, exact));
        let facts: Vec<PoolFacts> = facts.collect();
        verdicts(&self.choice.asked, family, self.facts, &facts)
    }

    fn slot(&self, family: Family) -> Slot<'_> {
        Slot {
            app: self.app,
            choice: self.choice,
            nic: &self.args.if_name,
            family,
        }
    }

    fn owner(&self) -> Owner {
        Owner {
            pod: self.pod_name(),
            uid: self.args.pod_uid.clone(),
            nic: Some(self.args.if_name.clone()),
        }
    }

    fn no_pool(&self, family: Family, reasons: Vec<String>) -> RequestError {
        RequestError::NoPool {
            pod: self.pod_name(),
            nic: self.args.if_name.clone(),
            family: family.to_string(),
            reasons,
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
        let look = Look {
            owner: self.owner(),
            exact: self.choice.exact.get(&family).copied(),
            reserved: &context.pools.reserved(family),
        };
        let untried = |pool: &&Arc<SpiderIPPool>| tried.get(&pool.name_any()) != Some(&pool.resource_version());
        let found = |store: &Store<SpiderIPPool>| {
            let pools: Vec<Arc<SpiderIPPool>> = store.indexed(&self.facts.application).cloned().collect();
            let considered = self.slot(family).considered(&pools, reach);
            let facts: Vec<PoolFacts> = considered.iter().filter(untried).map(|pool| look.facts(pool)).collect();
            let verdicts = verdicts(&self.choice.asked, family, self.facts, &facts);
            (!verdicts.chosen.is_empty()).then_some(())
        };
        // A pod that is deleted meanwhile wants no address any more, and its DEL waits for this request to end. That the cache
        // does not have the pod says nothing: it may have been read live a moment before the cache does.
        let key = Key::new(&self.args.pod_namespace, &self.args.pod_name);
        let ended = |store: &Store<Pod>| self.is_ended(store.get(&key)).then_some(());
        tokio::select! {
            found = context.pools.cache().wait(until, found) => match found {
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
    Claimed(Box<Claimed>),
    /// None of them has an address.
    Nowhere {
        /// The pools as they were looked at.
        versions: Versions,
        rejected: Vec<Verdict>,
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
