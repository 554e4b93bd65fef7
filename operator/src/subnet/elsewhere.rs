//! What a pass over one subnet means for others.

use spiderpool_ipam::autopool::{Blocked, Plan, Verdict};

use super::observe::{Purpose, Seen};
use super::placement::choose;
use super::room::room;
use crate::context::Context;

/// After a pass: applications that this subnet refused are placed elsewhere if they may be, and other subnets that have
/// something to do now are looked at.
pub fn look(context: &Context, seen: &Seen, plan: &Plan) {
    for (name, verdict) in &plan.verdicts {
        let refused = matches!(
            verdict,
            Verdict::Blocked(
                Blocked::Exhausted { .. }
                    | Blocked::Behind { .. }
                    | Blocked::AccountingLimit { .. }
                    | Blocked::Fragmented { .. }
                    | Blocked::SubnetTerminating
            )
        );
        let Some(Purpose::Serve { app, request, slot }) = seen.purposes.get(name).filter(|_| refused) else {
            continue;
        };
        if seen.pools.contains_key(name) || slot.subnets.len() < 2 {
            continue;
        }
        let slot_id = app.slot_id(slot);
        context.placements.forget(&slot_id);
        let others: Vec<String> = slot
            .subnets
            .iter()
            .filter(|other| *other != seen.name())
            .cloned()
            .collect();
        let place = context.placements.place(&slot_id, &app.uid, &others, || {
            choose(&others, |other| {
                room(context, other, &app.key, slot, request.size, name)
            })
            .map(str::to_owned)
        });
        if let Ok(place) = place {
            context.queues.subnets.add(place);
        }
    }
    for other in seen.elsewhere.iter().filter(|other| *other != seen.name()) {
        context.queues.subnets.add(other.clone());
    }
}
