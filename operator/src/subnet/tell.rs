//! What a pass tells users: on the workload, in words that say what to do.

use std::time::Duration;

use spiderpool_crds::names::ANNOTATION_IP_NUMBER;
use spiderpool_ipam::autopool::{Blocked, Plan, Verdict};

use super::apply::Done;
use super::observe::{Purpose, Refusal, Seen};
use super::placement::Room;
use crate::application::{Application, Asked, Slot};
use crate::context::Context;
use crate::events::{REPEAT, Reason, tell};

/// Tells what came of a pass. If somebody waits for something, says when the next pass is due whatever happens.
pub fn outcome(context: &Context, seen: &Seen, plan: &Plan, done: &Done) -> Option<Duration> {
    let mut waiting = false;
    let mut kept = REPEAT;
    for (name, verdict) in &plan.verdicts {
        let Some(Purpose::Serve { app, slot, .. }) = seen.purposes.get(name) else {
            continue;
        };
        let what = about(app, slot);
        if done.written.contains(name)
            && let Some((reason, note)) = written(seen, name, verdict, &what)
        {
            tracing::info!(pool = name, subnet = seen.name(), app = %app.key, "{note}");
            tell(&context.recorder, app.reference(), reason, &note);
        }
        let unfinished = unfinished(seen, name, verdict, &what);
        let slot_id = app.slot_id(slot);
        match &unfinished {
            Some((reason, _)) if *reason != Reason::Shrinking => context.waiting.set(slot_id.clone(), *reason),
            Some(_) | None => context.waiting.clear(&slot_id),
        }
        if let Verdict::Blocked(Blocked::Exhausted { free, .. }) = verdict {
            context.waiting.sees(&slot_id, *free);
            // When that ends, others may have what is free.
            kept = kept.min(context.waiting.kept(&slot_id).unwrap_or(REPEAT));
        }
        if let Some((reason, note)) = unfinished {
            waiting = true;
            tell(&context.recorder, app.reference(), reason, &note);
        }
    }
    for (name, why) in &done.refused {
        if let Some(Purpose::Serve { app, .. }) = seen.purposes.get(name) {
            let note = format!("the API server refused pool {name}: {why}");
            tell(&context.recorder, app.reference(), Reason::PoolRefused, &note);
        }
    }
    let refused = refusals(context, &seen.refusals, seen.name());
    (waiting || refused).then_some(kept)
}

/// Tells the applications that name a subnet which does not exist. Says whether there are any.
pub fn missing_subnet(context: &Context, name: &str) -> bool {
    hopeless(context, name, &Room::Missing)
}

/// Tells the applications that name a subnet whose spec does not parse. Says whether there are any.
pub fn unusable_subnet(context: &Context, name: &str) -> bool {
    let room = Room::Invalid("its spec does not parse; see its condition Ready".to_owned());
    hopeless(context, name, &room)
}

/// Applications with another choice are told by the pass over that one, unless this is their first.
fn hopeless(context: &Context, name: &str, room: &Room) -> bool {
    let mut waiting = false;
    for app in context.applications.naming(name) {
        let slots = app
            .asked
            .request()
            .map(|request| request.slots.as_slice())
            .unwrap_or_default();
        for slot in slots.iter().filter(|slot| slot.subnets.contains(&name.to_owned())) {
            let others = slot.subnets.iter().filter(|other| *other != name);
            others.for_each(|other| {
                if context.caches.subnets.get("", other).is_some() {
                    context.queues.subnets.add(other.clone());
                }
            });
            if slot.subnets.len() == 1 {
                waiting = true;
                let (reason, text) = refusal(name, room, slot);
                let note = format!("{} cannot be made: {text}", about(&app, slot));
                context.waiting.set(app.slot_id(slot), reason);
                tell(&context.recorder, app.reference(), reason, &note);
            }
        }
    }
    waiting
}

/// Tells the applications that none of their subnets has room for. Each is told by the pass over the first of its subnets
/// that exists, since a pass runs for each of them.
fn refusals(context: &Context, refusals: &[Refusal], here: &str) -> bool {
    for Refusal { app, slot, subnets } in refusals {
        let first = subnets.iter().find(|(_, room)| *room != Room::Missing);
        if first.is_some_and(|(name, _)| name != here) {
            continue;
        }
        let told: Vec<_> = subnets.iter().map(|(name, room)| refusal(name, room, slot)).collect();
        let Some((reason, _)) = told.first() else { continue };
        let texts: Vec<&str> = told.iter().map(|(_, text)| text.as_str()).collect();
        let note = format!("{} cannot be made: {}", about(app, slot), texts.join("; "));
        context.waiting.set(app.slot_id(slot), *reason);
        tell(&context.recorder, app.reference(), *reason, &note);
    }
    !refusals.is_empty()
}

/// What is wrong with what an application asks for, whatever its subnets have to offer.
pub fn remarks(context: &Context, app: &Application) {
    let request = match &app.asked {
        Asked::Unclear(error) => {
            let note = format!("{error}; until then its pools stay as they are");
            tell(&context.recorder, app.reference(), Reason::AnnotationInvalid, &note);
            return;
        }
        Asked::Nothing => return,
        Asked::Pools(request) => request,
    };
    if let Some(wanted) = request.beyond_limit {
        let note = format!(
            "it asks for {} in each pool and gets {}: the configuration allows no more for one application; make it \
             smaller, or have autoPool.maxAddresses of the chart raised",
            addresses(wanted),
            request.size
        );
        tell(&context.recorder, app.reference(), Reason::LimitExceeded, &note);
    }
    if let Some(stuck) = request.stuck {
        let note = format!(
            "a rolling update would not go on: it starts a new pod before an old one goes, and the pools have {}, none to \
             spare; write {ANNOTATION_IP_NUMBER}: \"+{}\" into the pod template, or allow a pod to be unavailable",
            addresses(request.size),
            stuck.write
        );
        tell(&context.recorder, app.reference(), Reason::SurgeBlocked, &note);
    }
}

fn about(app: &Application, slot: &Slot) -> String {
    format!(
        "the {} pool of {} {} for {}",
        slot.family, app.key.kind, app.key.name, slot.nic
    )
}

fn refusal(name: &str, room: &Room, slot: &Slot) -> (Reason, String) {
    match room {
        Room::Missing => (
            Reason::SubnetNotFound,
            format!("SpiderSubnet {name} does not exist; make it or correct the annotation"),
        ),
        Room::WrongFamily => (
            Reason::SubnetWrongFamily,
            format!(
                "SpiderSubnet {name} has no {} addresses; name it under the other family",
                slot.family
            ),
        ),
        Room::Terminating => (
            Reason::SubnetTerminating,
            format!("SpiderSubnet {name} is being deleted; name another one"),
        ),
        Room::Invalid(why) => (
            Reason::SubnetInvalid,
            format!("SpiderSubnet {name} cannot be used: {why}"),
        ),
        Room::Short { free } => (
            Reason::SubnetExhausted,
            format!(
                "SpiderSubnet {name} has only {} free; add some to its spec.ips",
                addresses(*free)
            ),
        ),
        Room::Limited(why) => limited(name, why),
        Room::Enough => (
            Reason::SubnetExhausted,
            format!("SpiderSubnet {name} is being looked at"),
        ),
    }
}

fn written(seen: &Seen, name: &str, verdict: &Verdict, what: &str) -> Option<(Reason, String)> {
    let before = seen
        .pools
        .get(name)
        .and_then(|pool| pool.total().ok())
        .unwrap_or_default()
        .count();
    match verdict {
        Verdict::Create(ranges) => Some((
            Reason::Created,
            format!(
                "made {name}, {what}, with {} addresses of SpiderSubnet {}",
                ranges.count(),
                seen.name()
            ),
        )),
        Verdict::Grow { ranges, .. } | Verdict::Shrink { ranges, .. } => Some((
            Reason::Resized,
            format!("resized {name}, {what}, from {before} to {}", addresses(ranges.count())),
        )),
        Verdict::Nothing | Verdict::Blocked(_) => None,
    }
}

fn unfinished(seen: &Seen, name: &str, verdict: &Verdict, what: &str) -> Option<(Reason, String)> {
    let subnet = seen.name();
    if let (Some(problem), Verdict::Blocked(Blocked::Exhausted { .. })) = (&seen.problem, verdict) {
        let note = format!("{what} gets no addresses: SpiderSubnet {subnet} cannot be used: {problem}");
        return Some((Reason::SubnetInvalid, note));
    }
    match verdict {
        Verdict::Grow { short, .. } if *short > 0 => Some(too_small(subnet, name, what, *short)),
        Verdict::Blocked(Blocked::Exhausted { wanted, free }) => Some(if seen.pools.contains_key(name) {
            too_small(subnet, name, what, wanted.saturating_sub(*free))
        } else {
            (
                Reason::SubnetExhausted,
                format!(
                    "{what} cannot be made: it needs {}, and SpiderSubnet {subnet} has {free} free; add addresses to \
                     spec.ips of the subnet",
                    addresses(*wanted)
                ),
            )
        }),
        Verdict::Blocked(Blocked::Behind { pool }) => Some((
            Reason::WaitingForAddresses,
            format!(
                "{name}, {what}, waits behind pool {pool}, which has waited longer for addresses of SpiderSubnet {subnet} and \
                 needs more than are free; add addresses to spec.ips of the subnet"
            ),
        )),
        Verdict::Shrink { pending, .. } | Verdict::Blocked(Blocked::InUse { pending }) if *pending > 0 => Some((
            Reason::Shrinking,
            format!(
                "{name}, {what}, gives up {} more when the pods that use them are gone",
                addresses(*pending)
            ),
        )),
        Verdict::Blocked(Blocked::SubnetTerminating) => Some((
            Reason::SubnetTerminating,
            format!("{what} cannot be made or changed: SpiderSubnet {subnet} is being deleted; name another one"),
        )),
        Verdict::Blocked(why @ (Blocked::AccountingLimit { .. } | Blocked::Fragmented { .. })) => {
            let (reason, text) = limited(subnet, why);
            Some((reason, format!("{what} cannot be made or grow: {text}")))
        }
        Verdict::Blocked(Blocked::PoolTerminating) => Some((
            Reason::PoolTerminating,
            format!(
                "{name}, {what}, is being deleted; a new one is made when the last pod with an address of it is gone"
            ),
        )),
        Verdict::Blocked(Blocked::NameTaken) => Some((
            Reason::PoolRefused,
            format!("{what} cannot be made: a pool named {name} exists and is not its own; delete or rename that one"),
        )),
        Verdict::Nothing
        | Verdict::Create(_)
        | Verdict::Grow { .. }
        | Verdict::Shrink { .. }
        | Verdict::Blocked(Blocked::InUse { .. }) => None,
    }
}

/// Why a subnet gives nothing although it has addresses.
fn limited(subnet: &str, why: &Blocked) -> (Reason, String) {
    match why {
        Blocked::AccountingLimit { bytes, limit } => (
            Reason::AccountingLimit,
            format!(
                "the accounting in the status of SpiderSubnet {subnet} would have {bytes} bytes, and may have {limit}; \
                 spread the applications over more subnets"
            ),
        ),
        Blocked::Fragmented { ranges, limit } => (
            Reason::Fragmented,
            format!(
                "the free addresses of SpiderSubnet {subnet} lie so scattered that the pool would have {ranges} ranges, \
                 and may have {limit}; add addresses in one piece to spec.ips of the subnet"
            ),
        ),
        _ => (
            Reason::SubnetExhausted,
            format!("SpiderSubnet {subnet} has no room for the pool"),
        ),
    }
}

fn too_small(subnet: &str, name: &str, what: &str, short: u128) -> (Reason, String) {
    (
        Reason::WaitingForAddresses,
        format!(
            "{name}, {what}, lacks {} that SpiderSubnet {subnet} does not have; add addresses to spec.ips of the subnet",
            addresses(short)
        ),
    )
}

fn addresses(count: u128) -> String {
    if count == 1 {
        "1 address".to_owned()
    } else {
        format!("{count} addresses")
    }
}
