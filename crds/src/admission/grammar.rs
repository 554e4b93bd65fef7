//! The grammar of names and labels, which Kubernetes has and its client libraries for Rust do not check.

/// What is said of a key of a label, after the key. This and the next ones are the API server's words, too.
pub(crate) const NOT_A_KEY: &str = " is not the key of a label; write letters, digits and -_. after an optional DNS name and a slash, for example example.com/tier";
/// What is said of a value of a label, after the value.
pub(crate) const NOT_A_VALUE: &str =
    " is not the value of a label; write at most 63 letters, digits and -_. that begin and end with a letter or digit";
/// What an item of `namespaceName` is not.
pub(crate) const NAMESPACE_NAME: &str = "the name of a namespace; write it as `kubectl get namespaces` shows it";
/// What an item of `nodeName` is not.
pub(crate) const NODE_NAME: &str = "the name of a node; write it as `kubectl get nodes` shows it";
/// What an item of `multusName` is not.
pub(crate) const MULTUS_NAME: &str =
    "the name of a network attachment; write NAMESPACE/NAME or NAME, as `kubectl get net-attach-def -A` shows them";

/// Longest name of an object.
const NAME_MAX: usize = 253;
/// Longest part of a name between two dots, and longest value of a label.
const PART_MAX: usize = 63;

/// A name as namespaces have.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= PART_MAX && is_dns_part(text)
}

/// A name as most objects have.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('.').all(is_dns_part)
}

/// `NAMESPACE/NAME` or `NAME`.
pub(super) fn is_attachment(text: &str) -> bool {
    match text.split_once('/') {
        Some((namespace, name)) => is_dns_label(namespace) && is_dns_subdomain(name),
        None => is_dns_subdomain(text),
    }
}

/// The key of a label: a name, after a DNS name and a slash if there is one.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

/// The value of a label, which may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_name(text: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= PART_MAX && begins_and_ends(text, |byte| byte.is_ascii_alphanumeric()) && text.bytes().all(may)
}

fn is_dns_part(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    begins_and_ends(text, plain) && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

fn begins_and_ends(text: &str, with: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| with(*byte)) && bytes.last().is_some_and(|byte| with(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_kubernetes() {
        let long = "a".repeat(64);
        for (text, label, subdomain, attachment, key, value) in [
            ("", false, false, false, false, true),
            ("kube-system", true, true, true, true, true),
            ("n1.example.com", false, true, true, true, true),
            ("a/b", false, false, true, true, false),
            ("example.com/tier_1", false, false, false, true, false),
            ("a/b/c", false, false, false, false, false),
            ("Shop", false, false, false, true, true),
            ("-a", false, false, false, false, false),
            ("a..b", false, false, false, true, true),
            (&long, false, true, true, false, false),
        ] {
            assert_eq!(is_dns_label(text), label, "{text}");
            assert_eq!(is_dns_subdomain(text), subdomain, "{text}");
            assert_eq!(is_attachment(text), attachment, "{text}");
            assert_eq!(is_label_key(text), key, "{text}");
            assert_eq!(is_label_value(text), value, "{text}");
        }
    }
}
