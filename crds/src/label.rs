//! Names as values of labels.
//!
//! A label's value has 63 characters at most, the name of an object up to 253. A longer name is cut and gets the beginning of
//! a digest of the whole, so that it can still be selected by; the whole one stands in an annotation with the label's key.
//! A short value may look like a cut one, so whoever reads a label compares what the annotation says with it.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// Longest value of a label.
const VALUE_MAX: usize = 63;
/// How many hexadecimal digits of the digest a cut value ends in.
const DIGITS: usize = 10;

/// The value of a label that says this name: the name itself, or cut and with ten digits of its SHA-256 if it is too long.
pub fn label_value(name: &str) -> Cow<'_, str> {
    if name.len() <= VALUE_MAX {
        return Cow::Borrowed(name);
    }
    let room = VALUE_MAX - DIGITS - 1;
    let boundary = (0..=room).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    let head = name.get(..boundary).unwrap_or_default();
    let head = head.trim_end_matches(|char: char| !char.is_ascii_alphanumeric());
    let digest = Sha256::digest(name.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Cow::Owned(format!("{head}-{}", digits.get(..DIGITS).unwrap_or_default()))
}

/// The label value of a node on its endpoints. Names that do not fit are cut and have no digest, as stored endpoints have it; the
/// endpoint itself names the node in full.
pub fn node_label(node: &str) -> String {
    let cut: String = node.chars().take(VALUE_MAX).collect();
    cut.trim_end_matches(['.', '-', '_']).to_owned()
}

/// The name that a label's value stands for: the first of those said elsewhere that has this value, else the value.
pub(crate) fn whole<'a>(value: &'a str, said: impl IntoIterator<Item = &'a str>) -> &'a str {
    said.into_iter()
        .find(|name| label_value(name) == value)
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_names_stay_as_they_are() {
        let longest = "n".repeat(63);
        for name in ["", "shop", longest.as_str()] {
            assert_eq!(label_value(name), name);
        }
    }

    #[test]
    fn long_names_are_cut_at_a_letter_or_digit() {
        let name = format!("{}..-{}", "a".repeat(50), "b".repeat(60));
        let value = label_value(&name);
        assert!(value.starts_with(&format!("{}-", "a".repeat(50))), "{value}");
        assert_eq!(value.len(), 61);
        assert_ne!(label_value(&format!("{name}c")), value);
    }

    #[test]
    fn long_names_of_nodes_are_cut_without_a_digest() {
        assert_eq!(node_label("n1.example"), "n1.example");
        let name = format!("{}.-{}", "n".repeat(60), "b".repeat(60));
        assert_eq!(node_label(&name), format!("{}.-b", "n".repeat(60)));
        let name = format!("{}.-{}", "n".repeat(61), "b".repeat(60));
        assert_eq!(node_label(&name), "n".repeat(61));
    }

    #[test]
    fn only_a_name_of_that_value_is_believed() {
        let long = "n".repeat(100);
        let value = label_value(&long);
        assert_eq!(whole(&value, [long.as_str()]), long);
        assert_eq!(whole(&value, ["another", long.as_str()]), long);
        assert_eq!(whole(&value, ["another"]), value);
        assert_eq!(whole("shop", [long.as_str()]), "shop");
    }

    proptest! {
        #[test]
        fn every_name_gets_a_legal_value(name in "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?") {
            let value = label_value(&name);
            prop_assert!(value.len() <= 63);
            let ends = |char: Option<char>| char.is_some_and(|char| char.is_ascii_alphanumeric());
            prop_assert!(ends(value.chars().next()) && ends(value.chars().last()), "{}", value);
            prop_assert_eq!(label_value(&value), value.as_ref());
        }

        #[test]
        fn arbitrary_text_never_panics(name in ".{0,100}") {
            prop_assert!(label_value(&name).len() <= 63);
        }
    }
}
