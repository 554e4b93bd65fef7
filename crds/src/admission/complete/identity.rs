//! What every subnet and pool carries all its life: our finalizer, its CIDR as a label, its IP version.
//!
//! The webhook fills these in when an object is made, the operator where there was no webhook at that moment.

use crate::names::{FINALIZER, LABEL_IPPOOL_CIDR, LABEL_SUBNET_CIDR};
use crate::types::{SpiderIPPool, SpiderSubnet};
use kube::ResourceExt;
use spiderpool_ipam::Cidr;

/// An object with an identity to be filled in.
pub trait Identified: ResourceExt + Clone {
    /// The label that holds the CIDR.
    const LABEL: &'static str;

    /// `spec.ipVersion`.
    fn ip_version(&mut self) -> &mut Option<i64>;
}

impl Identified for SpiderSubnet {
    const LABEL: &'static str = LABEL_SUBNET_CIDR;

    fn ip_version(&mut self) -> &mut Option<i64> {
        &mut self.spec.ip_version
    }
}

impl Identified for SpiderIPPool {
    const LABEL: &'static str = LABEL_IPPOOL_CIDR;

    fn ip_version(&mut self) -> &mut Option<i64> {
        &mut self.spec.ip_version
    }
}

/// The object with its identity filled in; none if nothing is missing, or if the object is on its way out. Without a network that
/// can be read it gets the finalizer only.
pub fn filled<K: Identified>(object: &K, cidr: Option<Cidr>) -> Option<K> {
    if object.meta().deletion_timestamp.is_some() {
        return None;
    }
    let finalized = object.finalizers().iter().any(|name| name == FINALIZER);
    let label = cidr.and_then(|cidr| cidr.label_value());
    let labelled = label.is_none() || object.labels().get(K::LABEL) == label.as_ref();
    let mut object = object.clone();
    if finalized && labelled && (cidr.is_none() || object.ip_version().is_some()) {
        return None;
    }
    if !finalized {
        object.finalizers_mut().push(FINALIZER.to_owned());
    }
    if let Some(label) = label {
        object.labels_mut().insert(K::LABEL.to_owned(), label);
    }
    if let Some(cidr) = cidr {
        object.ip_version().get_or_insert(cidr.family().number());
    }
    Some(object)
}

/// The object without our finalizer; none if it does not carry it.
pub fn released<K: Identified>(object: &K) -> Option<K> {
    let mut object = object.clone();
    let before = object.finalizers().len();
    object.finalizers_mut().retain(|name| name != FINALIZER);
    (object.finalizers().len() < before).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SubnetSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn subnet() -> SpiderSubnet {
        let spec = SubnetSpec {
            subnet: "10.77.0.0/20".to_owned(),
            ..SubnetSpec::default()
        };
        SpiderSubnet::new("rack7", spec)
    }

    #[test]
    fn what_is_missing_is_filled_in_once() {
        let cidr = subnet().cidr().ok();
        let whole = filled(&subnet(), cidr).unwrap();
        assert_eq!(whole.finalizers(), [FINALIZER]);
        assert_eq!(whole.labels()[LABEL_SUBNET_CIDR], "10-77-0-0-20");
        assert_eq!(whole.spec.ip_version, Some(4));
        assert_eq!(filled(&whole, cidr), None);
    }

    #[test]
    fn what_goes_is_left_alone() {
        let mut subnet = subnet();
        subnet.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(filled(&subnet, subnet.cidr().ok()), None);
    }

    #[test]
    fn foreign_finalizers_stay() {
        let mut subnet = filled(&subnet(), subnet().cidr().ok()).unwrap();
        subnet.finalizers_mut().push("other".to_owned());
        let released_once = released(&subnet).unwrap();
        assert_eq!(released_once.finalizers(), ["other"]);
        assert_eq!(released(&released_once), None);
    }
}
