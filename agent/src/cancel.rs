//! Ends an ADD that nobody waits for any more.
//!
//! The DEL of an attachment says that its ADD was given up, and a plugin that closed its connection was killed. An ADD may wait
//! for half a minute, and the DEL would wait for it. What is being written is not interrupted, or nobody would know what became
//! of it: an ADD ends where it waits, and gives back what it took.

use crate::error::RequestError;
use spiderpool_wire::{IpamAddArgs, IpamDelArgs};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Why an ADD need not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The DEL of the same attachment came.
    Del,
    /// The plugin that sent it is gone.
    ClientGone,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Del => "cancelled by DEL: the container runtime gave up the same container ID and interface",
            Self::ClientGone => "cancelled, as the CNI plugin that asked for it closed its connection",
        })
    }
}

/// Whether one request need not go on. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<watch::Sender<Option<Reason>>>);

impl Cancel {
    /// Says so. The first reason stays.
    pub fn cancel(&self, reason: Reason) {
        self.0.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(reason);
            first
        });
    }

    /// Why it need not go on, if so.
    pub fn reason(&self) -> Option<Reason> {
        *self.0.borrow()
    }

    /// Waits until somebody says so.
    pub async fn cancelled(&self) -> Reason {
        let mut changes = self.0.subscribe();
        match changes.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(reason)) => reason,
            // This keeps the sender, so there is always one who may say so.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Does what may be broken off at any point, and breaks it off.
    pub async fn or<T>(&self, args: &IpamAddArgs, work: impl Future<Output = T>) -> Result<T, RequestError> {
        tokio::select! {
            biased;
            reason = self.cancelled() => Err(error(args, reason)),
            done = work => Ok(done),
        }
    }

    /// Fails if the ADD need not go on.
    pub fn check(&self, args: &IpamAddArgs) -> Result<(), RequestError> {
        self.reason().map_or(Ok(()), |reason| Err(error(args, reason)))
    }
}

fn error(args: &IpamAddArgs, reason: Reason) -> RequestError {
    RequestError::Cancelled {
        pod: format!("{}/{}", args.pod_namespace, args.pod_name),
        nic: args.if_name.clone(),
        reason,
    }
}

/// Who waits for the end of an ADD, and may stop waiting.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// What was asked for.
    pub args: &'a IpamAddArgs,
    /// Says that nobody waits any more.
    pub cancel: &'a Cancel,
}

impl Caller<'_> {
    /// Does what may be broken off at any point, and breaks it off.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, RequestError> {
        self.cancel.or(self.args, work).await
    }
}

/// Container ID and interface.
type Attachment = (String, String);

/// The ADDs that run or wait for their turn.
#[derive(Clone, Debug, Default)]
pub struct Adds(Arc<Mutex<HashMap<Attachment, Vec<Entry>>>>);

#[derive(Debug)]
struct Entry {
    network: String,
    cancel: Cancel,
}

/// Held while an ADD runs.
#[derive(Debug)]
pub struct Entered {
    adds: Adds,
    key: Attachment,
    cancel: Cancel,
}

impl Adds {
    /// Makes an ADD known to the DEL of its attachment.
    pub fn enter(&self, args: &IpamAddArgs, cancel: &Cancel) -> Entered {
        let key = (args.container_id.clone(), args.if_name.clone());
        let entry = Entry {
            network: args.network_name.clone(),
            cancel: cancel.clone(),
        };
        let mut adds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        adds.entry(key.clone()).or_default().push(entry);
        Entered {
            adds: self.clone(),
            key,
            cancel: cancel.clone(),
        }
    }

    /// Cancels the ADDs of an attachment. A plugin of an earlier version does not name the network.
    pub fn cancel(&self, args: &IpamDelArgs) {
        let adds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (args.container_id.clone(), args.if_name.clone());
        for entry in adds.get(&key).into_iter().flatten() {
            let unknown = entry.network.is_empty() || args.network_name.is_empty();
            if unknown || entry.network == args.network_name {
                entry.cancel.cancel(Reason::Del);
            }
        }
    }

    /// Whether no ADD runs.
    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut adds = self.adds.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = adds.get_mut(&self.key) {
            entries.retain(|entry| !Arc::ptr_eq(&entry.cancel.0, &self.cancel.0));
            if entries.is_empty() {
                adds.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(container: &str, nic: &str, network: &str) -> IpamAddArgs {
        IpamAddArgs {
            container_id: container.to_owned(),
            if_name: nic.to_owned(),
            network_name: network.to_owned(),
            ..IpamAddArgs::default()
        }
    }

    fn del(container: &str, nic: &str, network: &str) -> IpamDelArgs {
        IpamDelArgs {
            container_id: container.to_owned(),
            if_name: nic.to_owned(),
            network_name: network.to_owned(),
            ..IpamDelArgs::default()
        }
    }

    #[test]
    fn a_del_cancels_the_adds_of_its_attachment_only() {
        for (sent, cancelled) in [
            (del("c", "eth0", "lan"), true),
            (del("c", "eth0", ""), true),
            (del("c", "eth0", "store"), false),
            (del("c", "net1", "lan"), false),
            (del("older", "eth0", "lan"), false),
        ] {
            let (adds, first, second) = (Adds::default(), Cancel::default(), Cancel::default());
            let entered = [&first, &second].map(|cancel| adds.enter(&add("c", "eth0", "lan"), cancel));
            adds.cancel(&sent);
            for cancel in [&first, &second] {
                assert_eq!(cancel.reason().is_some(), cancelled, "{sent:?}");
            }
            drop(entered);
            assert!(adds.is_empty());
        }
    }

    #[tokio::test]
    async fn the_first_reason_stays_and_ends_the_work() {
        let cancel = Cancel::default();
        let args = add("c", "eth0", "lan");
        assert_eq!(cancel.or(&args, async { 7 }).await.unwrap(), 7);
        cancel.check(&args).unwrap();
        let work = cancel.or(&args, std::future::pending::<()>());
        let (ended, ()) = tokio::join!(work, async {
            cancel.cancel(Reason::Del);
            cancel.cancel(Reason::ClientGone);
        });
        assert!(ended.unwrap_err().to_string().contains("cancelled by DEL"));
        assert_eq!(cancel.reason(), Some(Reason::Del));
        assert!(cancel.check(&args).is_err());
    }
}
