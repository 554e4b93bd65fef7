//! What a pass over one subnet means for others.

use spiderpool_ipam::autopool::{Blocked, Plan, Verdict};

use super::observe::{Purpose, Seen};
use super::placement::choose;
use super::refused::{Offer, REMEMBERED};
use super::room::{free, room};
use crate::context::Context;

/// After a pass: applications that this subnet refused are placed elsewhere if they may be, and other subnets that have
/// something to do now are looked at.
pub fn look(context: &Context, seen: &Seen, plan: &Plan) {
    let here = seen.name();
    for (name, verdict) in &plan.verdicts {
        let Verdict::Blocked(
            why @ (Blocked::Exhausted { .. }
            | Blocked::Behind { .. }
            | Blocked::AccountingLimit { .. }
            | Blocked::Fragmented { .. }
            | Blocked::SubnetTerminating
            | Blocked::SubnetUnusable),
        ) = verdict
        else {
            continue;
        };
        let Some(Purpose::Serve { app, request, slot }) = seen.purposes.get(name) else {
            continue;
        };
        if seen.pools.contains_key(name) || slot.subnets.len() < 2 {
            continue;
        }
        let (slot_id, placements) = (app.slot_id(slot), &context.placements);
        let offer = Offer {
            free: free(&seen.facts, &plan.entries),
            wanted: request.size,
        };
        placements.refused.add(&slot_id, here, offer);
        let others: Vec<String> = slot.subnets.iter().filter(|other| *other != here).cloned().collect();
        let choose = || {
            choose(&others, |other| {
                room(context, other, &app.key, slot, request.size, name)
            })
            .map(str::to_owned)
        };
        match choose() {
            Ok(other) => {
                placements.leave(&slot_id, here);
                if let Ok(place) = placements.place(&slot_id, &app.uid, &others, || Ok::<_, ()>(other)) {
                    context.queues.subnets.add(place.subnet);
                }
            }
            // Its turn comes here.
            Err(_) if matches!(why, Blocked::Behind { .. }) => placements.waits(&slot_id, here),
            Err(_) => {
                placements.leave(&slot_id, here);
                context.queues.subnets.add_after(here.to_owned(), REMEMBERED);
            }
        }
    }
    for other in seen.elsewhere.iter().filter(|other| *other != here) {
        context.queues.subnets.add(other.clone());
    }
}
