//! What is tried: one function for each kind of text.

use std::net::IpAddr;

use spiderpool_crds::annotations::{self, Annotations, POD_KEYS};
use spiderpool_crds::names::{
    ANNOTATION_DEFAULT_IPV4_IPPOOL, ANNOTATION_DEFAULT_IPV6_IPPOOL, ANNOTATION_IPPOOLS,
    ANNOTATION_MULTUS_DEFAULT_NETWORK, ANNOTATION_MULTUS_NETWORKS,
};
use spiderpool_crds::records::{ControlledPools, HeldRecords, PoolRecords};
use spiderpool_ipam::candidates::Pattern;
use spiderpool_ipam::text::{parse_addr, parse_range, parse_ranges, print_range, print_ranges};
use spiderpool_ipam::{Cidr, Family, TextError, addr};

/// A kind of text.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of the folder with its corpus.
    pub name: &'static str,
    /// What reads it, and panics when that was wrong.
    pub(crate) run: fn(&str),
}

/// All kinds of text.
pub const TARGETS: [Target; 4] = [
    Target {
        name: "range",
        run: range,
    },
    Target {
        name: "cidr",
        run: cidr,
    },
    Target {
        name: "annotation",
        run: annotation,
    },
    Target {
        name: "status",
        run: status,
    },
];

/// A range in each line.
fn range(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    for family in Family::ALL {
        if let Ok(bits) = parse_addr(family, text) {
            let printed = addr::from_bits(family, bits).to_string();
            assert_eq!(parse_addr(family, &printed), Ok(bits));
        }
        match parse_range(family, text) {
            Ok(range) => assert_eq!(parse_range(family, &print_range(family, &range)), Ok(range)),
            Err(TextError::Reversed { proposal, .. }) => assert!(parse_range(family, &proposal).is_ok()),
            Err(error) => assert!(error.to_string().len() > 10),
        }
        let Ok(set) = parse_ranges(family, &lines) else {
            continue;
        };
        assert_eq!(parse_ranges(family, &print_ranges(family, &set)).as_ref(), Ok(&set));
        let low = set.first_n(set.count() / 2);
        let high = set.difference(&low);
        assert!(low.is_subset_of(&set) && !low.intersects(&high));
        assert_eq!(low.union(&high), set);
    }
}

fn cidr(text: &str) {
    match (Cidr::parse(text), Cidr::parse_lenient(text)) {
        (Ok(strict), lenient) => {
            assert_eq!(lenient, Ok(strict));
            assert_eq!(strict.to_string(), text);
            let network: IpAddr = addr::from_bits(strict.family(), strict.range().first());
            assert!(strict.contains(network) && strict.overlaps(&strict));
            assert!(
                strict
                    .label_value()
                    .is_none_or(|value| !value.contains(['.', ':', '/']))
            );
        }
        (Err(TextError::NotCanonical { canonical, .. }), lenient) => assert_eq!(Cidr::parse(&canonical), lenient),
        (Err(error), lenient) => {
            assert!(error.to_string().len() > 10);
            assert_eq!(lenient, Err(error));
        }
    }
}

/// The value of any annotation, and a name with wildcards.
fn annotation(text: &str) {
    for key in POD_KEYS {
        if let Some(error) = annotations::fault(key, text) {
            assert!(error.key == key && error.to_string().contains(error.example));
        }
    }
    let keys = [
        ANNOTATION_DEFAULT_IPV4_IPPOOL,
        ANNOTATION_DEFAULT_IPV6_IPPOOL,
        ANNOTATION_IPPOOLS,
        ANNOTATION_MULTUS_DEFAULT_NETWORK,
        ANNOTATION_MULTUS_NETWORKS,
    ];
    let all: Annotations = keys.map(|key| (key.to_owned(), text.to_owned())).into();
    let networks = annotations::networks(&all);
    for place in 0..networks.further.len().min(9) {
        let nic = networks.nic(place);
        assert!(
            networks
                .of(&nic, "kube-system", "retail")
                .is_none_or(|full| full.contains('/'))
        );
    }
    if let Ok(Some(items)) = annotations::ippools(&all)
        && let Ok(interfaces) = annotations::interfaces(&items, &networks)
    {
        assert_eq!(interfaces.len(), items.len());
    }
    if let Err(error) = annotations::namespace_pools(&all) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(pattern) = Pattern::parse(text) {
        pattern.matches("rack7-v4");
    }
}

/// `status.allocatedIPs` and `status.heldIPs` of a pool, `status.controlledIPPools` of a subnet.
fn status(text: &str) {
    if let Ok(records) = PoolRecords::parse(text) {
        assert_eq!(
            PoolRecords::parse_opt(records.to_status().as_deref()).as_ref(),
            Ok(&records)
        );
        for family in Family::ALL {
            if let Ok(owners) = records.owners(family) {
                assert!(owners.len() <= records.len());
            }
        }
    }
    if let Ok(held) = HeldRecords::parse(text) {
        assert_eq!(HeldRecords::parse_opt(held.to_status().as_deref()).as_ref(), Ok(&held));
    }
    if let Ok(pools) = ControlledPools::parse(text) {
        assert_eq!(
            ControlledPools::parse_opt(pools.to_status().as_deref()).as_ref(),
            Ok(&pools)
        );
        for family in Family::ALL {
            let Ok(entries) = pools.entries(family) else { continue };
            let mut again = pools.clone();
            again.set_entries(family, &entries);
            assert_eq!(again.entries(family).as_ref(), Ok(&entries));
        }
    }
}
