//! What a pass tells users: on the workload, in words that say what to do.

use std::time::Duration;

use spiderpool_crds::native::{about_stuck, addresses};
use spiderpool_ipam::autopool::{Blocked, Plan, Verdict};

use super::apply::Done;
use super::fate::home;
use super::judge::held;
use super::observe::{Purpose, Refusal, Seen};
use super::placement::{Room, choose};
use super::room::room;
use super::world::siblings;
use crate::application::{Application, Asked, Slot};
use crate::context::Context;
use crate::events::{REPEAT, Reason, tell};

/// Tells what came of a pass. If somebody waits for something, says when the next pass is due whatever happens.
pub fn outcome(context: &Context, seen: &Seen, plan: &Plan, done: &Done) -> Option<Duration> {
    let mut waiting = false;
    let mut kept = REPEAT;
    for (name, verdict) in &plan.verdicts {
        let Some(Purpose::Serve { app, request, slot }) = seen.purposes.get(name) else {
            continue;
        };
        let what = about(app, slot);
        if done.written.contains(name)
            && let Some((reason, note)) = written(seen, name, verdict, &what, context.shrinking.from(name))
        {
            tracing::info!(pool = name, subnet = seen.name(), app = %app.key, "{note}");
            tell(&context.recorder, app.reference(), reason, &note);
        }
        let unfinished = unfinished(seen, name, verdict, &what, request.size);
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
    for Refusal { app, slot, subnets } in &seen.refusals {
        refused(context, app, slot, subnets);
    }
    (waiting || !seen.refusals.is_empty()).then_some(kept)
}

/// Tells the applications that name a subnet which does not exist, or whose network does not parse, and that have no other
/// choice. The others are placed elsewhere. Says whether there are any that wait.
pub fn unusable_subnet(context: &Context, name: &str) -> bool {
    let mut waiting = false;
    for app in context.applications.naming(name) {
        let Some(request) = app.asked.request().filter(|_| !app.terminating) else {
            continue;
        };
        for slot in request
            .slots
            .iter()
            .filter(|slot| slot.subnets.iter().any(|it| it == name))
        {
            let slot_id = app.slot_id(slot);
            let usual = spiderpool_ipam::pool_name(&app.key.name, slot.family, &slot.nic, &app.uid);
            let room = |name: &str| room(context, name, &app.key, slot, request.size, &usual);
            let siblings = siblings(context, &slot_id);
            let place = match home(&app, slot, &siblings, |pool| held(context, pool)) {
                Some(pool) if pool.subnet == name => Err(vec![(name.to_owned(), room(name))]),
                Some(_) => continue,
                None => {
                    context.placements.leave(&slot_id, name);
                    let choose = || choose(&slot.subnets, room).map(str::to_owned);
                    context.placements.place(&slot_id, &app.uid, &slot.subnets, choose)
                }
            };
            match place {
                Ok(place) if place.wake => context.queues.subnets.add(place.subnet),
                Ok(_) => {}
                Err(subnets) => {
                    waiting = true;
                    refused(context, &app, slot, &subnets);
                }
            }
        }
    }
    waiting
}

/// Tells an application that none of its subnets has room for it. The pass over each of them does, in the same words, which
/// are one Event: whichever of them changes, it is told what stands in the way now.
fn refused(context: &Context, app: &Application, slot: &Slot, subnets: &[(String, Room)]) {
    if let Some((reason, note)) = refusal_note(app, slot, subnets) {
        context.waiting.set(app.slot_id(slot), reason);
        tell(&context.recorder, app.reference(), reason, &note);
    }
}

fn refusal_note(app: &Application, slot: &Slot, subnets: &[(String, Room)]) -> Option<(Reason, String)> {
    let wanted = app.asked.request().map_or(0, |request| request.size);
    let told: Vec<_> = subnets
        .iter()
        .map(|(name, room)| refusal(name, room, slot, wanted))
        .collect();
    let (reason, _) = told.first()?;
    let texts: Vec<&str> = told.iter().map(|(_, text)| text.as_str()).collect();
    let note = format!("{} cannot be made: {}", about(app, slot), texts.join("; "));
    Some((*reason, note))
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
        let note = about_stuck(request.size, stuck);
        tell(&context.recorder, app.reference(), Reason::SurgeBlocked, &note);
    }
}

fn about(app: &Application, slot: &Slot) -> String {
    format!(
        "the {} pool of {} {} for {}",
        slot.family, app.key.kind, app.key.name, slot.nic
    )
}

fn refusal(name: &str, room: &Room, slot: &Slot, wanted: u128) -> (Reason, String) {
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
        Room::Short => (
            Reason::SubnetExhausted,
            format!(
                "SpiderSubnet {name} has fewer than {} free; add some to its spec.ips",
                addresses(wanted)
            ),
        ),
        Room::Refused => (
            Reason::SubnetExhausted,
            format!("SpiderSubnet {name} has nothing for it at the moment; add addresses to its spec.ips"),
        ),
        Room::Limited(why) => limited(name, why),
        Room::Enough => (
            Reason::SubnetExhausted,
            format!("SpiderSubnet {name} is being looked at"),
        ),
    }
}

/// What was done. A pool that gives up addresses as pods go may do so in many steps: they are told as one, at its end, and
/// `began` is how many addresses it had before.
fn written(seen: &Seen, name: &str, verdict: &Verdict, what: &str, began: Option<u128>) -> Option<(Reason, String)> {
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
        Verdict::Grow { ranges, .. } => Some(resized(name, what, before, ranges.count())),
        Verdict::Shrink { ranges, pending: 0 } => {
            let before = began.unwrap_or(before);
            Some(resized(name, what, before, ranges.count()))
        }
        Verdict::Shrink { .. } | Verdict::Nothing | Verdict::Blocked(_) => None,
    }
}

fn resized(name: &str, what: &str, before: u128, after: u128) -> (Reason, String) {
    let note = format!("resized {name}, {what}, from {before} to {}", addresses(after));
    (Reason::Resized, note)
}

/// What is yet to be done, or cannot be. It lasts, and is told again by each pass: no number in it may change meanwhile,
/// since another text is another Event.
fn unfinished(seen: &Seen, name: &str, verdict: &Verdict, what: &str, wanted: u128) -> Option<(Reason, String)> {
    let subnet = seen.name();
    match verdict {
        Verdict::Grow { short, .. } if *short > 0 => Some(too_small(subnet, name, what, wanted)),
        Verdict::Blocked(Blocked::Exhausted { .. }) => Some(if seen.pools.contains_key(name) {
            too_small(subnet, name, what, wanted)
        } else {
            (
                Reason::SubnetExhausted,
                format!(
                    "{what} cannot be made: it needs {}, and SpiderSubnet {subnet} has fewer free; add addresses to \
                     spec.ips of the subnet",
                    addresses(wanted)
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
                "{name}, {what}, gives up addresses as the pods that use them go, until it has {}",
                addresses(wanted)
            ),
        )),
        Verdict::Blocked(Blocked::SubnetTerminating) => Some((
            Reason::SubnetTerminating,
            format!("{what} cannot be made or changed: SpiderSubnet {subnet} is being deleted; name another one"),
        )),
        Verdict::Blocked(Blocked::SubnetUnusable) => {
            let problem = seen.problem.as_deref().unwrap_or_default();
            let note = format!("{what} gets no addresses: SpiderSubnet {subnet} cannot be used: {problem}");
            Some((Reason::SubnetInvalid, note))
        }
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
        Blocked::AccountingLimit { .. } => (
            Reason::AccountingLimit,
            format!(
                "the accounting in the status of SpiderSubnet {subnet} would become too long for the object; spread the \
                 applications over more subnets"
            ),
        ),
        Blocked::Fragmented { limit, .. } => (
            Reason::Fragmented,
            format!(
                "the free addresses of SpiderSubnet {subnet} lie so scattered that the pool would have more than {limit} \
                 ranges; add addresses in one piece to spec.ips of the subnet"
            ),
        ),
        _ => (
            Reason::SubnetExhausted,
            format!("SpiderSubnet {subnet} has no room for the pool"),
        ),
    }
}

fn too_small(subnet: &str, name: &str, what: &str, wanted: u128) -> (Reason, String) {
    (
        Reason::WaitingForAddresses,
        format!(
            "{name}, {what}, is to have {}, and SpiderSubnet {subnet} has too few free; add addresses to spec.ips of the \
             subnet",
            addresses(wanted)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnet::observe;
    use serde_json::json;
    use spiderpool_crds::SpiderSubnet;
    use spiderpool_ipam::{Family, text};
    use std::sync::Arc;

    fn seen() -> Seen {
        let subnet: SpiderSubnet = serde_json::from_value(json!({
            "apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderSubnet",
            "metadata": {"name": "rack7"}, "spec": {"subnet": "10.77.0.0/24"},
        }))
        .unwrap();
        let cidr = subnet.cidr().unwrap();
        observe::look(&Context::detached(), Arc::new(subnet), cidr)
    }

    #[tokio::test]
    async fn what_lasts_is_told_in_words_that_do_not_change_while_it_lasts() {
        let seen = seen();
        let told = |verdict| unfinished(&seen, "p", &verdict, "the pool", 11);
        let in_use = |pending| Verdict::Blocked(Blocked::InUse { pending });
        let short = |wanted, free| Verdict::Blocked(Blocked::Exhausted { wanted, free });
        let ranges = text::parse_ranges(Family::V4, &["10.77.0.1"]).unwrap();
        let grows = |short| Verdict::Grow {
            ranges: ranges.clone(),
            short,
        };
        for (one, other) in [
            (in_use(7), in_use(1)),
            (short(11, 7), short(9, 2)),
            (grows(10), grows(3)),
        ] {
            let (_, note) = told(one.clone()).unwrap();
            assert!(note.contains("11 addresses"), "{note}");
            assert_eq!(told(one), told(other));
        }
    }

    #[tokio::test]
    async fn a_shrink_in_many_steps_is_told_at_its_end() {
        let seen = seen();
        let ranges = text::parse_ranges(Family::V4, &["10.77.0.1-10.77.0.11"]).unwrap();
        let told = |pending, began| {
            let ranges = ranges.clone();
            written(&seen, "p", &Verdict::Shrink { ranges, pending }, "the pool", began)
        };
        assert_eq!(told(489, Some(500)), None);
        let note = "resized p, the pool, from 500 to 11 addresses".to_owned();
        assert_eq!(told(0, Some(500)), Some((Reason::Resized, note)));
    }
}
