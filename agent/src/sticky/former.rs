//! Whether the earlier pods of an identity are gone, which has to be so before another takes over what they had.
//!
//! A UID is first seen in an endpoint or a record, and then its pod is looked for by a live read. So a pod that is found gone was
//! gone when the write that follows is made, and stays so: UIDs do not come back.

use super::machine::{self, Seen};
use super::{Identity, READ_TIMEOUT};
use crate::context::Context;
use crate::error::RequestError;
use crate::tries;
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use std::collections::BTreeSet;
use tokio::time::Instant;

/// The pod that takes over, and whom it has been found to follow.
pub(super) struct Heir<'a> {
    pub(super) context: &'a Context,
    pub(super) pod: &'a Pod,
    pub(super) identity: &'a Identity,
    /// Whether the earlier pod may live, because its virtual machine moves to this one.
    pub(super) migrating: bool,
    former: BTreeSet<String>,
}

impl<'a> Heir<'a> {
    pub(super) const fn new(context: &'a Context, pod: &'a Pod, identity: &'a Identity, migrating: bool) -> Self {
        Self {
            context,
            pod,
            identity,
            migrating,
            former: BTreeSet::new(),
        }
    }

    /// The UIDs of pods that are gone.
    pub(super) const fn former(&self) -> &BTreeSet<String> {
        &self.former
    }

    /// Finds out whether the pod may follow the one of a UID that was seen in an endpoint or record. `name` is that pod's, if it
    /// is known.
    pub(super) async fn follow(
        &mut self,
        uid: &str,
        name: Option<&str>,
        deadline: Instant,
    ) -> Result<(), RequestError> {
        if self.pod.uid().as_deref() == Some(uid) || self.former.contains(uid) {
            return Ok(());
        }
        let earlier = |pod: &Seen| pod.metadata.uid.as_deref() == Some(uid);
        match self.identity.keeper.as_ref().filter(|keeper| keeper.is_machine()) {
            // It moves from a pod of its own. One that only shares its name has nothing to do with that.
            Some(machine) if self.migrating => {
                let stranger = |pod: &Seen| earlier(pod) && !machine::is_of(machine, pod);
                self.none_of(stranger, deadline).await?;
            }
            // A record of one that is gone says nothing of the others: after a migration that failed, the machine runs where it
            // was, with the addresses of a pod that it never moved to.
            Some(machine) => {
                let own = self.pod.uid();
                let in_use = |pod: &Seen| earlier(pod) || (pod.metadata.uid != own && machine::is_of(machine, pod));
                self.none_of(in_use, deadline).await?;
            }
            None => {
                self.is_present(deadline).await?;
                // What is not known to have been a pod of this name may be a virtual machine's.
                if name != Some(&self.pod.name_any()) {
                    self.none_of(earlier, deadline).await?;
                }
            }
        }
        self.former.insert(uid.to_owned());
        Ok(())
    }

    /// Two pods of one name do not exist at once: while the heir does, any other UID that was seen before is gone.
    async fn is_present(&self, deadline: Instant) -> Result<(), RequestError> {
        let (namespace, name) = (&self.identity.namespace, self.pod.name_any());
        let uid = self.pod.uid().unwrap_or_default();
        let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(self.context.client.clone(), namespace);
        let what = format!("read Pod {namespace}/{name}, which takes over the addresses of an earlier pod");
        let limit = deadline.min(Instant::now() + READ_TIMEOUT);
        let found = tries::read(what, limit, || api.get_metadata_opt(&name)).await?;
        if found
            .as_ref()
            .is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&uid))
        {
            return Ok(());
        }
        let seen = found.and_then(|pod| pod.metadata.uid).map_or_else(
            || "the API server has no Pod of that name".to_owned(),
            |other| format!("the Pod of that name has UID {other}"),
        );
        Err(RequestError::UnknownPod {
            pod: format!("{namespace}/{name}"),
            uid,
            seen,
        })
    }

    /// Fails while a pod may run that has what is to be taken over.
    async fn none_of(&self, in_use: impl Fn(&Seen) -> bool, deadline: Instant) -> Result<(), RequestError> {
        let namespace = &self.identity.namespace;
        match machine::unfinished(self.context, namespace, in_use, deadline).await? {
            None => Ok(()),
            Some(earlier) => Err(RequestError::Unfit {
                pod: format!("{namespace}/{}", self.pod.name_any()),
                reason: format!(
                    "its addresses are those of Pod {namespace}/{earlier}, which still runs; they are taken over when that one is \
                     gone, and the kubelet tries again until then"
                ),
            }),
        }
    }
}
