//! The Lease of the election, which belongs to no release: the program makes it.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};
use spiderpool_kit::deadline::within;
use spiderpool_kit::lease::Record;
use tokio::time::Instant;

use super::{Error, PAUSE};
use crate::write::DEADLINE;

/// How long a holder counts that does not say how long.
const UNSAID: Duration = Duration::from_secs(15);

/// Deletes it once nobody holds it any more: whoever still leads would make it again.
pub(super) async fn delete(client: Client, namespace: &str, name: &str, deadline: Instant) -> Result<(), Error> {
    let api: Api<LeaseObject> = Api::namespaced(client, namespace);
    let mut seen: Option<(Record, Instant)> = None;
    loop {
        let what = format!("reading Lease {namespace}/{name}");
        let Some(lease) = within(DEADLINE, what, api.get_opt(name)).await? else {
            return Ok(());
        };
        let record = Record::of(&lease);
        let now = Instant::now();
        let since = match &seen {
            Some((known, since)) if *known == record => *since,
            _ => now,
        };
        if is_free(&record, now - since) {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: lease.metadata.uid,
                    resource_version: lease.metadata.resource_version,
                }),
                ..DeleteParams::default()
            };
            let what = format!("deleting Lease {namespace}/{name}");
            match within(DEADLINE, what, api.delete(name, &params)).await {
                Ok(_) => tracing::info!(namespace, name, "deleted the Lease of the election"),
                // Somebody took it: the next look shows whom.
                Err(failure) if failure.is_conflict() || failure.is_not_found() => {}
                Err(failure) => return Err(failure.into()),
            }
            continue;
        }
        if now >= deadline {
            let (holder, name) = (record.holder, format!("{namespace}/{name}"));
            return Err(Error::Led { name, holder });
        }
        seen = Some((record, since));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a Lease was given back, or its holder has not renewed it for so long that it counts no more.
fn is_free(record: &Record, unchanged: Duration) -> bool {
    record.holder().is_none() || unchanged >= record.length.unwrap_or(UNSAID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::coordination::v1::LeaseSpec;

    #[test]
    fn a_lease_is_free_when_it_was_given_back_or_ran_out() {
        let held = |holder: &str, seconds: Option<i32>| {
            Record::of(&LeaseObject {
                spec: Some(LeaseSpec {
                    holder_identity: Some(holder.to_owned()),
                    lease_duration_seconds: seconds,
                    ..LeaseSpec::default()
                }),
                ..LeaseObject::default()
            })
        };
        let second = Duration::from_secs(1);
        assert!(is_free(&held("", Some(60)), Duration::ZERO));
        assert!(is_free(&Record::of(&LeaseObject::default()), Duration::ZERO));
        assert!(!is_free(&held("a", Some(60)), 59 * second));
        assert!(is_free(&held("a", Some(60)), 60 * second));
        assert!(!is_free(&held("a", None), UNSAID - second));
    }
}
