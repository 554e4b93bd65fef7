//! Which item of the annotation that lists pools for several NICs is a NIC's, and which NICs have their addresses claimed
//! together because of it.

use crate::config::Config;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_crds::annotations::{self, AnnotationError, Networks, PoolItem};
use spiderpool_crds::names;

/// The NICs that are claimed for together with this one, itself included: all that the annotation lists, in its order. Where no
/// annotation lists several, each NIC is claimed for alone.
pub fn together(config: &Config, pod: &Pod, nic: &str) -> Result<Vec<String>, RequestError> {
    let full = || format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let alone = || Ok(vec![nic.to_owned()]);
    let wrong = |source: AnnotationError| RequestError::Annotation { pod: full(), source };
    let annotations = pod.annotations();
    if config.enable_spider_subnet && annotations::subnet_request(annotations).map_err(wrong)?.is_some() {
        return alone();
    }
    let Some(items) = annotations::ippools(annotations).map_err(wrong)? else {
        return alone();
    };
    let networks = annotations::networks(annotations);
    let unfit = |reason| RequestError::Unfit { pod: full(), reason };
    let nics = annotations::interfaces(&items, &networks).map_err(unfit)?;
    // What to write for a NIC without an item is said by whoever looks for its item.
    if nics.iter().any(|other| other == nic) {
        Ok(nics)
    } else {
        alone()
    }
}

/// The item of a NIC: the one that names it, or where none names one, the one at its place in the order of Multus.
pub(super) fn item_of(items: Vec<PoolItem>, nic: &str, networks: &Networks) -> Result<PoolItem, String> {
    let named: Vec<String> = items
        .iter()
        .filter_map(|item| item.interface.as_ref())
        .map(|interface| format!("{interface:?}"))
        .collect();
    let (key, count) = (names::ANNOTATION_IPPOOLS, items.len());
    let place = networks.place(nic);
    let found = items.into_iter().enumerate().find(|(at, item)| match &item.interface {
        Some(interface) => interface == nic,
        None => Some(*at) == place,
    });
    found.map(|(_, item)| item).ok_or_else(|| {
        if !named.is_empty() {
            let named = named.join(", ");
            return format!("annotation {key} has no item for interface {nic}; it names {named}; add an item");
        }
        match place {
            Some(place) => format!(
                "annotation {key} has no item for interface {nic}: its {count} items name no interface, so they go with \
                 the interfaces in the order of Multus, in which {nic} is number {}; add an item",
                place + 1
            ),
            None => format!(
                "annotation {key} has no item for interface {nic}: its items name no interface, and annotation {} does not \
                 tell which place {nic} has; name the interface in each item",
                names::ANNOTATION_MULTUS_NETWORKS
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(annotations: &serde_json::Value) -> Pod {
        let pod = json!({"metadata": {"name": "shop", "namespace": "retail", "annotations": annotations}});
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn the_nics_of_the_items_are_claimed_for_together() {
        let unnamed = r#"[{"ipv4":["a"]},{"ipv4":["b"]},{"ipv6":["c"]}]"#;
        let named = r#"[{"interface":"net1","ipv4":["b"]},{"interface":"eth0","ipv4":["a"]}]"#;
        let key = names::ANNOTATION_IPPOOLS;
        let further = names::ANNOTATION_MULTUS_NETWORKS;
        for (annotations, nic, expected) in [
            (json!({key: unnamed}), "eth0", vec!["eth0", "net1", "net2"]),
            (json!({key: unnamed}), "net2", vec!["eth0", "net1", "net2"]),
            // Without an item, it is on its own, and told so.
            (json!({key: unnamed}), "net3", vec!["net3"]),
            (
                json!({key: unnamed, further: "x/lan@store"}),
                "eth0",
                vec!["eth0", "store", "net2"],
            ),
            (
                json!({key: unnamed, further: "lan@store,b"}),
                "eth0",
                vec!["eth0", "store", "net2"],
            ),
            (json!({key: named}), "eth0", vec!["net1", "eth0"]),
            (
                json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}),
                "eth0",
                vec!["eth0"],
            ),
            (json!({}), "net1", vec!["net1"]),
        ] {
            let nics = together(&Config::default(), &pod(&annotations), nic);
            assert_eq!(nics.unwrap(), expected, "{annotations} {nic}");
        }
        let twice = pod(&json!({key: unnamed, further: "a,b@net1"}));
        let error = together(&Config::default(), &twice, "eth0").unwrap_err().to_string();
        assert!(error.contains("gives two of them the name net1"), "{error}");
    }
}
