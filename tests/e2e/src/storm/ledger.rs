//! Who had which address when, as the clients saw it: no address may have two owners at any time.
//!
//! A client has an address from the answer to its ADD until it sends the DEL. Answers are written down after they came and DELs
//! before they go, so what overlaps here has overlapped in truth.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

/// Somebody had an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The address.
    pub address: IpAddr,
    /// UID of the pod.
    pub owner: String,
    /// The sandbox that it was set up in.
    pub sandbox: String,
    /// When the ADD was answered.
    pub from: Instant,
    /// When the DEL was sent; none if it was not.
    pub until: Option<Instant>,
}

impl Hold {
    fn overlaps(&self, later: &Self) -> bool {
        self.until.is_none_or(|until| until > later.from)
    }
}

/// What happened so far.
#[derive(Debug, Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
    given: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    holds: Vec<Hold>,
    /// Sandboxes whose DEL was sent. An answer that comes later counts for nothing.
    ended: BTreeMap<String, Instant>,
    wrongs: Vec<String>,
}

impl Ledger {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An ADD was answered.
    pub fn answered(&self, owner: &str, sandbox: &str, addresses: &[IpAddr]) {
        let mut inner = self.inner();
        if inner.ended.contains_key(sandbox) {
            return;
        }
        let from = Instant::now();
        let held = |hold: &&Hold| hold.owner == owner && hold.until.is_none();
        let before: Vec<IpAddr> = inner.holds.iter().filter(held).map(|hold| hold.address).collect();
        if !before.is_empty() && before != addresses {
            let wrong = format!("pod {owner} has {before:?} and was told {addresses:?} by a repeated ADD");
            inner.wrongs.push(wrong);
        }
        for address in addresses {
            if before.contains(address) {
                continue;
            }
            inner.holds.push(Hold {
                address: *address,
                owner: owner.to_owned(),
                sandbox: sandbox.to_owned(),
                from,
                until: None,
            });
        }
        self.given.send_replace(inner.holds.len());
    }

    /// A DEL is about to be sent.
    pub fn ends(&self, sandbox: &str) {
        let mut inner = self.inner();
        let now = Instant::now();
        if inner.ended.insert(sandbox.to_owned(), now).is_some() {
            return;
        }
        let own = |hold: &&mut Hold| hold.sandbox == sandbox && hold.until.is_none();
        inner
            .holds
            .iter_mut()
            .filter(own)
            .for_each(|hold| hold.until = Some(now));
    }

    /// A pool was seen without a record that it had.
    pub fn record_gone(&self, address: IpAddr, owner: &str) {
        let mut inner = self.inner();
        let own = |hold: &Hold| hold.address == address && hold.owner == owner && hold.until.is_none();
        if inner.holds.iter().any(own) {
            let wrong = format!("the record of {address} was deleted while pod {owner} had it");
            inner.wrongs.push(wrong);
        }
    }

    /// Notes what somebody else found out.
    pub fn wrong(&self, wrong: String) {
        self.inner().wrongs.push(wrong);
    }

    /// What was wrong; empty if nothing was.
    pub fn wrongs(&self) -> Vec<String> {
        let inner = self.inner();
        let mut wrongs = inner.wrongs.clone();
        wrongs.extend(overlaps(&inner.holds));
        wrongs
    }

    /// How often an address was given out.
    pub fn given(&self) -> usize {
        *self.given.borrow()
    }

    /// Waits until addresses were given out so often.
    pub async fn has_given(&self, often: usize) {
        // The sender is here, so it does not go.
        let _ = self.given.subscribe().wait_for(|given| *given >= often).await;
    }
}

/// The moments in which an address had two owners.
pub fn overlaps(holds: &[Hold]) -> Vec<String> {
    let mut by_address: BTreeMap<IpAddr, Vec<&Hold>> = BTreeMap::new();
    for hold in holds {
        by_address.entry(hold.address).or_default().push(hold);
    }
    let mut found = Vec::new();
    for (address, mut holds) in by_address {
        holds.sort_by_key(|hold| hold.from);
        for (at, first) in holds.iter().enumerate() {
            let later = holds.iter().skip(at + 1);
            for second in later.filter(|later| later.owner != first.owner && first.overlaps(later)) {
                found.push(format!(
                    "{address} was given to pod {} while pod {} had it for {:?}",
                    second.owner,
                    first.owner,
                    second.from - first.from
                ));
            }
        }
    }
    found
}
