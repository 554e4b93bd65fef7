//! Puts back on record what a sandbox of this node uses and no pool has on record.
//!
//! While a node was lost its addresses may have been freed, by the policy for lost nodes or by somebody's hand; or the API server's
//! data were restored from a time before they were given. The node may come back with its sandboxes running. As long as such an
//! address is free, it is recorded for its pod again, whatever else the pool refuses; if it is another pod's by now, two use one
//! address, and both are told of in an Event. Nobody but a user can tell which of them shall have it.
//!
//! An agent does this before it serves the first request, and later for each pool whose records changed.

use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::pods::{self, PodState};
use crate::pools::{JobError, Succession};
use crate::sandboxes::{Attachment, Look};
use crate::sticky::{self, Identity};
use crate::{sweep, tell};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::records::PoolRecords;
use spiderpool_crds::{NicDetail, SpiderEndpoint, SpiderIPPool};
use spiderpool_ipam::reclaim::Sandboxes;
use spiderpool_ipam::{Owner, RangeSet, addr};
use spiderpool_kit::backoff::Backoff;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long a starting agent may be busy with it before it serves requests. What is left then is done beside these.
const AT_START: Duration = Duration::from_secs(30);

/// Pods that are looked at at a time. What they need of one pool goes into one write.
const AT_A_TIME: usize = 32;

/// How long one pod may take.
const BUDGET: Duration = Duration::from_secs(10);

/// Pauses before another try.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Checks everything, and then lets requests in.
pub async fn start(context: Arc<Context>) {
    // No request is served before that, and it may take as long as the API server is away.
    while context.wait_synced(Instant::now() + AT_START).await.is_err() {
        sleep(FIRST_PAUSE).await;
    }
    let check = async {
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while !all(&context).await {
            sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    };
    if timeout(AT_START, check).await.is_err() {
        tracing::warn!("serving requests before all sandboxes of the node were compared with the pools' records");
    }
    context.rechecked.send_replace(true);
}

/// Checks every endpoint of this node, and every sandbox that no endpoint tells of. Says whether all was done that there was to do.
pub async fn all(context: &Context) -> bool {
    let pools = context.pools.cache().list();
    let endpoints = pools_of(context, &pools.iter().map(|pool| pool.name_any()).collect()).await;
    let sandboxes = sandboxes(context).await;
    endpoints && sandboxes
}

/// Checks the sandboxes of pods whose endpoints are gone, if they are there: the operator may have freed what they use while it could
/// not reach this node.
pub async fn ended(context: &Context, uids: &BTreeSet<String>) {
    let host = context.sandboxes.look().await;
    let mut found = host.attachments().into_iter();
    if found.any(|attachment| uids.contains(&attachment.uid)) {
        of_host(context, &host).await;
    }
}

/// Checks the endpoints of this node with addresses of these pools.
pub async fn pools(context: &Context, changed: &BTreeSet<String>) {
    let _ = pools_of(context, changed).await;
}

async fn pools_of(context: &Context, changed: &BTreeSet<String>) -> bool {
    let mut known = Known::default();
    let mut found = context.endpoints.list();
    found.retain(|endpoint| {
        endpoint.status.current.node == context.node && !known.lost(context, endpoint, changed).is_empty()
    });
    let mut looks = Vec::new();
    for endpoint in found {
        looks.push(async move {
            let (pod, uid) = (endpoint.name_any(), &endpoint.status.current.uid);
            is_done(&pod, uid, &of_endpoint(context, &endpoint).await)
        });
    }
    all_done(looks).await
}

async fn all_done<F: Future<Output = bool>>(looks: Vec<F>) -> bool {
    let looks = futures::stream::iter(looks).buffer_unordered(AT_A_TIME);
    looks.fold(true, |all, done| async move { all && done }).await
}

fn is_done(pod: &str, uid: &str, outcome: &Result<(), RequestError>) -> bool {
    if let Err(error) = outcome {
        tracing::warn!(pod, uid, %error, "an address that a sandbox uses is not back on record yet");
    }
    outcome.is_ok()
}

/// Pools that were read.
#[derive(Default)]
struct Known(HashMap<String, Option<PoolRecords>>);

impl Known {
    /// What a sandbox of an endpoint has and these pools, as cached, do not have on record for its pod. Of a pool that does not exist
    /// or cannot be read nothing is known.
    fn lost(&mut self, context: &Context, endpoint: &SpiderEndpoint, pools: &BTreeSet<String>) -> Vec<Lost> {
        let current = &endpoint.status.current;
        let set_up = current.ips.iter().filter(|item| item.container_id.is_some());
        let all = set_up.flat_map(|item| item.addresses().map(move |(ip, pool)| (item, ip, pool)));
        let mut lost = Vec::new();
        for (item, ip, pool) in all {
            let Some(pool) = pool.filter(|pool| pools.contains(*pool)) else {
                continue;
            };
            if self.has(context, pool, ip, &current.uid) == Some(false) {
                lost.push(Lost::of(item, ip, pool));
            }
        }
        lost
    }

    /// Whether a pool, as cached, has an address on record for a pod, if that can be told.
    fn has(&mut self, context: &Context, pool: &str, ip: IpAddr, uid: &str) -> Option<bool> {
        let records = self.0.entry(pool.to_owned()).or_insert_with(|| {
            let cached: Option<Arc<SpiderIPPool>> = context.pools.cache().get("", pool);
            cached.and_then(|pool| pool.records().ok())
        });
        let records = records.as_ref()?;
        Some(records.get(ip).is_some_and(|record| record.pod_uid == uid))
    }
}

/// An address that is on record for nobody, or for somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lost {
    nic: String,
    ip: IpAddr,
    pool: String,
}

impl Lost {
    fn of(item: &NicDetail, ip: IpAddr, pool: &str) -> Self {
        Self {
            nic: item.interface.clone(),
            ip,
            pool: pool.to_owned(),
        }
    }
}

/// Looks live at an endpoint whose addresses are not on record, as far as the caches tell.
async fn of_endpoint(context: &Context, seen: &SpiderEndpoint) -> Result<(), RequestError> {
    let uid = &seen.status.current.uid;
    let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
    // A DEL frees the addresses before it removes the endpoint.
    let _turn = context.turns.take(uid).await;
    let deadline = Instant::now() + BUDGET;
    let Some(endpoint) = endpoints::read(context, &namespace, &name, deadline).await? else {
        return Ok(());
    };
    let current = &endpoint.status.current;
    if current.uid != *uid || current.node != context.node {
        return Ok(());
    }
    let pod = sticky::pod_name(context, &endpoint);
    let pod = match pods::live(context, &namespace, &pod, uid, deadline).await? {
        PodState::Alive(pod) | PodState::Terminating(pod) => pod,
        // What has ended is freed, whoever has it on record.
        PodState::Finished(_) | PodState::Gone { .. } => return Ok(()),
    };
    let containers: Vec<&str> = current
        .ips
        .iter()
        .filter_map(|item| item.container_id.as_deref())
        .collect();
    let host = context.sandboxes.look().await;
    let is_gone = sweep::counts(context, &host) && host.of(uid, &containers).word == Sandboxes::None;
    if containers.is_empty() || is_gone {
        // The next ADD of the pod claims anew.
        return Ok(());
    }
    let all = context.pools.cache().list();
    let all = all.iter().map(|pool| pool.name_any()).collect();
    for lost in Known::default().lost(context, &endpoint, &all) {
        let items = current.ips.iter().filter(|item| item.interface == lost.nic);
        let used = Used {
            pod: Some(&pod),
            key: format!("{namespace}/{name}"),
            uid,
            containers: items.filter_map(|item| item.container_id.as_deref()).collect(),
            host: &host,
        };
        if !used.is_ended(&host, &lost.nic) {
            used.restore(context, &lost, deadline).await?;
        }
    }
    Ok(())
}

/// Checks the sandboxes that the runtime set up with addresses of ours, whether or not the API server knows of their pods: until the
/// kubelet ends one whose pod is gone, it uses what it was given.
pub async fn sandboxes(context: &Context) -> bool {
    of_host(context, &context.sandboxes.look().await).await
}

async fn of_host(context: &Context, host: &Look<'_>) -> bool {
    let pools = context.pools.cache().list();
    let pools: Vec<(Arc<SpiderIPPool>, RangeSet)> = pools
        .into_iter()
        .filter_map(|pool| pool.total().ok().map(|total| (pool, total)))
        .collect();
    let mut known = Known::default();
    let mut looks = Vec::new();
    for attachment in host.attachments() {
        for ip in &attachment.addresses {
            let bits = addr::to_bits(*ip).1;
            let mut of_ip = pools.iter().filter(|(pool, total)| {
                total.contains(bits) && pool.cidr().is_ok_and(|cidr| cidr.family() == addr::to_bits(*ip).0)
            });
            let Some((pool, _)) = of_ip.next() else { continue };
            if known.has(context, &pool.name_any(), *ip, &attachment.uid) != Some(false) {
                continue;
            }
            let lost = Lost {
                nic: attachment.nic.clone(),
                ip: *ip,
                pool: pool.name_any(),
            };
            looks.push(async move {
                let Attachment { pod, uid, .. } = attachment;
                is_done(pod, uid, &of_sandbox(context, host, attachment, &lost).await)
            });
        }
    }
    all_done(looks).await
}

/// Looks again at a sandbox of whose addresses one is not on record, as far as the caches tell.
async fn of_sandbox(
    context: &Context,
    host: &Look<'_>,
    attachment: &Attachment,
    lost: &Lost,
) -> Result<(), RequestError> {
    let Attachment {
        namespace, pod, uid, ..
    } = attachment;
    // Its DEL may have come.
    let _turn = context.turns.take(uid).await;
    let deadline = Instant::now() + BUDGET;
    if !host.is_there(attachment) {
        return Ok(());
    }
    let found = match pods::live(context, namespace, pod, uid, deadline).await? {
        PodState::Alive(pod) | PodState::Terminating(pod) | PodState::Finished(pod) => Some(pod),
        PodState::Gone { .. } => None,
    };
    let key = found.as_ref().map_or_else(
        || format!("{namespace}/{pod}"),
        |pod| Identity::of(&context.config, pod).key(),
    );
    let used = Used {
        pod: found.as_deref(),
        key,
        uid,
        containers: vec![&attachment.container],
        host,
    };
    used.restore(context, lost, deadline).await
}

/// Whose address it is that is not on record, and what the node showed of the sandbox.
struct Used<'a> {
    pod: Option<&'a Pod>,
    key: String,
    uid: &'a str,
    containers: Vec<&'a str>,
    host: &'a Look<'a>,
}

impl Used<'_> {
    /// Whether a DEL came, which frees the address, or did so and was cut short.
    fn is_ended(&self, host: &Look<'_>, nic: &str) -> bool {
        self.containers.iter().any(|container| host.is_ended(container, nic))
    }

    /// Looks again after the address was found to be on record for nobody: a DEL that an agent served which has not ended yet came
    /// before that.
    async fn is_there(&self, context: &Context, nic: &str) -> bool {
        let host = context.sandboxes.look().await;
        let has_gone = self.host.knows(self.uid) && !host.knows(self.uid) && host.is_complete();
        let is_gone = sweep::counts(context, &host) && host.of(self.uid, &self.containers).word == Sandboxes::None;
        !has_gone && !is_gone && !self.is_ended(&host, nic)
    }

    async fn restore(&self, context: &Context, lost: &Lost, deadline: Instant) -> Result<(), RequestError> {
        let Lost { nic, ip, pool } = lost;
        let Self { pod, key, uid, .. } = self;
        let owner = || Owner {
            pod: key.clone(),
            uid: (*uid).to_owned(),
            nic: Some(nic.clone()),
        };
        let mut answer = context.pools.restore(pool, *ip, owner(), false, deadline).await;
        if matches!(answer, Err(JobError::Unrecorded { .. })) {
            if !self.is_there(context, nic).await {
                return Ok(());
            }
            answer = context.pools.restore(pool, *ip, owner(), true, deadline).await;
        }
        let why = match answer {
            Ok(Succession::Own { written }) => {
                if written {
                    context.metrics.restored();
                    tracing::warn!(pod = key, uid, nic, %ip, pool, "an address that a sandbox uses was on record for nobody, and is again");
                }
                return Ok(());
            }
            // Of one identity, the next pod has it by the word of whoever deleted this one.
            Ok(Succession::Other(holder)) if holder.uid == *uid || holder.pod == *key => return Ok(()),
            Ok(Succession::Other(holder)) => {
                let Owner { pod, uid, .. } = holder;
                format!(
                    "is on record for Pod {pod} (UID {uid}) now: delete the one of the two that shall have another address"
                )
            }
            Ok(Succession::Lost(why)) => format!("is not on record any more: {}", why.line(pool)),
            // The pool cannot be used by anybody, and says why itself.
            Err(JobError::Rejected { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        tracing::error!(pod = key, uid, nic, %ip, pool, why, "a pod lost its address");
        context.metrics.lost();
        if let Some(pod) = pod {
            let what = format!("the address {ip} of IPPool {pool}, which NIC {nic} of this pod uses, {why}");
            tell::lost(context, pod, &what);
        }
        Ok(())
    }
}
