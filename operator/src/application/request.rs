//! From the annotations of a pod template to the pools that are wanted.

use spiderpool_crds::annotations::{self, AnnotationError, IpNumber};
use spiderpool_crds::native::Workload;
use spiderpool_ipam::Family;
use spiderpool_ipam::rollout::{self, Stuck};

use crate::config::Config;

/// What an application asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// No pool.
    Nothing,
    /// Something that cannot be understood. What it was given before stays as it is.
    Unclear(AnnotationError),
    /// Pools.
    Pools(Request),
}

/// The pools an application asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The size as written, or the configured default.
    pub number: IpNumber,
    /// How many addresses each pool is to have.
    pub size: u128,
    /// How many it would have without the limit that the configuration sets, where that is more.
    pub beyond_limit: Option<u128>,
    /// Why its rolling updates cannot go on, if they cannot.
    pub stuck: Option<Stuck>,
    /// Whether the pools go with the application.
    pub reclaim: bool,
    /// One item for each interface and family.
    pub slots: Vec<Slot>,
}

/// One wanted pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The interface.
    pub nic: String,
    /// The family.
    pub family: Family,
    /// Names of the subnets it may come from, best first; never empty.
    pub subnets: Vec<String>,
}

impl Asked {
    /// Understands what a workload asks for.
    pub fn by(workload: &Workload, config: &Config) -> Self {
        if workload.host_network {
            return Self::Nothing;
        }
        match request(workload, config) {
            Ok(None) => Self::Nothing,
            Ok(Some(request)) => Self::Pools(request),
            Err(error) => Self::Unclear(error),
        }
    }

    /// The wanted pools.
    pub const fn request(&self) -> Option<&Request> {
        match self {
            Self::Pools(request) => Some(request),
            Self::Nothing | Self::Unclear(_) => None,
        }
    }
}

impl Request {
    /// The wanted pool for an interface and family.
    pub fn slot(&self, nic: &str, family: Family) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.nic == nic && slot.family == family)
    }
}

fn request(workload: &Workload, config: &Config) -> Result<Option<Request>, AnnotationError> {
    let Some(asked) = annotations::subnet_request(&workload.annotations)? else {
        return Ok(None);
    };
    let default = IpNumber::Flexible(config.redundant_addresses);
    let number = annotations::ip_number(&workload.annotations)?.unwrap_or(default);
    let reclaim = annotations::reclaim(&workload.annotations)?;
    let mut slots = Vec::new();
    for item in asked.items {
        for (family, subnets) in [(Family::V4, item.ipv4), (Family::V6, item.ipv6)] {
            if config.enables(family) && !subnets.is_empty() {
                slots.push(Slot {
                    nic: item.interface.clone(),
                    family,
                    subnets,
                });
            }
        }
    }
    let wanted = number.of(workload.replicas);
    let size = config.max_addresses.map_or(wanted, |limit| wanted.min(limit.into()));
    let replicas = u32::try_from(workload.replicas).unwrap_or(u32::MAX);
    let stuck = workload
        .rolling
        .and_then(|rolling| rollout::stuck(size, replicas, rolling));
    Ok(Some(Request {
        number,
        size,
        beyond_limit: (size < wanted).then_some(wanted),
        stuck,
        reclaim,
        slots,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::names::{ANNOTATION_IP_NUMBER, ANNOTATION_RECLAIM, ANNOTATION_SUBNET, ANNOTATION_SUBNETS};
    use spiderpool_crds::sticky::StickyKinds;
    use spiderpool_ipam::rollout::Rolling;

    const CONFIG: Config = Config {
        sticky: StickyKinds {
            sets: true,
            machines: true,
        },
        ipv4: true,
        ipv6: true,
        subnets: true,
        automatic_pools: true,
        redundant_addresses: 1,
        max_addresses: None,
        workload_kinds: Vec::new(),
    };

    fn workload(annotations: &[(&str, &str)]) -> Workload {
        Workload {
            annotations: annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            replicas: 2,
            ..Workload::default()
        }
    }

    fn pools(annotations: &[(&str, &str)]) -> Request {
        match Asked::by(&workload(annotations), &CONFIG) {
            Asked::Pools(request) => request,
            other => panic!("{other:?}"),
        }
    }

    const DUAL: (&str, &str) = (ANNOTATION_SUBNET, r#"{"ipv4":["a","b"],"ipv6":["c"]}"#);

    fn slot(nic: &str, family: Family, subnets: &[&str]) -> Slot {
        Slot {
            nic: nic.to_owned(),
            family,
            subnets: subnets.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn dual_stack_is_two_pools_of_one_interface() {
        assert_eq!(
            pools(&[DUAL]),
            Request {
                number: IpNumber::Flexible(1),
                size: 3,
                beyond_limit: None,
                stuck: None,
                reclaim: true,
                slots: vec![slot("eth0", Family::V4, &["a", "b"]), slot("eth0", Family::V6, &["c"])],
            }
        );
    }

    #[test]
    fn several_interfaces_are_pools_of_their_own() {
        let text = r#"[{"interface":"eth0","ipv4":["a"]},{"interface":"net1","ipv4":["a"]}]"#;
        assert_eq!(
            pools(&[(ANNOTATION_SUBNETS, text)]).slots,
            [slot("eth0", Family::V4, &["a"]), slot("net1", Family::V4, &["a"])]
        );
    }

    #[test]
    fn size_and_life_follow_their_annotations() {
        let request = pools(&[DUAL, (ANNOTATION_IP_NUMBER, "7"), (ANNOTATION_RECLAIM, "false")]);
        assert_eq!((request.size, request.reclaim), (7, false));
        assert_eq!(pools(&[DUAL, (ANNOTATION_IP_NUMBER, "+0")]).size, 2);
    }

    #[test]
    fn the_configuration_may_limit_the_size() {
        let config = Config {
            max_addresses: Some(4),
            ..CONFIG
        };
        for (number, size, beyond) in [("+2", 4, None), ("+3", 4, Some(5)), ("9", 4, Some(9)), ("3", 3, None)] {
            let asked = Asked::by(&workload(&[DUAL, (ANNOTATION_IP_NUMBER, number)]), &config);
            let request = asked.request().unwrap();
            assert_eq!((request.size, request.beyond_limit), (size, beyond), "{number}");
        }
    }

    #[test]
    fn an_update_that_needs_a_spare_address_and_has_none_is_stuck() {
        let rolling = Some(Rolling::default());
        let stuck = |number| {
            let workload = Workload {
                rolling,
                ..workload(&[DUAL, (ANNOTATION_IP_NUMBER, number)])
            };
            let asked = Asked::by(&workload, &CONFIG);
            asked.request().unwrap().stuck.is_some()
        };
        assert!(stuck("+0") && stuck("2") && stuck("1"));
        assert!(!stuck("+1") && !stuck("3"));
    }

    #[test]
    fn sizes_do_not_overflow() {
        assert_eq!(IpNumber::Flexible(u32::MAX).of(u128::MAX), u128::MAX);
    }

    #[test]
    fn a_disabled_family_is_not_asked_for() {
        let config = Config { ipv6: false, ..CONFIG };
        let Asked::Pools(request) = Asked::by(&workload(&[DUAL]), &config) else {
            panic!("no pools");
        };
        assert_eq!(request.slots, [slot("eth0", Family::V4, &["a", "b"])]);
    }

    #[test]
    fn the_network_of_the_node_needs_no_pool() {
        let workload = Workload {
            host_network: true,
            ..workload(&[DUAL])
        };
        assert_eq!(Asked::by(&workload, &CONFIG), Asked::Nothing);
    }

    #[test]
    fn what_does_not_parse_is_unclear_and_says_what_to_write() {
        for annotation in [(ANNOTATION_SUBNET, "{"), (ANNOTATION_SUBNET, "{}")] {
            let Asked::Unclear(error) = Asked::by(&workload(&[annotation]), &CONFIG) else {
                panic!("{annotation:?} was understood");
            };
            assert!(error.to_string().contains(ANNOTATION_SUBNET), "{error}");
        }
        assert!(matches!(
            Asked::by(&workload(&[DUAL, (ANNOTATION_IP_NUMBER, "many")]), &CONFIG),
            Asked::Unclear(_)
        ));
    }

    #[test]
    fn no_annotation_asks_for_nothing() {
        assert_eq!(Asked::by(&workload(&[]), &CONFIG), Asked::Nothing);
    }
}
