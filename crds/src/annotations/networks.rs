//! The annotations of Multus: which network each interface of a pod belongs to.
//!
//! Multus reads them before it calls a plugin, and refuses the pod when they do not parse. So here they are read for what
//! they say and never refused.

use serde_json::Value;

use super::Annotations;
use super::json::Object;
use crate::names::{ANNOTATION_MULTUS_DEFAULT_NETWORK, ANNOTATION_MULTUS_NETWORKS, DEFAULT_NIC};

/// One network that an interface is attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Namespace of the NetworkAttachmentDefinition, if one is named.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The interface that is asked for; Multus chooses one where none is.
    pub interface: Option<String>,
}

impl Network {
    /// `namespace/name`, where `namespace` is meant if none is named.
    pub fn full(&self, namespace: &str) -> String {
        format!("{}/{}", self.namespace.as_deref().unwrap_or(namespace), self.name)
    }

    /// `namespace/name@interface`, of which only the name must be there.
    fn of_text(text: &str) -> Self {
        let part = |part: &str| Some(part.to_owned()).filter(|part| !part.is_empty());
        let (rest, interface) = match text.split_once('@') {
            Some((rest, interface)) => (rest, part(interface)),
            None => (text, None),
        };
        let (namespace, name) = match rest.split_once('/') {
            Some((namespace, name)) => (part(namespace), name),
            None => (None, rest),
        };
        Self {
            namespace,
            name: name.to_owned(),
            interface,
        }
    }

    fn of_value(value: &Value) -> Self {
        let object = Object::new(value, String::new()).ok();
        let text = |name: &str| {
            let found = object.as_ref().and_then(|object| object.text(name).ok());
            found.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        Self {
            namespace: text("namespace"),
            name: text("name").unwrap_or_default(),
            interface: text("interface"),
        }
    }
}

/// The networks of a pod, as far as annotations name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Network of the first interface.
    pub first: Option<Network>,
    /// Networks of the further interfaces, in order.
    pub further: Vec<Network>,
}

impl Networks {
    /// With this network, `namespace/name` or `name`, for the first interface where the pod names none; an empty text names
    /// none either.
    #[must_use]
    pub fn or_first(mut self, network: &str) -> Self {
        if self.first.is_none() && !network.is_empty() {
            self.first = Some(Network::of_text(network));
        }
        self
    }

    /// The place of an interface in the order of Multus: 0 for the first, `eth0`; then one for each further network, under
    /// the interface it asks for or else as `net1`, `net2` and so on. Where no annotation says otherwise, the name alone
    /// tells the place, since other programs that attach networks number them too.
    pub fn place(&self, nic: &str) -> Option<usize> {
        if nic == DEFAULT_NIC {
            return Some(0);
        }
        let asked = |network: &Network| network.interface.as_deref() == Some(nic);
        if let Some(index) = self.further.iter().position(asked) {
            return Some(index + 1);
        }
        let number = nic
            .strip_prefix("net")?
            .parse::<usize>()
            .ok()
            .filter(|number| *number > 0)?;
        // `net2` is not the second network's interface if that one asks for another name.
        let elsewhere = self
            .further
            .get(number - 1)
            .is_some_and(|network| network.interface.is_some());
        (!elsewhere).then_some(number)
    }

    /// The interface at a place in the order of Multus, which is what [`Self::place`] looks for.
    pub fn nic(&self, place: usize) -> String {
        let Some(number) = place.checked_sub(1) else {
            return DEFAULT_NIC.to_owned();
        };
        let asked = self.further.get(number).and_then(|network| network.interface.clone());
        asked.unwrap_or_else(|| format!("net{place}"))
    }

    /// The network of an interface as `namespace/name`; `own` is the namespace of those of the first interface that name none,
    /// `pods` that of the others.
    pub fn of(&self, nic: &str, own: &str, pods: &str) -> Option<String> {
        match self.place(nic)? {
            0 => self.first.as_ref().map(|network| network.full(own)),
            place => self.further.get(place - 1).map(|network| network.full(pods)),
        }
        .filter(|full| !full.ends_with('/'))
    }
}

/// Reads `v1.multus-cni.io/default-network` and `k8s.v1.cni.cncf.io/networks`.
pub fn networks(annotations: &Annotations) -> Networks {
    let list = |key: &str| annotations.get(key).map(|text| items(text)).unwrap_or_default();
    Networks {
        first: list(ANNOTATION_MULTUS_DEFAULT_NETWORK).into_iter().next(),
        further: list(ANNOTATION_MULTUS_NETWORKS),
    }
}

/// A comma list of names, or a JSON list of objects.
fn items(text: &str) -> Vec<Network> {
    let text = text.trim();
    if text.is_empty() {
        return Vec::new();
    }
    if text.starts_with(['[', '{']) {
        return match serde_json::from_str(text) {
            Ok(Value::Array(items)) => items.iter().map(Network::of_value).collect(),
            _ => Vec::new(),
        };
    }
    text.split(',').map(|item| Network::of_text(item.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Annotations {
        Annotations::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn interfaces_have_the_places_that_multus_gives_them() {
        let further = |text: &str| networks(&one(ANNOTATION_MULTUS_NETWORKS, text));
        let json = r#"[{"name":"a"},{"name":"b","namespace":"x","interface":"lan"},{"Name":"c"}]"#;
        for text in ["a, x/b@lan ,c", json] {
            let found = further(text);
            for (nic, place, network) in [
                ("eth0", Some(0), None),
                ("net1", Some(1), Some("retail/a")),
                ("lan", Some(2), Some("x/b")),
                ("net2", None, None),
                ("net3", Some(3), Some("retail/c")),
                ("net4", Some(4), None),
                ("net0", None, None),
                ("wan", None, None),
            ] {
                assert_eq!(found.place(nic), place, "{text} {nic}");
                assert!(place.is_none_or(|place| found.nic(place) == nic), "{text} {nic}");
                assert_eq!(
                    found.of(nic, "kube-system", "retail").as_deref(),
                    network,
                    "{text} {nic}"
                );
            }
        }
        // What does not parse names nothing, and names of interfaces still tell their place.
        for text in ["", "[", "{}", "[1]"] {
            assert_eq!(further(text).place("net2"), Some(2));
            assert_eq!(further(text).of("net1", "kube-system", "retail"), None);
        }
        for (text, network) in [
            ("macvlan", "kube-system/macvlan"),
            ("x/macvlan", "x/macvlan"),
            (r#"[{"name":"m"}]"#, "kube-system/m"),
        ] {
            let found = networks(&one(ANNOTATION_MULTUS_DEFAULT_NETWORK, text));
            // The network of the cluster is for pods that name none.
            let found = found.or_first("x/other");
            assert_eq!(found.of("eth0", "kube-system", "retail").as_deref(), Some(network));
        }
    }

    #[test]
    fn the_network_of_the_cluster_is_that_of_pods_that_name_none() {
        let of = |cluster: &str| {
            networks(&Annotations::new())
                .or_first(cluster)
                .of("eth0", "kube-system", "retail")
        };
        assert_eq!(of("net/macvlan").as_deref(), Some("net/macvlan"));
        assert_eq!(of("macvlan").as_deref(), Some("kube-system/macvlan"));
        assert_eq!(of(""), None);
    }
}
