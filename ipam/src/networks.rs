//! Which objects have which network, and which networks have an address in common.
//!
//! Two networks that overlap are one inside the other. So those around a network are found by its shorter prefixes, at most 128
//! of them, and those inside by one walk over what begins in it: nothing looks at the other networks.

use crate::addr::Family;
use crate::cidr::Cidr;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Names of objects, by network.
#[derive(Debug, Default)]
pub struct Networks {
    by_name: HashMap<Arc<str>, Cidr>,
    /// By family, first address and length of the prefix: a network is followed by all that are inside.
    names: BTreeMap<(Family, u128, u8), BTreeSet<Arc<str>>>,
}

impl Networks {
    /// Takes in the network of an object, in place of what it had.
    pub fn put(&mut self, name: &str, network: Cidr) {
        if self.by_name.get(name) == Some(&network) {
            return;
        }
        self.remove(name);
        let name: Arc<str> = name.into();
        self.names.entry(key(network)).or_default().insert(name.clone());
        self.by_name.insert(name, network);
    }

    /// Forgets an object.
    pub fn remove(&mut self, name: &str) {
        let Some(network) = self.by_name.remove(name) else {
            return;
        };
        if let Some(names) = self.names.get_mut(&key(network)) {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(&key(network));
            }
        }
    }

    /// The network of an object.
    pub fn get(&self, name: &str) -> Option<Cidr> {
        self.by_name.get(name).copied()
    }

    /// The objects with this very network, in the order of their names.
    pub fn with(&self, network: Cidr) -> impl Iterator<Item = &Arc<str>> {
        self.names.get(&key(network)).into_iter().flatten()
    }

    /// Other networks that have an address in common with this one, each with its objects: the widest first, then those inside in
    /// the order of their addresses.
    pub fn overlapping(&self, network: Cidr) -> impl Iterator<Item = &BTreeSet<Arc<str>>> {
        let around = (0..network.prefix()).filter_map(move |prefix| self.names.get(&key(network.widened(prefix))));
        let (family, first, prefix) = key(network);
        let inside = (family, first, prefix)..=(family, network.range().last(), u8::MAX);
        // What begins at the same address and is wider comes before the beginning; the network itself does not count.
        let inside = self
            .names
            .range(inside)
            .filter(move |(key, _)| **key != (family, first, prefix));
        around.chain(inside.map(|(_, names)| names))
    }
}

const fn key(network: Cidr) -> (Family, u128, u8) {
    (network.family(), network.range().first(), network.prefix())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::parse_lenient(text).unwrap()
    }

    fn names<'a>(found: impl Iterator<Item = &'a BTreeSet<Arc<str>>>) -> Vec<&'a str> {
        found.flatten().map(AsRef::as_ref).collect()
    }

    #[test]
    fn networks_around_and_inside_are_found_and_no_others() {
        let mut networks = Networks::default();
        for (name, network) in [
            ("all", "0.0.0.0/0"),
            ("wide", "10.0.0.0/8"),
            ("own", "10.6.0.0/16"),
            ("same", "10.6.0.0/16"),
            ("first", "10.6.0.0/24"),
            ("last", "10.6.255.255/32"),
            ("next", "10.7.0.0/16"),
            ("other", "::/0"),
        ] {
            networks.put(name, cidr(network));
        }
        let around = |network: &str| names(networks.overlapping(cidr(network)));
        assert_eq!(around("10.6.0.0/16"), ["all", "wide", "first", "last"]);
        assert_eq!(
            around("10.6.0.0/15"),
            ["all", "wide", "own", "same", "first", "last", "next"]
        );
        assert_eq!(around("10.6.255.255/32"), ["all", "wide", "own", "same"]);
        assert_eq!(around("fd00::/64"), ["other"]);
        let own: Vec<_> = networks.with(cidr("10.6.0.0/16")).map(AsRef::as_ref).collect();
        assert_eq!(own, ["own", "same"]);
    }

    #[test]
    fn what_moves_or_goes_leaves_nothing() {
        let mut networks = Networks::default();
        networks.put("a", cidr("10.6.0.0/16"));
        networks.put("a", cidr("fd06::/64"));
        assert_eq!(names(networks.overlapping(cidr("0.0.0.0/0"))), Vec::<&str>::new());
        assert_eq!(names(networks.overlapping(cidr("::/0"))), ["a"]);
        assert_eq!(networks.get("a"), Some(cidr("fd06::/64")));
        networks.remove("a");
        networks.remove("b");
        assert!(networks.names.is_empty() && networks.by_name.is_empty());
    }

    proptest! {
        /// The index finds what comparing with every network finds.
        #[test]
        fn the_index_agrees_with_looking_at_all(all in proptest::collection::vec((any::<u8>(), 0..=8u8), 0..40), own in (any::<u8>(), 0..=8u8)) {
            let network = |(bits, prefix): (u8, u8)| cidr(&format!("10.0.{bits}.0/{}", 16 + prefix));
            let mut networks = Networks::default();
            for (index, given) in all.iter().enumerate() {
                networks.put(&index.to_string(), network(*given));
            }
            let own = network(own);
            let found: BTreeSet<String> = names(networks.overlapping(own)).into_iter().map(str::to_owned).collect();
            let other = |given: &(u8, u8)| network(*given) != own && network(*given).overlaps(&own);
            let expected = all.iter().enumerate().filter(|(_, given)| other(given));
            prop_assert_eq!(found, expected.map(|(index, _)| index.to_string()).collect::<BTreeSet<_>>());
        }
    }
}
