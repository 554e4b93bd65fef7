//! What an agent does when the storage of the API server went back to an older state, as when etcd was restored from a backup.
//!
//! Pods run on with addresses that are on record nowhere any more, and what is on record may be of pods that have long gone. The
//! agent notices when a list or a read shows something older than it knew before, or when a sandbox that it finds at its start has an
//! address that nobody has on record, and no DEL was begun for it. Then it forgets every resourceVersion that it knew, gives out
//! nothing, and writes `status.restoring` into the pools, which holds all other agents up as well. Wherever an agent finds that, it
//! puts on record again what sandboxes of its node use, and adds its node. The operator ends it when all have done so, and where none runs, time does.

use crate::context::Context;
use crate::pools::{Count, JobError, Pause};
use crate::recheck;
use kube::ResourceExt;
use spiderpool_crds::SpiderIPPool;
use spiderpool_kit::cache::Change;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a pause lasts at most, where no operator ends it. Longer than the operator lets it last.
const LONGEST: Duration = Duration::from_secs(60);

/// Pause between two looks while there is something left to do.
const LOOK: Duration = Duration::from_secs(1);

/// How long one step may take.
const BUDGET: Duration = Duration::from_secs(10);

/// Runs until the process stops.
pub async fn run(context: Arc<Context>) {
    let mut changes = context.pools.cache().subscribe();
    let mut rewound = context.pools.rewound();
    let mut pauses = Pauses::default();
    let mut renewed = None;
    loop {
        let busy = step(&context, &mut pauses, &mut renewed).await;
        let news = async {
            loop {
                tokio::select! {
                    change = changes.next() => match change {
                        Some(Change::Applied { new, .. }) if new.is_restoring() => return true,
                        Some(Change::Resynced) => return true,
                        Some(_) => {}
                        None => return false,
                    },
                    () = rewound.changed() => return true,
                }
            }
        };
        let limit = if busy { LOOK } else { Duration::MAX };
        match tokio::time::timeout(limit, news).await {
            Ok(true) | Err(_) => {}
            Ok(false) => return,
        }
    }
}

/// Since when this process knows of the pauses, by pool. Their own time is that of another machine's clock.
type Pauses = HashMap<String, (String, Instant)>;

/// Does what there is to do; says whether something is left.
async fn step(context: &Context, pauses: &mut Pauses, renewed: &mut Option<Count>) -> bool {
    if context.synced().is_err() {
        return true;
    }
    if context.ready().is_ok() {
        context.pools.set_starting(false);
    }
    if !begin(context, renewed).await {
        return true;
    }
    let restoring = restoring(context);
    pauses.retain(|name, _| restoring.iter().any(|pool| pool.name_any() == *name));
    let silent: Vec<String> = restoring
        .iter()
        .filter(|pool| !has_asserted(pool, &context.node))
        .map(|pool| pool.name_any())
        .collect();
    if !silent.is_empty() && recheck::all(context).await {
        say(context, &silent, Pause::Assert).await;
    }
    let over: Vec<String> = restoring
        .iter()
        .filter(|pool| lasted(pauses, pool) >= LONGEST)
        .map(|pool| pool.name_any())
        .collect();
    say(context, &over, Pause::End).await;
    !restoring.is_empty() || context.ready().is_err()
}

/// Holds every pool up if the storage went back; says whether that is done. What was `renewed` for the same news stays.
async fn begin(context: &Context, renewed: &mut Option<Count>) -> bool {
    let Some(rewound) = context.pools.suspended() else {
        return true;
    };
    if *renewed != Some(rewound) && !renew(context).await {
        return false;
    }
    *renewed = Some(rewound);
    let pools = context.pools.cache().list();
    let others = pools
        .iter()
        .filter(|pool| !pool.is_restoring() && !pool.is_terminating());
    let names: Vec<String> = others.map(|pool| pool.name_any()).collect();
    let begun = say(context, &names, Pause::Begin).await;
    if begun {
        context.pools.resume(rewound);
    }
    begun
}

/// Drops every resourceVersion that is known; says whether that is done.
async fn renew(context: &Context) -> bool {
    tracing::error!(
        "the storage of the API server went back to an older state: nothing is given out until agents have told what their nodes use"
    );
    let deadline = Instant::now() + BUDGET;
    let renewed = tokio::join!(
        context.pods.renew(deadline),
        context.endpoints.renew(deadline),
        context.pools.reservations().renew(deadline),
        context.pools.cache().renew(deadline),
    );
    if let (Err(error), ..) | (_, Err(error), ..) | (_, _, Err(error), _) | (.., Err(error)) = renewed {
        tracing::warn!(%error, "not everything was read anew, trying again");
        return false;
    }
    context.pools.distrust();
    true
}

/// Says something of pools; tells whether all of them took it.
async fn say(context: &Context, pools: &[String], said: Pause) -> bool {
    let deadline = Instant::now() + BUDGET;
    let all = pools.iter().map(|pool| context.pools.pause(pool, said, deadline));
    let mut done = true;
    for (pool, answer) in pools.iter().zip(futures::future::join_all(all).await) {
        match answer {
            Ok(true) => tracing::warn!(pool, ?said, "a pause after a restore of the API server's storage"),
            Ok(false) => {}
            // It gives out nothing, and must not hold up all others.
            Err(error @ (JobError::Rejected { .. } | JobError::Refused { .. })) => {
                tracing::warn!(pool, ?said, %error, "a pool that cannot be used does not pause after a restore");
            }
            Err(error) => {
                tracing::warn!(pool, ?said, %error, "not said of a pause after a restore, trying again");
                done = false;
            }
        }
    }
    done
}

fn restoring(context: &Context) -> Vec<Arc<SpiderIPPool>> {
    let pools = context.pools.cache().list().into_iter();
    pools.filter(|pool| pool.is_restoring()).collect()
}

fn has_asserted(pool: &SpiderIPPool, node: &str) -> bool {
    let restoring = pool.status.as_ref().and_then(|status| status.restoring.as_ref());
    restoring.is_some_and(|restoring| restoring.asserted.iter().any(|known| known == node))
}

fn lasted(pauses: &mut Pauses, pool: &SpiderIPPool) -> Duration {
    let restoring = pool.status.as_ref().and_then(|status| status.restoring.as_ref());
    let since = restoring.map(|restoring| restoring.since.clone()).unwrap_or_default();
    let known = pauses
        .entry(pool.name_any())
        .or_insert_with(|| (since.clone(), Instant::now()));
    if known.0 != since {
        *known = (since, Instant::now());
    }
    known.1.elapsed()
}
