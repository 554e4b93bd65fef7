//! Annotations that cannot work: values that do not parse, and keys that nobody reads.

use serde_json::Value;
use spiderpool_crds::annotations::{self, POD_KEYS};
use spiderpool_crds::names::{
    ANNOTATION_DEFAULT_IPV4_IPPOOL, ANNOTATION_DEFAULT_IPV6_IPPOOL, ANNOTATION_IPPOOLS, PREFIX,
};

use super::Annotations;
use super::pods::Pods;

/// Annotations of namespaces.
const OF_NAMESPACES: [&str; 2] = [ANNOTATION_DEFAULT_IPV4_IPPOOL, ANNOTATION_DEFAULT_IPV6_IPPOOL];

/// A key that earlier versions of spiderpool define and that nothing has ever read.
const UNREAD: &str = "ipam.spidernet.io/dns";

/// More changes than these make another word of a key.
const MOST_CHANGES: usize = 3;

/// What is wrong with one annotation.
pub(super) struct Found<'a> {
    pub(super) rule: &'static str,
    pub(super) key: &'a str,
    pub(super) message: String,
}

/// All mistakes, in the order of the keys.
pub(super) fn of<'a>(pods: Pods, object: &Value, own: &'a Annotations) -> Vec<Found<'a>> {
    let found = own.iter().filter_map(|(key, value)| {
        let known = POD_KEYS.contains(&key.as_str());
        let (rule, message) = match known {
            true => ("annotation-value", value_fault(pods, object, key, value)?),
            false => ("annotation-key", misspelt(key)?),
        };
        Some(Found { rule, key, message })
    });
    found.collect()
}

/// What is wrong with the value of a key that is known.
fn value_fault(pods: Pods, object: &Value, key: &str, value: &str) -> Option<String> {
    if let Some(error) = annotations::fault(key, value) {
        return Some(format!("{}; write for example {}", error.problem, error.example));
    }
    if key != ANNOTATION_IPPOOLS {
        return None;
    }
    let all = pods.all(object);
    let items = annotations::ippools(&all).ok().flatten()?;
    annotations::interfaces(&items, &annotations::networks(&all)).err()
}

/// What is said of a key that nobody knows and that looks like one that is known.
fn misspelt(key: &str) -> Option<String> {
    if key == UNREAD || OF_NAMESPACES.contains(&key) {
        return None;
    }
    let meant = nearest(key)?;
    Some(match OF_NAMESPACES.contains(&meant) {
        true => format!("nobody reads this key; did you mean {meant}, an annotation of namespaces?"),
        false => format!("nobody reads this key; did you mean {meant}?"),
    })
}

/// What is said of other keys that have no effect.
pub(super) fn without_effect(key: &str) -> Option<&'static str> {
    if OF_NAMESPACES.contains(&key) {
        Some("it has no effect on pods; write it into metadata.annotations of their namespace")
    } else if POD_KEYS.contains(&key) || nearest(key).is_some() && key != UNREAD {
        None
    } else {
        Some("nobody reads this key")
    }
}

/// Whether a key is one for pods, or was meant to be.
pub(super) fn is_for_pods(key: &str) -> bool {
    POD_KEYS.contains(&key) || key.starts_with(PREFIX) && nearest(key).is_some_and(|meant| POD_KEYS.contains(&meant))
}

/// The key that is most like this one, if one is like it at all.
fn nearest(key: &str) -> Option<&'static str> {
    let word = key.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let changes = |known: &&'static str| {
        let known = known.strip_prefix(PREFIX).unwrap_or(known);
        let changes = strsim::osa_distance(&word, known);
        let alike = changes <= MOST_CHANGES && 2 * changes < word.len().max(known.len());
        alike.then_some(changes)
    };
    let known = POD_KEYS.into_iter().chain(OF_NAMESPACES);
    let alike = known.filter_map(|known| Some((changes(&known)?, known)));
    alike
        .min_by_key(|(changes, known)| (*changes, known.len()))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_like_the_one_that_was_meant() {
        for (word, meant) in [
            ("subnett", Some("subnet")),
            ("Subnets", Some("subnets")),
            ("ippol", Some("ippool")),
            ("ip-pool", Some("ippool")),
            ("ippoools", Some("ippools")),
            ("ippool-ip-num", Some("ippool-ip-number")),
            ("ippool-number", Some("ippool-ip-number")),
            ("ippool-ip-nubmer", Some("ippool-ip-number")),
            ("ippool-reclaim-", Some("ippool-reclaim")),
            ("route", Some("routes")),
            ("ips", Some("ip")),
            ("default-ipv4-ippools", Some("default-ipv4-ippool")),
            ("default-route-nics", Some("default-route-nic")),
            ("owner-application-name", None),
            ("foo", None),
            ("", None),
        ] {
            let found = nearest(&format!("{PREFIX}{word}")).and_then(|key| key.strip_prefix(PREFIX));
            assert_eq!(found, meant, "{word}");
        }
        assert_eq!(nearest("example.com/subnet"), None);
    }
}
