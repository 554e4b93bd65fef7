//! What subnets and pools have in common: a network, addresses of it, a gateway and routes.

use super::{Settings, Verdict};
use crate::types::Route;
use spiderpool_ipam::{Cidr, Family, Range, RangeSet, addr, text};

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
            gateway: $spec.gateway.as_deref().filter(|text| !text.is_empty()),
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
pub(super) fn judge(network: Network<'_>, settings: Settings, verdict: &mut Verdict) -> Option<Sound> {
    let cidr = match Cidr::parse(network.subnet) {
        Ok(cidr) => cidr,
        Err(error) => {
            verdict.invalid("spec.subnet", network.subnet, error.to_string());
            return None;
        }
    };
    let family = cidr.family();
    if let Some(version) = network.ip_version.filter(|version| *version != family.number()) {
        let message = format!(
            "the subnet {cidr} is {family}; write {} or leave ipVersion out",
            family.number()
        );
        verdict.invalid("spec.ipVersion", &version.to_string(), message);
        return None;
    }
    if !settings.enables(family) {
        let switch = format!("ipam.enable{family}");
        verdict.forbidden(
            "spec.ipVersion",
            format!(
                "{family} is switched off; switch it on with the chart value {switch}, or use the other IP version"
            ),
        );
    }
    let before = verdict.refusals.len();
    let ips = ranges(cidr, "ips", network.ips, verdict);
    let excluded = ranges(cidr, "excludeIPs", network.exclude_ips, verdict);
    let sound = verdict.refusals.len() == before;
    let total: RangeSet = ips.iter().map(|(_, range)| *range).collect::<RangeSet>();
    let total = total.difference(&excluded.iter().map(|(_, range)| *range).collect());
    gateway(cidr, network.gateway, &ips, &total, verdict);
    routes(cidr, network.routes, verdict);
    if sound {
        advise(cidr, &ips, verdict);
    }
    sound.then_some(Sound { cidr, total })
}

/// What cannot be changed.
pub(super) fn stays(new: Network<'_>, old: Network<'_>, verdict: &mut Verdict) {
    if let Some(before) = old.ip_version
        && new.ip_version != Some(before)
    {
        verdict.forbidden(
            "spec.ipVersion",
            "ipVersion cannot be changed or removed once it is set; delete the object and create it with the other version",
        );
    }
    if new.subnet != old.subnet {
        verdict.forbidden(
            "spec.subnet",
            "the subnet cannot be changed; delete the object and create it with the new subnet",
        );
    }
}

fn ranges(cidr: Cidr, name: &str, texts: &[String], verdict: &mut Verdict) -> Vec<(usize, Range)> {
    let mut found = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let field = || format!("spec.{name}[{index}]");
        match text::parse_range(cidr.family(), text) {
            Err(error) => verdict.invalid(field(), text, error.to_string()),
            Ok(range) if !holds(cidr, &range) => verdict.invalid(
                field(),
                text,
                format!("the addresses are not inside spec.subnet {cidr}; write addresses of that subnet"),
            ),
            Ok(range) => found.push((index, range)),
        }
    }
    found
}

fn holds(cidr: Cidr, range: &Range) -> bool {
    cidr.range().contains(range.first()) && cidr.range().contains(range.last())
}

fn gateway(cidr: Cidr, gateway: Option<&str>, ips: &[(usize, Range)], total: &RangeSet, verdict: &mut Verdict) {
    let Some(gateway) = gateway else { return };
    let bits = match text::parse_addr(cidr.family(), gateway) {
        Ok(bits) => bits,
        Err(error) => return verdict.invalid("spec.gateway", gateway, error.to_string()),
    };
    if !cidr.range().contains(bits) {
        let message = format!("the gateway is not inside spec.subnet {cidr}; write an address of that subnet");
        return verdict.invalid("spec.gateway", gateway, message);
    }
    if total.contains(bits)
        && let Some((index, range)) = ips.iter().find(|(_, range)| range.contains(bits))
    {
        verdict.invalid(
            format!("spec.ips[{index}]"),
            &text::print_range(cidr.family(), range),
            format!(
                "the gateway {gateway} is among the addresses for pods; take it out of ips or add it to excludeIPs"
            ),
        );
    }
    if is_edge(cidr, bits) {
        verdict.warn(format!(
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

fn routes(cidr: Cidr, routes: &[Route], verdict: &mut Verdict) {
    let mut seen = Vec::with_capacity(routes.len());
    for (index, route) in routes.iter().enumerate() {
        let dst = || format!("spec.routes[{index}].dst");
        match Cidr::parse_lenient(&route.dst) {
            Err(error) => verdict.invalid(dst(), &route.dst, error.to_string()),
            Ok(found) if found.family() != cidr.family() => {
                let message = format!("the route is not {}, as the subnet is", cidr.family());
                verdict.invalid(dst(), &route.dst, message);
            }
            Ok(found) if found.prefix() == 0 => {
                let message = "the default route is not a route here; write its next hop in spec.gateway";
                verdict.invalid(dst(), &route.dst, message);
            }
            Ok(found) if seen.contains(&found) => {
                let message = format!("another route goes to {found} already; keep one of them");
                verdict.invalid(dst(), &route.dst, message);
            }
            Ok(found) => seen.push(found),
        }
        let gw = || format!("spec.routes[{index}].gw");
        match text::parse_addr(cidr.family(), &route.gw) {
            Err(error) => verdict.invalid(gw(), &route.gw, error.to_string()),
            Ok(bits) if !cidr.range().contains(bits) => {
                let message = format!("the next hop is not inside spec.subnet {cidr}; write an address of that subnet");
                verdict.invalid(gw(), &route.gw, message);
            }
            Ok(_) => {}
        }
    }
}

/// What is legal and probably not meant.
fn advise(cidr: Cidr, ips: &[(usize, Range)], verdict: &mut Verdict) {
    let mut seen = RangeSet::new();
    for (index, range) in ips {
        let own: RangeSet = [*range].into_iter().collect();
        if seen.intersects(&own) {
            let both = text::print_ranges(cidr.family(), &seen.intersection(&own)).join(", ");
            verdict.warn(format!(
                "spec.ips[{index}]: {both} stands in ips more than once; it counts once"
            ));
        }
        seen.insert(*range);
        let edges = [cidr.range().first(), cidr.range().last()];
        for bits in edges {
            if is_edge(cidr, bits) && range.contains(bits) {
                verdict.warn(format!(
                    "spec.ips[{index}]: {} is the network or broadcast address of {cidr}; a pod that gets it is not reached by its \
                     neighbours; add it to excludeIPs",
                    addr::from_bits(cidr.family(), bits)
                ));
            }
        }
    }
}
