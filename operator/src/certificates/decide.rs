//! What is to be done about CA and certificate, from what is there and what time it is. Without IO and clock.
//!
//! One rule is above all others: a certificate is served only when the API servers have had time to learn to trust its CA, and a CA
//! stays trusted until the last certificate of it is over. So a CA passes through three roles, in which it is always in every
//! `caBundle`: `next` (trusted, signs nothing yet), `signing`, `old` (its key is gone, what it signed may still be served).
//!
//! Each step is allowed by what was observed, not by the steps before it in the list: one that fails holds up no other.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::policy::{Policy, after};

/// Tells certificates apart.
pub type Id = [u8; 32];

/// When nothing is due, it is looked after this time all the same: clocks jump.
const AT_LEAST: SignedDuration = SignedDuration::from_hours(1);

/// What matters of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cert {
    /// Which one.
    pub id: Id,
    /// From when on it is valid.
    pub starts: Timestamp,
    /// From when on it is not valid any more.
    pub ends: Timestamp,
}

impl Cert {
    /// Whether it is valid at a time. One that is not valid yet was made by somebody whose clock is far ahead.
    pub fn lives(&self, now: Timestamp) -> bool {
        self.starts <= now && now < self.ends
    }
}

/// The CAs that were made. Those that sign have their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// Signs certificates.
    pub signing: Cert,
    /// Will sign when it is trusted everywhere.
    pub next: Option<Cert>,
    /// Signed what may still be served.
    pub old: Vec<Cert>,
    /// Until when that may be.
    pub old_until: Option<Timestamp>,
}

/// The certificate that the webhook serves with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// It.
    pub cert: Cert,
    /// The CA that signed it, as far as it is known.
    pub issuer: Option<Cert>,
    /// Whether it is for the names and addresses that are asked for.
    pub fits: bool,
}

/// What is trusted by one entry of a webhook configuration; none if its `caBundle` is missing or damaged.
pub type Bundle = Option<BTreeSet<Id>>;

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// None if they are missing or cannot be used.
    pub authorities: Option<Authorities>,
    /// None if it is missing or cannot be used.
    pub leaf: Option<Leaf>,
    /// Of each entry of each configuration.
    pub bundles: Vec<Bundle>,
    /// CAs that stand in all bundles, and since when they were seen to.
    pub trusted_since: BTreeMap<Id, Timestamp>,
    /// CAs that stand in some bundle.
    pub found: Vec<Cert>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the first CA, or one instead of a lost one. Those named may have signed what is still served, until then.
    Found {
        /// Stay trusted.
        old: Vec<Id>,
        /// For how long.
        until: Timestamp,
    },
    /// Make the next CA.
    Prepare,
    /// Let the next CA sign, and throw the key of the one before away.
    Promote {
        /// Until when that one stays trusted.
        old_until: Timestamp,
    },
    /// Forget CAs whose certificates all are over.
    Forget,
    /// Make all entries of all configurations trust these, and nobody else.
    Publish(BTreeSet<Id>),
    /// Make a certificate with the signing CA.
    Issue {
        /// When it ends.
        ends: Timestamp,
    },
}

/// What to do now, and when to look again if nothing changes before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// When a time comes that matters.
    pub again: Timestamp,
}

/// Decides.
pub fn decide(view: &View, policy: &Policy, now: Timestamp) -> Plan {
    let mut plan = Plan {
        steps: Vec::new(),
        again: after(now, AT_LEAST),
    };
    let usable = |known: &&Authorities| known.signing.lives(now) || known.next.is_some_and(|next| next.lives(now));
    match view.authorities.as_ref().filter(usable) {
        None => plan.steps.push(found(view, policy, now)),
        Some(known) => {
            authorities(view, known, policy, now, &mut plan);
            publish(view, known, now, &mut plan);
            if known.signing.lives(now) {
                issue(view, known, policy, now, &mut plan);
            }
        }
    }
    plan
}

/// A new CA where there is none. What the webhook serves stays trusted, though the key that signed it is lost.
fn found(view: &View, policy: &Policy, now: Timestamp) -> Step {
    let known = view.authorities.iter().flat_map(|known| known.old.iter());
    let served = view.leaf.iter().filter_map(|leaf| leaf.issuer.as_ref());
    let old: BTreeSet<Id> = served
        .chain(known)
        .chain(&view.found)
        .filter(|cert| cert.lives(now))
        .map(|cert| cert.id)
        .collect();
    Step::Found {
        old: old.into_iter().collect(),
        until: last_use(view, policy, now),
    }
}

/// When the last certificate of the CA that signs so far is over, at the latest. That of somebody else may be made for a hundred
/// years, but is about to be replaced.
fn last_use(view: &View, policy: &Policy, now: Timestamp) -> Timestamp {
    let latest = after(now, policy.leaf);
    let served = view.leaf.as_ref().map(|leaf| leaf.cert.ends);
    served.unwrap_or(latest).min(latest)
}

fn authorities(view: &View, known: &Authorities, policy: &Policy, now: Timestamp, plan: &mut Plan) {
    if known.old.iter().any(|old| !stays(known, old, now)) {
        plan.steps.push(Step::Forget);
    }
    for old in &known.old {
        plan.look(known.old_until.unwrap_or(old.ends).min(old.ends), now);
    }
    let next = known.next.filter(|next| next.lives(now));
    let due = replaced(known.signing, policy.authority, now, plan);
    let dark = !known.signing.lives(now);
    match next {
        None if due => plan.steps.push(Step::Prepare),
        Some(next) if settled(view, next.id, policy, now, dark, plan) => {
            let until = known.old_until.unwrap_or(Timestamp::MIN);
            plan.steps.push(Step::Promote {
                old_until: last_use(view, policy, now).max(until),
            });
        }
        None | Some(_) => {}
    }
}

fn publish(view: &View, known: &Authorities, now: Timestamp, plan: &mut Plan) {
    let served = view.leaf.iter().filter(|leaf| leaf.cert.lives(now));
    let wanted: BTreeSet<Id> = [known.signing]
        .into_iter()
        .chain(known.next)
        .chain(known.old.iter().copied().filter(|old| stays(known, old, now)))
        .chain(served.filter_map(|leaf| leaf.issuer))
        .filter(|cert| cert.lives(now))
        .map(|cert| cert.id)
        .collect();
    if view.bundles.iter().any(|bundle| bundle.as_ref() != Some(&wanted)) {
        plan.steps.push(Step::Publish(wanted));
    }
}

fn stays(known: &Authorities, old: &Cert, now: Timestamp) -> bool {
    old.lives(now) && known.old_until.is_none_or(|until| now < until)
}

fn issue(view: &View, known: &Authorities, policy: &Policy, now: Timestamp, plan: &mut Plan) {
    let signing = known.signing;
    let served = view.leaf.as_ref().filter(|leaf| leaf.cert.lives(now));
    // The certificate may end with its CA, which leaves less than a whole life.
    let life = policy.leaf.min(signing.ends.duration_since(now));
    let wanted = served.is_none_or(|leaf| {
        let due = replaced(leaf.cert, life, now, plan);
        due || !leaf.fits || leaf.issuer.map(|issuer| issuer.id) != Some(signing.id)
    });
    // Waiting helps only what is served by a certificate that is trusted now. One whose Secret was deleted may be served still.
    let dark = match served {
        None => known.old.is_empty(),
        Some(leaf) => {
            let trusted = leaf.issuer.is_some_and(|issuer| is_trusted(view, &issuer.id));
            !trusted || leaf.cert.ends <= after(now, policy.settle)
        }
    };
    if wanted && settled(view, signing.id, policy, now, dark, plan) {
        plan.steps.push(Step::Issue {
            ends: after(now, policy.leaf).min(signing.ends),
        });
    }
}

/// Whether a certificate is to be replaced: in the last third of its life, or because it lives longer than it is to. Another leader's
/// clock may have been ahead a little.
fn replaced(cert: Cert, life: SignedDuration, now: Timestamp, plan: &mut Plan) -> bool {
    let due = Policy::due(cert.ends, life);
    plan.look(due, now);
    due <= now || cert.ends > after(now, life + life / 10)
}

/// Whether API servers can be relied on to trust a CA; at once where waiting would help nobody.
fn settled(view: &View, id: Id, policy: &Policy, now: Timestamp, at_once: bool, plan: &mut Plan) -> bool {
    if !is_trusted(view, &id) {
        return false;
    }
    let since = view.trusted_since.get(&id).copied().unwrap_or(now);
    let settled = after(since, policy.settle);
    plan.look(settled, now);
    at_once || settled <= now
}

fn is_trusted(view: &View, id: &Id) -> bool {
    let trusts = |bundle: &Bundle| bundle.as_ref().is_some_and(|bundle| bundle.contains(id));
    view.bundles.iter().all(trusts)
}

impl Plan {
    /// Looks again at that time, if it is to come.
    fn look(&mut self, at: Timestamp, now: Timestamp) {
        if at > now {
            self.again = self.again.min(at);
        }
    }
}

#[cfg(test)]
mod tests;
