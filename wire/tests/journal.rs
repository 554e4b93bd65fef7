//! Entries of the journal: one name for each attachment, and nothing but the whole text is read.

use std::collections::BTreeSet;

use proptest::prelude::*;
use spiderpool_wire::IpamDelArgs;
use spiderpool_wire::journal::{
    MAX_ENTRY_BYTES, Unfit, decode, encode, file_name, is_entry, is_unfinished, unfinished_name,
};

fn args(container: &str, nic: &str) -> IpamDelArgs {
    IpamDelArgs {
        container_id: container.to_owned(),
        if_name: nic.to_owned(),
        ..IpamDelArgs::default()
    }
}

#[test]
fn each_attachment_has_its_own_name() {
    let pairs = [
        ("a", "b@c"),
        ("a", "b"),
        ("ab", "c"),
        ("a", "bc"),
        ("a.del", "c"),
        ("a", "..del"),
        ("A", "b"),
    ];
    let names: BTreeSet<String> = pairs.iter().map(|(c, n)| file_name(&args(c, n)).unwrap()).collect();
    assert_eq!(names.len(), pairs.len());
    for name in names {
        assert!(is_entry(&name) && !is_unfinished(&name), "{name}");
        let unfinished = unfinished_name(&name, 7);
        assert!(is_unfinished(&unfinished) && !is_entry(&unfinished), "{unfinished}");
        assert!(unfinished.len() <= 255);
    }
}

#[test]
fn what_is_no_file_name_is_refused() {
    let long = "c".repeat(300);
    for (container, nic) in [
        ("", "eth0"),
        ("c", ""),
        ("../c", "eth0"),
        ("c", "../eth0"),
        ("c@d", "eth0"),
        (".c", "e"),
        (&long, "e"),
    ] {
        assert_eq!(
            file_name(&args(container, nic)),
            Err(Unfit::Name),
            "{container:?} {nic:?}"
        );
    }
    let long = IpamDelArgs {
        net_namespace: "/n".repeat(MAX_ENTRY_BYTES),
        ..args("c", "eth0")
    };
    assert_eq!(encode(&long), Err(Unfit::Long));
}

proptest! {
    /// A crash may leave any beginning of a file; none of them is taken for an entry, least of all for another one.
    #[test]
    fn a_cut_entry_is_not_read(texts in proptest::collection::vec(any::<String>(), 7)) {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap_or_default();
        let args = IpamDelArgs {
            container_id: next(),
            if_name: next(),
            net_namespace: next(),
            pod_namespace: next(),
            pod_name: next(),
            pod_uid: next(),
            network_name: next(),
        };
        let text = encode(&args).unwrap();
        for cut in 0..text.len() {
            prop_assert_eq!(decode(&text[..cut]), None);
        }
        prop_assert_eq!(decode(&text), Some(args));
    }
}
