//! Whether the earlier pods of an identity are gone, which has to be so before another takes over what they had.
//!
//! A UID is first seen in an endpoint or a record, and then its pod is looked for by a live read. So a pod that is found gone was
//! gone when the write that follows is made, and stays so: UIDs do not come back.

use super::{Identity, READ_TIMEOUT};
use crate::context::Context;
use crate::error::RequestError;
use crate::pods::{has_uid, is_finished};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
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
        let machine = self.identity.keeper.as_ref().is_some_and(|keeper| keeper.is_machine());
        if machine {
            if !self.migrating {
                self.is_gone(uid, name, deadline).await?;
            }
        } else {
            self.is_present(deadline).await?;
        }
        self.former.insert(uid.to_owned());
        Ok(())
    }

    /// Two pods of one name do not exist at once: while the heir does, any other UID that was seen before is gone.
    async fn is_present(&self, deadline: Instant) -> Result<(), RequestError> {
        let (namespace, name) = (&self.identity.namespace, self.pod.name_any());
        let uid = self.pod.uid().unwrap_or_default();
        let api: Api<PartialObjectMeta<Pod>> = Api::namespaced(self.context.client.clone(), namespace);
        let what = || format!("read Pod {namespace}/{name}, which takes over the addresses of an earlier pod");
        let limit = deadline.min(Instant::now() + READ_TIMEOUT);
        let found = self.context.call(limit, what, api.get_metadata_opt(&name)).await?;
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

    /// The pods of a virtual machine have names of their own, so that the earlier one has to be looked for itself.
    async fn is_gone(&self, uid: &str, name: Option<&str>, deadline: Instant) -> Result<(), RequestError> {
        let namespace = &self.identity.namespace;
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let limit = deadline.min(Instant::now() + READ_TIMEOUT);
        let what = || format!("look for the earlier Pod of {}, UID {uid}", self.identity.key());
        let found = match name {
            Some(name) => self.context.call(limit, what, api.get_opt(name)).await?,
            // The endpoint is the peer's, or the record is not that of the endpoint's pod.
            None => {
                let params = ListParams::default();
                let all = self.context.call(limit, what, api.list_metadata(&params)).await?;
                let same = |pod: &PartialObjectMeta<Pod>| pod.metadata.uid.as_deref() == Some(uid);
                match all.items.into_iter().find(same).and_then(|pod| pod.metadata.name) {
                    Some(name) => self.context.call(limit, what, api.get_opt(&name)).await?,
                    None => None,
                }
            }
        };
        // One that is terminating may still answer for its addresses.
        match found.filter(|pod| has_uid(pod, uid) && !is_finished(pod)) {
            None => Ok(()),
            Some(earlier) => Err(RequestError::Unfit {
                pod: format!("{namespace}/{}", self.pod.name_any()),
                reason: format!(
                    "its addresses are those of Pod {namespace}/{}, which still runs; they are taken over when that one is gone, \
                     and the kubelet tries again until then",
                    earlier.name_any()
                ),
            }),
        }
    }
}
