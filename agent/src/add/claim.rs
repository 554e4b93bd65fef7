//! One address for one family of one NIC, out of the first pool that has one.

use super::{Request, Want};
use crate::automatic::{Reach, Slot};
use crate::choose;
use crate::endpoints;
use crate::error::RequestError;
use crate::explain;
use crate::look::Look;
use crate::pods;
use crate::pools::{Claimed, JobError};
use crate::sticky::{Holder, Keeping};
use crate::tell;
use crate::unnamed;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::{NicDetail, SpiderIPPool};
use spiderpool_ipam::candidates::{Level, PodFacts, PoolFacts, Rejection, Verdict, Verdicts, verdicts};
use spiderpool_ipam::{Family, Owner, addr};
use spiderpool_kit::cache::{Key, Store};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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

/// Who claims.
pub(super) struct Claimant<'a> {
    request: &'a Request<'a>,
    pub(super) want: &'a Want,
    pub(super) family: Family,
    /// The address that is asked for.
    exact: Option<IpAddr>,
}

impl<'a> Claimant<'a> {
    pub(super) fn new(request: &'a Request<'a>, want: &'a Want, family: Family) -> Self {
        Self {
            exact: want.choice.exact.get(&family).copied(),
            request,
            want,
            family,
        }
    }

    /// What the cache lets expect. What is held back or on record for the NIC is not counted, so this is a guess. An
    /// application's own pools grow.
    pub(super) fn outlook(&self) -> Outlook {
        if self.want.choice.asked.level == Level::Subnets {
            return Outlook::Fair;
        }
        let is_full = |pool: &SpiderIPPool| {
            let status = pool.status.as_ref();
            let counts = status.and_then(|status| status.allocated_ip_count.zip(status.total_ip_count));
            counts.is_some_and(|(used, total)| used >= total)
        };
        let considered = self.considered(Reach::All);
        let chosen = self.judge(&considered, &self.want.facts).chosen;
        let mut candidates = considered.iter().filter(|pool| chosen.contains(&pool.name_any()));
        if chosen.is_empty() {
            Outlook::NoPool
        } else if candidates.all(|pool| is_full(pool)) {
            Outlook::Full
        } else {
            Outlook::Fair
        }
    }

    /// Claims an address from the first candidate that has one. An automatic pool is waited for.
    pub(super) async fn claim(&self, deadline: Instant) -> Result<Claimed, RequestError> {
        if self.want.choice.asked.level != Level::Subnets {
            return self.claim_named(deadline).await;
        }
        let start = Instant::now();
        let give_up = deadline.min(start + POOL_WAIT);
        let steps = [
            // The operator may be about to make it.
            (Reach::Present, give_up.min(start + TELL_AFTER)),
            (Reach::Named, give_up.min(start + ELSEWHERE_AFTER)),
            (Reach::All, give_up),
        ];
        for (step, (reach, until)) in steps.into_iter().enumerate() {
            if step == 1 {
                let (context, pod) = (self.request.context, self.request.pod);
                tell::waiting(context, pod, &self.no_pool(self.explained().await));
            }
            loop {
                let tried = match self.try_once(reach, deadline).await? {
                    Tried::Claimed(claimed) => return Ok(*claimed),
                    Tried::Nowhere { versions, .. } => versions,
                };
                match self.wait_for_pool(reach, &tried, until).await? {
                    Waited::Appeared if Instant::now() < give_up => {}
                    Waited::Appeared | Waited::TimedOut => break,
                    Waited::PodEnded => {
                        return Err(RequestError::DeadPod {
                            pod: self.request.pod_name(),
                            uid: self.request.uid().to_owned(),
                        });
                    }
                }
            }
        }
        Err(self.no_pool(self.explained().await))
    }

    /// Claims an address from the first pool that has one. A pool that the operator has not checked yet is waited for, if no
    /// other serves: users make pools and pods at once.
    async fn claim_named(&self, deadline: Instant) -> Result<Claimed, RequestError> {
        let (args, cancel) = (self.request.args, self.request.cancel);
        let until = deadline.min(Instant::now() + READY_WAIT);
        loop {
            let rejected = match self.try_once(Reach::All, deadline).await? {
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
            let pools = self.request.context.pools.cache();
            if unchecked.is_empty()
                || Instant::now() >= until
                || cancel.or(args, pools.wait(until, checked)).await?.is_err()
            {
                let origin = format!("asked for by {}", choose::origin(self.want.choice.asked.level));
                let reasons = [origin].into_iter().chain(rejected.iter().map(Verdict::line)).collect();
                return Err(self.no_pool(reasons));
            }
        }
    }

    /// Tries each candidate of now.
    async fn try_once(&self, reach: Reach, deadline: Instant) -> Result<Tried, RequestError> {
        self.request.cancel.check(self.request.args)?;
        let pools = &self.request.context.pools;
        let considered = self.considered(reach);
        let read = choose::with_labels(self.request.context, &self.want.facts, &considered, deadline);
        let read = self.request.cancel.or(self.request.args, read).await??;
        let facts = read.as_ref().unwrap_or(&self.want.facts);
        let Verdicts { chosen, mut rejected } = self.judge(&considered, facts);
        // What an earlier ADD of this pod took comes first, also from a pool that it could not choose any more.
        let own = match self.request.identity.keeper {
            Some(_) => self.kept(facts, deadline).await?,
            None => self.recorded(&chosen, deadline).await?,
        };
        let others = chosen.iter().filter(|name| !own.first.contains(name));
        let last = own.last.iter().filter(|_| reach == Reach::All);
        for pool in own.first.iter().chain(others).chain(last) {
            let leaving = own.leaving.clone();
            if own.first.contains(pool)
                && let Some(problem) = pools.unreadable(pool)
            {
                let (pool, rejection) = (pool.clone(), Box::new(Rejection::Broken(problem)));
                return Err(JobError::Rejected { pool, rejection }.into());
            }
            match pools
                .claim_beside(pool, self.owner(), self.exact, leaving, deadline)
                .await
            {
                Ok(claimed) => return Ok(Tried::Claimed(Box::new(claimed))),
                // What the NIC has there, it has; of another pool it would get another address.
                Err(error @ JobError::Rejected { .. }) if error.may_pass() && own.first.contains(pool) => {
                    return Err(error.into());
                }
                Err(JobError::Rejected { pool, rejection }) => {
                    let rejection = *rejection;
                    rejected.push(Verdict { pool, rejection });
                }
                Err(error) => return Err(error.into()),
            }
        }
        let versions = considered
            .iter()
            .map(|pool| (pool.name_any(), pool.resource_version()))
            .collect();
        Ok(Tried::Nowhere { versions, rejected })
    }

    /// What the pod of a workload that keeps addresses has on record for the NIC.
    async fn kept(&self, facts: &PodFacts, deadline: Instant) -> Result<Keeping, RequestError> {
        let Request { context, identity, .. } = self.request;
        let unnamed = unnamed::in_all(&context.pools, self.request.uid());
        let items = self.items(&unnamed, deadline).await?;
        let holder = Holder {
            identity,
            uid: self.request.uid(),
            migrating: self.request.migrating,
            items: &items,
        };
        Ok(Keeping::of(context, holder, &self.slot(), facts))
    }

    /// The pools that have an address on record for the NIC. A record of the peer names no NIC: it is this one's if the endpoint
    /// says so, and where the endpoint does not know the address, if the NIC might have chosen the pool.
    async fn recorded(&self, chosen: &[String], deadline: Instant) -> Result<Keeping, RequestError> {
        let context = self.request.context;
        let uid = self.request.uid();
        let mut keeping = Keeping::default();
        let found = context.pools.recorded(uid, &self.want.nic, self.family);
        if found.is_empty() {
            let named = self.named(deadline).await?;
            let may_have_it = |pool: &String| chosen.contains(pool) || context.pools.unreadable(pool).is_some();
            keeping.first.extend(named.filter(may_have_it));
            return Ok(keeping);
        }
        let unnamed = unnamed::in_all(&context.pools, uid);
        let items = self.items(&unnamed, deadline).await?;
        let others = unnamed.iter().filter(|(pool, ip)| {
            let nic = unnamed::nic_with(&items, pool, *ip);
            addr::to_bits(*ip).0 == self.family && nic.is_some_and(|nic| nic != self.want.nic)
        });
        keeping.leaving.extend(others.map(|(_, ip)| *ip));
        for (pool, ip) in found {
            let is_unnamed = unnamed.iter().any(|(other, unnamed)| (other, unnamed) == (&pool, &ip));
            let mine = match unnamed::nic_with(&items, &pool, ip) {
                _ if !is_unnamed => true,
                Some(nic) => nic == self.want.nic,
                None => chosen.contains(&pool),
            };
            if mine {
                keeping.first.push(pool);
            }
        }
        // An agent that died before it answered may have left another record. The pod was told what its endpoint names.
        if keeping.first.len() > 1
            && let Some(named) = self.named(deadline).await?
        {
            keeping.first.sort_by_key(|pool| *pool != named);
        }
        Ok(keeping)
    }

    /// What the pod's endpoint says that its NICs have. It is read only where records say less than it.
    async fn items(&self, unnamed: &[(String, IpAddr)], deadline: Instant) -> Result<Vec<NicDetail>, RequestError> {
        if unnamed.is_empty() {
            return Ok(Vec::new());
        }
        self.endpoint_items(deadline).await
    }

    /// The pool of the address that the pod's endpoint gives the NIC, which no cached pool has on record. The cache may be late, and what
    /// a pool forgot with a restore of the API server's storage it will know again.
    async fn named(&self, deadline: Instant) -> Result<Option<String>, RequestError> {
        let items = match self.request.current() {
            Some(current) => current.ips.clone(),
            None if self.request.context.pools.are_pausing() => self.endpoint_items(deadline).await?,
            None => return Ok(None),
        };
        let own = items.iter().filter(|item| item.interface == self.want.nic);
        let mut addresses = own.flat_map(NicDetail::addresses);
        let given = addresses.find(|(ip, _)| addr::to_bits(*ip).0 == self.family);
        Ok(given.and_then(|(_, pool)| pool.map(str::to_owned)))
    }

    async fn endpoint_items(&self, deadline: Instant) -> Result<Vec<NicDetail>, RequestError> {
        let Request { context, identity, .. } = self.request;
        let uid = self.request.uid();
        let endpoint = endpoints::read(context, &identity.namespace, &identity.name, deadline).await?;
        let current = endpoint.map(|endpoint| endpoint.status.current).unwrap_or_default();
        Ok(if current.uid == uid { current.ips } else { Vec::new() })
    }

    /// The pools that are asked for.
    fn considered(&self, reach: Reach) -> Vec<Arc<SpiderIPPool>> {
        let context = self.request.context;
        if self.want.choice.asked.level == Level::Subnets {
            let pools = context.pools.cache().indexed(&self.want.facts.application);
            return self.slot().considered(&pools, reach);
        }
        choose::considered(context, &self.want.choice.asked)
    }

    /// Which of these pools may serve, in order, and why the others may not.
    fn judge(&self, pools: &[Arc<SpiderIPPool>], pod: &PodFacts) -> Verdicts {
        let facts = pools.iter().map(|pool| choose::pool_facts_for(pool, self.exact));
        let facts: Vec<PoolFacts> = facts.collect();
        verdicts(&self.want.choice.asked, self.family, pod, &facts)
    }

    fn slot(&self) -> Slot<'_> {
        Slot {
            app: self.request.app,
            choice: &self.want.choice,
            nic: &self.want.nic,
            family: self.family,
        }
    }

    fn owner(&self) -> Owner {
        self.request.owner(&self.want.nic)
    }

    async fn explained(&self) -> Vec<String> {
        explain::no_pool(self.request.context, &self.slot(), &self.want.facts, self.owner()).await
    }

    fn no_pool(&self, reasons: Vec<String>) -> RequestError {
        RequestError::NoPool {
            pod: self.request.pod_name(),
            nic: self.want.nic.clone(),
            family: self.family.to_string(),
            reasons,
        }
    }

    /// Waits until a candidate exists that was not tried in its present version and has a free address.
    async fn wait_for_pool(&self, reach: Reach, tried: &Versions, until: Instant) -> Result<Waited, RequestError> {
        let Request {
            context, args, cancel, ..
        } = self.request;
        let look = Look {
            owner: self.owner(),
            exact: self.exact,
            reserved: &context.pools.reserved(self.family),
        };
        let untried = |pool: &&Arc<SpiderIPPool>| tried.get(&pool.name_any()) != Some(&pool.resource_version());
        let found = |store: &Store<SpiderIPPool>| {
            let facts = &self.want.facts;
            let pools: Vec<Arc<SpiderIPPool>> = store.indexed(&facts.application).cloned().collect();
            let considered = self.slot().considered(&pools, reach);
            let pools: Vec<PoolFacts> = considered.iter().filter(untried).map(|pool| look.facts(pool)).collect();
            let verdicts = verdicts(&self.want.choice.asked, self.family, facts, &pools);
            (!verdicts.chosen.is_empty()).then_some(())
        };
        // A pod that is deleted meanwhile wants no address any more, and its DEL waits for this request to end. That the cache
        // does not have the pod says nothing: it may have been read live a moment before the cache does.
        let key = Key::new(&args.pod_namespace, &args.pod_name);
        let ended = |store: &Store<Pod>| {
            let pod = store.get(&key)?;
            (pods::has_uid(pod, self.request.uid()) && !pods::is_alive(pod)).then_some(())
        };
        let waiting = async {
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
        };
        cancel.or(args, waiting).await
    }
}

/// What a claim may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// There is an address.
    Fair,
    /// The counters of all candidates say that they are full.
    Full,
    /// No pool may serve, as far as is known without reading anything.
    NoPool,
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
