//! Which of the objects that are stored may be used.
//!
//! Some rules cannot be checked by the API server, and others are younger than the objects that it has. So an object may break
//! any of them. It is left alone as long as nobody comes to harm: an object that says nothing about where its addresses are, with
//! which no pod could be set up, or that would give a pod the address of a router, is not used; every other one is. The operator
//! says which are not, in their condition Ready, and everybody else heeds that.

use super::network::{self, Network, network_of};
use super::{FieldError, Outcome, Rule, Settings, reserved_alone};
use crate::types::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_ipam::{Cidr, RangeSet};

/// How many faults of an object are named. The next are named when these are mended.
const NAMED: usize = 5;

impl Rule {
    /// Whether an object that breaks the rule must not be used.
    pub const fn makes_unusable(self) -> bool {
        match self {
            // Which addresses are meant is not known.
            Self::SubnetFormat
            | Self::SubnetCanonical
            | Self::VersionFits
            | Self::VersionKnown
            | Self::OneFamily
            | Self::RangeFormat
            | Self::RangeOrder
            | Self::RangeOrderIPv6
            | Self::RangeInside
            // No interface can be set up like that.
            | Self::GatewayFormat
            | Self::GatewayInside
            | Self::RouteFormat
            | Self::RouteFamily
            | Self::NextHopFormat
            | Self::NextHopInside
            // A pod would be given the router's address.
            | Self::GatewayAmongIps
            // An administrator wants nobody to have such addresses.
            | Self::FamilyEnabled => true,
            // Pods are served; at most fewer of them than was meant.
            Self::RouteDefault
            | Self::RouteTwice
            | Self::SelectorOperator
            | Self::LabelKey
            | Self::LabelValue
            | Self::PodAffinityEmpty
            | Self::NamespaceName
            | Self::NodeName
            | Self::MultusName
            | Self::AutomaticAffinity => false,
            // About a change, which was made.
            Self::SubnetStays
            | Self::VersionStays
            | Self::NameTaken
            | Self::GivenStays
            | Self::UsedStays
            | Self::Terminating
            | Self::InUse => false,
            // About other objects: who comes first is for the operator to say, which sees all of them.
            Self::NetworkOverlap
            | Self::PoolOverlap
            | Self::PoolsInside
            | Self::RecordsReadable
            | Self::InsideSubnet
            | Self::Accounted => false,
        }
    }
}

/// The network of a pool and the addresses that it offers; or why it must not be used.
pub fn usable_pool(pool: &SpiderIPPool, settings: Settings) -> Result<(Cidr, RangeSet), String> {
    sound(network_of!(pool.spec), settings)?;
    let parsed = pool.cidr().and_then(|cidr| Ok((cidr, pool.total()?)));
    parsed.map_err(|error| error.to_string())
}

/// The network of a subnet and the addresses that it has for pools; or why it must not be used.
pub fn usable_subnet(subnet: &SpiderSubnet, settings: Settings) -> Result<(Cidr, RangeSet), String> {
    sound(network_of!(subnet.spec), settings)?;
    let parsed = subnet.cidr().and_then(|cidr| Ok((cidr, subnet.total()?)));
    parsed.map_err(|error| error.to_string())
}

/// What is wrong with a reservation, of which the rest is in force all the same.
pub fn reserved_fault(reserved: &SpiderReservedIP) -> Option<String> {
    // Nobody comes to harm by a reservation of addresses that are not given out anyway.
    let all = Settings {
        ipv4: true,
        ipv6: true,
        subnets: true,
        protect_used: false,
    };
    let outcome = reserved_alone(reserved, None, all);
    let faults: Vec<&FieldError> = faults(&outcome).collect();
    (!faults.is_empty()).then(|| told(&faults))
}

fn sound(network: Network<'_>, settings: Settings) -> Result<(), String> {
    let mut outcome = Outcome::default();
    network::judge(network, settings, &mut outcome);
    let faults: Vec<&FieldError> = faults(&outcome).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(told(&faults)),
    }
}

fn faults(outcome: &Outcome) -> impl Iterator<Item = &FieldError> {
    // To exclude what is not there does no harm.
    let harmless = |error: &&FieldError| error.rule == Rule::RangeInside && error.field.starts_with("spec.excludeIPs");
    let counts = outcome.errors.iter().filter(|error| error.rule.makes_unusable());
    counts.filter(move |error| !harmless(error))
}

fn told(faults: &[&FieldError]) -> String {
    let named = faults.iter().take(NAMED);
    let mut texts: Vec<String> = named
        .map(|error| format!("{}: {}", error.field, error.message))
        .collect();
    if faults.len() > NAMED {
        texts.push(format!("and {} more", faults.len() - NAMED));
    }
    texts.join("; ")
}
