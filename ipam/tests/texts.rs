//! Text in, text out: addresses, ranges, subnets, pool names.

use proptest::prelude::*;
use spiderpool_ipam::addr::from_bits;
use spiderpool_ipam::text::{parse_addr, parse_range, parse_ranges, print_range, print_ranges};
use spiderpool_ipam::{Cidr, Family, Range, RangeSet, TextError, pool_name};

/// Numbers of a family. IPv6 ones keep clear of IPv4 in IPv6 notation, which is refused on purpose.
fn number(family: Family) -> BoxedStrategy<u128> {
    match family {
        Family::V4 => any::<u32>().prop_map(u128::from).boxed(),
        Family::V6 => prop_oneof![
            any::<u128>().prop_map(|n| n | 1 << 127),
            (0..1_000_000u128),
            Just(u128::MAX)
        ]
        .boxed(),
    }
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn numbers() -> impl Strategy<Value = (Family, Vec<(u128, u128)>)> {
    family().prop_flat_map(|family| {
        let pair = (number(family), number(family));
        (Just(family), prop::collection::vec(pair, 1..6))
    })
}

/// Text that is nearly right more often than chance makes it.
fn arbitrary_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9a-f.:/-]{0,40}",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(-[0-9]{1,3}(\\.[0-9]{1,3}){3})?",
        "[0-9a-f:]{2,20}/[0-9]{1,4}",
    ]
}

proptest! {
    #[test]
    fn printed_sets_parse_back((family, pairs) in numbers()) {
        let set: RangeSet =
            pairs.iter().filter_map(|(a, b)| Range::new(*a.min(b), *a.max(b))).collect();
        let printed = print_ranges(family, &set);
        prop_assert_eq!(parse_ranges(family, &printed).unwrap(), set.clone());
        for (range, text) in set.ranges().iter().zip(&printed) {
            prop_assert_eq!(parse_range(family, text).unwrap(), *range);
            let first = from_bits(family, range.first()).to_string();
            prop_assert_eq!(parse_addr(family, &first).unwrap(), range.first());
        }
    }

    #[test]
    fn printed_subnets_parse_back(family in family(), bits in any::<u128>(), prefix in 0..=128u8) {
        let bits = if family == Family::V6 { bits | 1 << 127 } else { bits };
        let text = format!("{}/{}", from_bits(family, bits), prefix.min(family.bits()));
        let cidr = Cidr::parse_lenient(&text).unwrap();
        prop_assert_eq!(Cidr::parse(&cidr.to_string()).unwrap(), cidr);
        prop_assert!(cidr.contains(from_bits(family, bits)));
        prop_assert!(cidr.overlaps(&cidr));
        let host_bits = u32::from(family.bits() - cidr.prefix());
        prop_assert_eq!(cidr.range().count(), 1u128.checked_shl(host_bits).unwrap_or(u128::MAX));
        if text != cidr.to_string() {
            let refused = matches!(Cidr::parse(&text), Err(TextError::NotCanonical { canonical, .. })
                if canonical == cidr.to_string());
            prop_assert!(refused);
        }
    }

    #[test]
    fn subnets_overlap_exactly_when_their_ranges_do(
        a in any::<u32>(), b in any::<u32>(), pa in 0..=32u8, pb in 0..=32u8,
    ) {
        let cidr = |bits: u32, prefix| {
            Cidr::parse_lenient(&format!("{}/{prefix}", from_bits(Family::V4, bits.into()))).unwrap()
        };
        let (a, b) = (cidr(a, pa), cidr(b, pb));
        let common = RangeSet::from(a.range()).intersects(&RangeSet::from(b.range()));
        prop_assert_eq!(a.overlaps(&b), common);
        prop_assert_eq!(b.overlaps(&a), common);
    }

    #[test]
    fn any_text_is_an_answer_or_an_error(text in arbitrary_text(), family in family()) {
        if let Ok(range) = parse_range(family, &text) {
            prop_assert_eq!(parse_range(family, &print_range(family, &range)).unwrap(), range);
        }
        if let Err(error) = parse_range(family, &text) {
            prop_assert!(!error.to_string().is_empty());
        }
        let _ = parse_addr(family, &text);
        if let Ok(cidr) = Cidr::parse(&text) {
            prop_assert_eq!(cidr.to_string(), text.clone());
        }
        if let Ok(cidr) = Cidr::parse_lenient(&text) {
            let _ = cidr.label_value();
        }
    }

    #[test]
    fn pool_names_are_never_too_long(app in "[a-z0-9.-]{1,253}", nic in "[a-z0-9]{1,63}", uid in "[0-9a-f-]{0,40}") {
        let name = pool_name(&app, Family::V6, &nic, &uid);
        prop_assert!(name.len() <= 253);
        prop_assert!(name.starts_with("auto6-"));
    }
}

fn normal(family: Family, texts: &[&str]) -> Vec<String> {
    parse_ranges(family, texts).map_or_else(|error| vec![error.to_string()], |set| print_ranges(family, &set))
}

#[test]
fn lists_of_ranges_are_normalised() {
    let v4 = ["10.0.0.7", "10.0.0.1-10.0.0.3", "10.0.0.3-10.0.0.5"];
    assert_eq!(normal(Family::V4, &v4), ["10.0.0.1-10.0.0.5", "10.0.0.7"]);
    assert_eq!(normal(Family::V6, &["fd00::2", "fd00::1"]), ["fd00::1-fd00::2"]);
    assert_eq!(normal(Family::V4, &["10.0.0.5-10.0.0.5"]), ["10.0.0.5"]);
    assert_eq!(normal(Family::V4, &[]), [""; 0]);
}

#[test]
fn errors_name_the_text_and_the_remedy() {
    for (family, text, error) in [
        (
            Family::V4,
            "10.0.0.9-10.0.0.1",
            "range \"10.0.0.9-10.0.0.1\" is reversed; write 10.0.0.1-10.0.0.9",
        ),
        (
            Family::V4,
            "10.0.0.0/24",
            "\"10.0.0.0/24\" is not an IP range; write one address or FIRST-LAST, for example 10.6.0.10-10.6.0.20",
        ),
        (
            Family::V6,
            "*",
            "\"*\" is not an IP range; write one address or FIRST-LAST, for example fd00:6::10-fd00:6::20",
        ),
        (
            Family::V4,
            "fd00::1",
            "\"fd00::1\" is not an IPv4 address, but this field holds IPv4 addresses",
        ),
        (
            Family::V6,
            "::ffff:1.2.3.4",
            "\"::ffff:1.2.3.4\" is an IPv4 address in IPv6 notation; write the IPv4 address itself",
        ),
    ] {
        assert_eq!(parse_range(family, text).unwrap_err().to_string(), error);
    }
    for text in [
        "",
        "-",
        "10.0.0.1-",
        "10.0.0.1 -10.0.0.2",
        "10.0.0.1-10.0.0.2-10.0.0.3",
        "010.0.0.1",
        "10.0.0.1-fd00::1",
    ] {
        assert!(parse_range(Family::V4, text).is_err(), "{text:?}");
    }
    for text in [
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "fd00::/129",
        "::ffff:0:0/96",
        "/8",
    ] {
        assert!(Cidr::parse_lenient(text).is_err(), "{text:?}");
    }
    let error = Cidr::parse("FD00:0::1/64").unwrap_err().to_string();
    assert_eq!(
        error,
        "subnet \"FD00:0::1/64\" is not in canonical form; write fd00::/64"
    );
}

#[test]
fn subnets_become_label_values() {
    for (text, label) in [
        ("172.20.0.0/14", Some("172-20-0-0-14")),
        ("10.6.0.0/16", Some("10-6-0-0-16")),
        ("fd00:ab::/48", Some("fd00-ab---48")),
        ("fd00:f853:ccd:e790::/64", Some("fd00-f853-ccd-e790---64")),
        ("::/0", None),
    ] {
        assert_eq!(Cidr::parse(text).unwrap().label_value().as_deref(), label);
    }
}

#[test]
fn pools_are_named_after_their_application() {
    let uid = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    assert_eq!(pool_name("shop", Family::V4, "eth0", uid), "auto4-shop-eth0-e07fc");
    assert_eq!(pool_name("Shop", Family::V6, "net1", "a-b-c-d"), "auto6-shop-net1-d");
    let long = pool_name(&"a".repeat(253), Family::V4, "eth0", uid);
    assert_eq!(long.len(), 253);
    assert!(long.ends_with("a-eth0-e07fc"));
    // A name cut at a dot would not be a legal object name.
    let dotted = format!("{}.{}", "a".repeat(235), "b".repeat(17));
    assert!(pool_name(&dotted, Family::V4, "eth0", uid).ends_with("a-eth0-e07fc"));
    assert_eq!(pool_name("shop", Family::V4, "eth0", ""), "auto4-shop-eth0-");
}
