//! What the rule wants to know of a subject, read live: its endpoint, its pod, who may come after it.

use super::candidates::{Subject, Told, by_host, by_uid};
use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::pods::{self, PodState};
use crate::sandboxes::Said;
use crate::sticky;
use crate::tries;
use kube::{Api, ResourceExt};
use spiderpool_crds::pod::seen;
use spiderpool_crds::sticky::Keeper;
use spiderpool_crds::{NicDetail, SpiderEndpoint, SpiderIPPool};
use spiderpool_ipam::reclaim::{Facts, Moment, Node, Pod as Seen, Sandboxes, Standing, Trace};
use spiderpool_kit::clock;
use std::net::IpAddr;
use tokio::time::Instant;

/// What is at a subject's place.
pub(super) enum Found {
    /// Nothing to decide about.
    Nothing,
    /// This.
    Case(Box<Case>),
}

/// A subject as it is now.
pub(super) struct Case {
    pub(super) facts: Facts,
    /// The endpoint, where it is the subject.
    pub(super) endpoint: Option<SpiderEndpoint>,
    /// When more will be known of the sandboxes.
    pub(super) again: Option<Instant>,
}

/// The time by the clock of this machine.
pub(crate) fn now() -> Moment {
    Moment(clock::now().as_second())
}

/// Reads what there is at a subject's place. It was on record before everything else is read, so a pod that is not found is gone
/// for ever.
pub(super) async fn at(context: &Context, subject: &Subject, deadline: Instant) -> Result<Found, RequestError> {
    let key = subject.pod();
    let Some((namespace, name)) = key.split_once('/') else {
        return Ok(Found::Nothing);
    };
    let endpoint = endpoints::read(context, namespace, name, deadline).await?;
    let uid = subject.uid();
    let own = endpoint.as_ref().filter(|endpoint| endpoint.status.current.uid == uid);
    let pod = match (subject, own) {
        (Subject::Endpoint { .. }, Some(own)) if own.status.current.node == context.node => {
            sticky::pod_name(context, own)
        }
        // It is another one's, and what is on record for the subject is a subject of its own.
        (Subject::Endpoint { .. }, _) | (Subject::Record { .. }, Some(_)) => return Ok(Found::Nothing),
        // The pods of a virtual machine have names of their own.
        (Subject::Record { .. }, None) => by_uid(context, uid).map_or_else(|| name.to_owned(), |pod| pod.name_any()),
    };
    let found = match pods::live(context, namespace, &pod, uid, deadline).await? {
        PodState::Alive(pod) | PodState::Terminating(pod) | PodState::Finished(pod) => Some(seen(&pod)),
        PodState::Gone { .. } => None,
    };
    let case = match (subject, endpoint) {
        (Subject::Endpoint { .. }, Some(endpoint)) => of_endpoint(context, endpoint, found, deadline).await?,
        (_, endpoint) => of_record(context, subject, endpoint.as_ref(), found, deadline).await?,
    };
    Ok(Found::Case(Box::new(case)))
}

async fn of_endpoint(
    context: &Context,
    endpoint: SpiderEndpoint,
    pod: Option<Seen>,
    deadline: Instant,
) -> Result<Case, RequestError> {
    let current = &endpoint.status.current;
    let trace = match is_recorded(context, &endpoint, deadline).await? {
        true => Trace::Endpoint,
        false => Trace::Unrecorded,
    };
    let keeper = sticky::keeper(&context.config, &endpoint);
    let standing = standing(context, keeper.as_slice(), &current.uid, deadline).await?;
    let host = context.sandboxes.look().await;
    let said = Told::by(current).said(context, &host, &current.uid);
    Ok(Case {
        facts: Facts {
            trace,
            pod,
            standing,
            node: Node::Own,
            sandboxes: match said.word {
                // There is no address to free, and whoever comes late to an endpoint that was removed loses nothing.
                Sandboxes::Unsaid if trace == Trace::Unrecorded => Sandboxes::None,
                word => word,
            },
        },
        again: said.again,
        endpoint: Some(endpoint),
    })
}

async fn of_record(
    context: &Context,
    subject: &Subject,
    endpoint: Option<&SpiderEndpoint>,
    pod: Option<Seen>,
    deadline: Instant,
) -> Result<Case, RequestError> {
    let uid = subject.uid();
    let (own, alike) = sticky::keepers_beside(&context.config, endpoint, &subject.pod());
    let of_alike = standing(context, &alike, uid, deadline).await?;
    let standing = match of_alike {
        Standing::Stays => Standing::Stays,
        Standing::Ends | Standing::Passing => match standing(context, &own, uid, deadline).await? {
            Standing::Passing => of_alike,
            found => found,
        },
    };
    let trace = match (endpoint, subject) {
        (Some(endpoint), Subject::Record { pool, ip, .. }) if names(endpoint, pool, *ip) => Trace::TakenOver,
        (Some(_), _) if of_alike != Standing::Stays => Trace::Replaced,
        (Some(_) | None, _) => Trace::Record,
    };
    let host = context.sandboxes.look().await;
    let Said { word, again } = by_host(context, &host, uid, &[]);
    Ok(Case {
        facts: Facts {
            trace,
            pod,
            standing,
            node: Node::Own,
            sandboxes: word,
        },
        endpoint: None,
        again,
    })
}

impl Case {
    /// Notes in the endpoint that no sandbox is left, as the DELs that did not come would have.
    pub(super) async fn say_gone(&self, context: &Context, deadline: Instant) -> Result<(), RequestError> {
        let Some(endpoint) = self
            .endpoint
            .clone()
            .filter(|_| self.facts.sandboxes == Sandboxes::None)
        else {
            return Ok(());
        };
        if endpoint
            .status
            .current
            .ips
            .iter()
            .all(|item| item.container_id.is_none())
        {
            return Ok(());
        }
        endpoints::clear_sandboxes(context, endpoint, deadline).await
    }
}

/// Whether the addresses wait for another pod.
async fn standing(
    context: &Context,
    keepers: &[Keeper],
    uid: &str,
    deadline: Instant,
) -> Result<Standing, RequestError> {
    for keeper in keepers {
        let stays = sticky::stays(context, keeper, deadline).await?
            || (keeper.is_machine() && sticky::running(context, keeper, uid, deadline).await?.is_some());
        if stays {
            return Ok(Standing::Stays);
        }
    }
    Ok(match keepers {
        [] => Standing::Passing,
        _ => Standing::Ends,
    })
}

/// Whether a pool has something on record for the pod of an endpoint, or one of its addresses for another pod of the name. That none
/// has is read live.
async fn is_recorded(context: &Context, endpoint: &SpiderEndpoint, deadline: Instant) -> Result<bool, RequestError> {
    let current = &endpoint.status.current;
    if !context.pools.recording(&current.uid).is_empty() {
        return Ok(true);
    }
    let pod = format!("{}/{}", endpoint.namespace().unwrap_or_default(), endpoint.name_any());
    let named = current.ips.iter().flat_map(NicDetail::addresses);
    for (ip, pool) in named.filter_map(|(ip, pool)| Some((ip, pool?))) {
        let api: Api<SpiderIPPool> = Api::all(context.client.clone());
        let found = tries::read(format!("read IPPool {pool}"), deadline, || api.get_opt(pool)).await?;
        let Some(found) = found else { continue };
        // Records that cannot be read may be anybody's.
        let recorded = found.records().map_or(true, |records| {
            let of_pod = records.iter().any(|(_, record)| record.pod_uid == current.uid);
            of_pod || records.get(ip).is_some_and(|record| record.pod == pod)
        });
        if recorded {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an endpoint names an address of a pool.
fn names(endpoint: &SpiderEndpoint, pool: &str, ip: IpAddr) -> bool {
    let mut named = endpoint.status.current.ips.iter().flat_map(NicDetail::addresses);
    named.any(|(address, of)| address == ip && of == Some(pool))
}
