//! What subnets and pools have in common: a network, addresses of it, a gateway and routes.

use super::{Outcome, Rule, Settings, Stage};
use crate::types::Route;
use spiderpool_ipam::{Cidr, Family, Range, RangeSet, TextError, addr, text};

/// The fields, still as text.
#[derive(Clone, Copy)]
pub(super) struct Network<'a> {
    pub ip_version: Option<i64>,
    pub subnet: &'a str,
    pub ips: &'a [String],
    pub exclude_ips: &'a [String],
    pub gateway: Option<&'a str>,
    pub routes: &'a [Route],
}

macro_rules! network_of {
    ($spec:expr) => {
        $crate::admission::network::Network {
            ip_version: $spec.ip_version,
            subnet: &$spec.subnet,
            ips: $spec.ips.as_deref().unwrap_or_default(),
            exclude_ips: $spec.exclude_ips.as_deref().unwrap_or_default(),
            gateway: $spec.gateway.as_deref(),
            routes: $spec.routes.as_deref().unwrap_or_default(),
        }
    };
}
pub(super) use network_of;

/// What the text of a sound network says.
pub(super) struct Sound {
    pub cidr: Cidr,
    /// ips without excludeIPs.
    pub total: RangeSet,
}

/// Judges what one object alone can tell. Gives what its text says unless something is wrong with the addresses.
pub(super) fn judge(network: Network<'_>, settings: Settings, outcome: &mut Outcome) -> Option<Sound> {
    let cidr = subnet(network.subnet, outcome);
    let version = version(network, cidr, settings, outcome);
    let before = outcome.errors.len();
    let ips = ranges(cidr, "ips", network.ips, outcome);
    let excluded = ranges(cidr, "excludeIPs", network.exclude_ips, outcome);
    let sound = outcome.errors.len() == before;
    let total: RangeSet = ips.iter().map(|(_, range)| *range).collect::<RangeSet>();
    let total = total.difference(&excluded.iter().map(|(_, range)| *range).collect());
    if let Some(gateway) = network.gateway {
        judge_gateway(cidr, gateway, &ips, &total, outcome);
    }
    routes(cidr, network.routes, outcome);
    let cidr = cidr.filter(|_| sound && version)?;
    advise(cidr, &ips, outcome);
    Some(Sound { cidr, total })
}

fn subnet(text: &str, outcome: &mut Outcome) -> Option<Cidr> {
    match Cidr::parse(text) {
        Ok(cidr) => Some(cidr),
        Err(error) => {
            let rule = match error {
                TextError::NotCanonical { .. } => Rule::SubnetCanonical,
                _ => Rule::SubnetFormat,
            };
            outcome.invalid(rule, "spec.subnet", text, error.to_string());
            // What is inside can be told all the same.
            Cidr::parse_lenient(text).ok()
        }
    }
}

/// Whether the family is as it should be.
fn version(network: Network<'_>, cidr: Option<Cidr>, settings: Settings, outcome: &mut Outcome) -> bool {
    let Some(cidr) = cidr else { return false };
    let family = cidr.family();
    if let Some(version) = network.ip_version.filter(|version| *version != family.number()) {
        let message = format!(
            "the subnet {cidr} is {family}; write {} or leave ipVersion out",
            family.number()
        );
        outcome.invalid(Rule::VersionFits, "spec.ipVersion", version.to_string(), message);
        return false;
    }
    if !settings.enables(family) {
        switched_off(family, outcome);
    }
    true
}

/// Says that a family is not to be used.
pub(super) fn switched_off(family: Family, outcome: &mut Outcome) {
    let message = format!(
        "{family} is switched off; switch it on with the chart value ipam.enable{family}, or use the other IP version"
    );
    outcome.forbidden(Rule::FamilyEnabled, "spec.ipVersion", message);
}

/// What cannot be changed.
pub(super) fn stays(new: Network<'_>, old: Network<'_>, outcome: &mut Outcome) {
    version_stays(new.ip_version, old.ip_version, outcome);
    if new.subnet != old.subnet {
        let message = "the subnet cannot be changed; delete the object and create it with the new subnet";
        outcome.forbidden(Rule::SubnetStays, "spec.subnet", message);
    }
}

/// `ipVersion` can be filled in once.
pub(super) fn version_stays(new: Option<i64>, old: Option<i64>, outcome: &mut Outcome) {
    if old.is_some() && new != old {
        let message = "ipVersion cannot be changed or removed once it is set; delete the object and create it with the other version";
        outcome.forbidden(Rule::VersionStays, "spec.ipVersion", message);
    }
}

/// Takes back what is said of the text of fields that did not change: who changes another field did not break them, and the API
/// server lets them pass, too.
pub(super) fn unchanged_pass(new: Network<'_>, old: Network<'_>, outcome: &mut Outcome) {
    unchanged_fields_pass(outcome, |field| match field {
        "subnet" => new.subnet == old.subnet,
        "ipVersion" => new.ip_version == old.ip_version,
        "ips" => new.ips == old.ips,
        "excludeIPs" => new.exclude_ips == old.exclude_ips,
        "gateway" => new.gateway == old.gateway,
        "routes" => new.routes == old.routes,
        _ => false,
    });
    unchanged_addresses_pass(new, old, outcome);
}

/// Takes back what is said of addresses that stay: they were so before.
fn unchanged_addresses_pass(new: Network<'_>, old: Network<'_>, outcome: &mut Outcome) {
    let same = new.ips == old.ips && new.exclude_ips == old.exclude_ips;
    outcome.errors.retain(|error| match error.rule {
        Rule::FamilyEnabled => !same,
        Rule::GatewayAmongIps => !same || new.gateway != old.gateway,
        _ => true,
    });
}

/// Takes back what is said of the text of fields of which `same` says that they did not change.
pub(super) fn unchanged_fields_pass(outcome: &mut Outcome, same: impl Fn(&str) -> bool) {
    let about_text = |rule: Rule| rule.stage() != Stage::Webhook || rule == Rule::RangeOrderIPv6;
    outcome.errors.retain(|error| {
        let field = error.field.strip_prefix("spec.").unwrap_or(&error.field);
        let root = field.split(['.', '[']).next().unwrap_or_default();
        !(about_text(error.rule) && same(root))
    });
}

/// The ranges of a list, with their indices. Without a subnet only their text is judged.
fn ranges(cidr: Option<Cidr>, name: &str, texts: &[String], outcome: &mut Outcome) -> Vec<(usize, Range)> {
    let mut found = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let field = || format!("spec.{name}[{index}]");
        let family = cidr.map_or_else(|| family_of(text), |cidr| cidr.family());
        match text::parse_range(family, text) {
            Err(error) => {
                if cidr.is_none() && matches!(error, TextError::Family { .. }) {
                    continue;
                }
                outcome.invalid(range_rule(&error, family), field(), text, error.to_string());
                if let (TextError::Reversed { proposal, .. }, Some(cidr)) = (&error, cidr)
                    && text::parse_range(family, proposal).is_ok_and(|range| !holds(cidr, &range))
                {
                    outside(cidr, field(), text, outcome);
                }
            }
            Ok(range) => match cidr.filter(|cidr| !holds(*cidr, &range)) {
                Some(cidr) => outside(cidr, field(), text, outcome),
                None => found.push((index, range)),
            },
        }
    }
    found
}

fn outside(cidr: Cidr, field: String, text: &str, outcome: &mut Outcome) {
    let message = format!("{text} is not inside spec.subnet {cidr}; write addresses of that subnet");
    outcome.invalid(Rule::RangeInside, field, text, message);
}

/// The family that a text seems to be of.
pub(super) fn family_of(text: &str) -> Family {
    if text.contains(':') { Family::V6 } else { Family::V4 }
}

/// The rule that a range breaks which does not parse.
pub(super) fn range_rule(error: &TextError, family: Family) -> Rule {
    match (error, family) {
        (TextError::Reversed { .. }, Family::V4) => Rule::RangeOrder,
        (TextError::Reversed { .. }, Family::V6) => Rule::RangeOrderIPv6,
        (TextError::Family { .. }, _) => Rule::RangeInside,
        _ => Rule::RangeFormat,
    }
}

fn holds(cidr: Cidr, range: &Range) -> bool {
    cidr.range().contains(range.first()) && cidr.range().contains(range.last())
}

fn judge_gateway(cidr: Option<Cidr>, gateway: &str, ips: &[(usize, Range)], total: &RangeSet, outcome: &mut Outcome) {
    let family = cidr.map_or_else(|| family_of(gateway), |cidr| cidr.family());
    let bits = match text::parse_addr(family, gateway) {
        Ok(bits) => bits,
        Err(error) => {
            let rule = match error {
                TextError::Family { .. } => Rule::GatewayInside,
                _ => Rule::GatewayFormat,
            };
            return outcome.invalid(rule, "spec.gateway", gateway, error.to_string());
        }
    };
    let Some(cidr) = cidr else { return };
    if !cidr.range().contains(bits) {
        let message =
            format!("the gateway {gateway} is not inside spec.subnet {cidr}; write an address of that subnet");
        return outcome.invalid(Rule::GatewayInside, "spec.gateway", gateway, message);
    }
    if total.contains(bits)
        && let Some((index, range)) = ips.iter().find(|(_, range)| range.contains(bits))
    {
        outcome.invalid(
            Rule::GatewayAmongIps,
            format!("spec.ips[{index}]"),
            text::print_range(cidr.family(), range),
            format!(
                "the gateway {gateway} is among the addresses for pods; take it out of ips or add it to excludeIPs"
            ),
        );
    }
    if is_edge(cidr, bits) {
        outcome.warn(format!(
            "spec.gateway: {gateway} is the {} address of {cidr}, which hosts do not have; is this the router's address?",
            if bits == cidr.range().first() { "network" } else { "broadcast" }
        ));
    }
}

/// Whether an address is the network or broadcast address of an IPv4 subnet. IPv6 has no broadcast, and its first address is the
/// routers' own.
fn is_edge(cidr: Cidr, bits: u128) -> bool {
    let range = cidr.range();
    cidr.family() == Family::V4 && cidr.prefix() < 31 && (bits == range.first() || bits == range.last())
}

fn routes(cidr: Option<Cidr>, routes: &[Route], outcome: &mut Outcome) {
    let mut seen = Vec::with_capacity(routes.len());
    for (index, route) in routes.iter().enumerate() {
        let dst = || format!("spec.routes[{index}].dst");
        match Cidr::parse_lenient(&route.dst) {
            Err(error) => outcome.invalid(Rule::RouteFormat, dst(), &route.dst, error.to_string()),
            Ok(found) => {
                if let Some(cidr) = cidr.filter(|cidr| cidr.family() != found.family()) {
                    let message = format!("the route {} is not {}, as the subnet is", route.dst, cidr.family());
                    outcome.invalid(Rule::RouteFamily, dst(), &route.dst, message);
                }
                if found.prefix() == 0 {
                    let message = format!(
                        "{} is the default route, which is not a route here; write its next hop in spec.gateway",
                        route.dst
                    );
                    outcome.invalid(Rule::RouteDefault, dst(), &route.dst, message);
                }
                if seen.contains(&found) {
                    let message = format!("another route goes to {found}, too; keep one of them");
                    outcome.invalid(Rule::RouteTwice, dst(), &route.dst, message);
                }
                seen.push(found);
            }
        }
        next_hop(cidr, index, &route.gw, outcome);
    }
}

fn next_hop(cidr: Option<Cidr>, index: usize, gw: &str, outcome: &mut Outcome) {
    let field = format!("spec.routes[{index}].gw");
    let family = cidr.map_or_else(|| family_of(gw), |cidr| cidr.family());
    match text::parse_addr(family, gw) {
        Err(error @ TextError::Family { .. }) => outcome.invalid(Rule::NextHopInside, field, gw, error.to_string()),
        Err(error) => outcome.invalid(Rule::NextHopFormat, field, gw, error.to_string()),
        Ok(bits) => {
            if let Some(cidr) = cidr.filter(|cidr| !cidr.range().contains(bits)) {
                let message =
                    format!("the next hop {gw} is not inside spec.subnet {cidr}; write an address of that subnet");
                outcome.invalid(Rule::NextHopInside, field, gw, message);
            }
        }
    }
}

/// What is legal and probably not meant.
fn advise(cidr: Cidr, ips: &[(usize, Range)], outcome: &mut Outcome) {
    for warning in twice(cidr.family(), "ips", ips.iter().copied()) {
        outcome.warn(warning);
    }
    for (index, range) in ips {
        let edges = [cidr.range().first(), cidr.range().last()];
        for bits in edges {
            if is_edge(cidr, bits) && range.contains(bits) {
                outcome.warn(format!(
                    "spec.ips[{index}]: {} is the network or broadcast address of {cidr}; a pod that gets it is not reached by its \
                     neighbours; add it to excludeIPs",
                    addr::from_bits(cidr.family(), bits)
                ));
            }
        }
    }
}

/// Says which addresses stand in a list more than once.
pub(super) fn twice(family: Family, name: &str, ranges: impl Iterator<Item = (usize, Range)>) -> Vec<String> {
    let (mut seen, mut warnings) = (RangeSet::new(), Vec::new());
    for (index, range) in ranges {
        let own: RangeSet = [range].into_iter().collect();
        if seen.intersects(&own) {
            let both = text::print_ranges(family, &seen.intersection(&own)).join(", ");
            warnings.push(format!(
                "spec.{name}[{index}]: {both} stands in {name} more than once; it counts once"
            ));
        }
        seen.insert(range);
    }
    warnings
}
