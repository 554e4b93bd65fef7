//! Routes beside the default route: those of the pools, and those that the pod's annotation adds.
//!
//! A route of the annotation goes with the first NIC of the pod that has an address in a subnet with the route's gateway; only
//! there it can be reached.

use spiderpool_crds::{NicDetail, Route};
use spiderpool_ipam::Cidr;

/// Adds a route to a NIC, unless it has it.
pub(super) fn add(item: &mut NicDetail, route: Route) {
    let routes = item.routes.get_or_insert_default();
    if !routes.iter().any(|own| own.dst == route.dst && own.gw == route.gw) {
        routes.push(route);
    }
}

/// Adds the routes of the annotation to those of a pod's NICs that were granted now. The others got theirs when they were.
pub(super) fn attach(items: &mut [NicDetail], granted: &[&str], custom: &[Route]) {
    for route in custom {
        let first = items.iter_mut().find(|item| reaches(item, route));
        if let Some(item) = first.filter(|item| granted.contains(&item.interface.as_str())) {
            add(item, route.clone());
        }
    }
}

/// The routes of the annotation that no NIC can reach the gateway of.
pub fn unreached<'a>(items: &[NicDetail], custom: &'a [Route]) -> Vec<&'a Route> {
    let reached = |route: &&Route| items.iter().any(|item| reaches(item, route));
    custom.iter().filter(|route| !reached(route)).collect()
}

/// Whether a route's gateway lies in the subnet of an address of the NIC.
fn reaches(item: &NicDetail, route: &Route) -> bool {
    let subnets = [&item.ipv4, &item.ipv6].into_iter().flatten();
    let mut subnets = subnets.filter_map(|address| Cidr::parse_lenient(address).ok());
    let gateway = route.gw.parse();
    gateway.is_ok_and(|gateway| subnets.any(|subnet| subnet.contains(gateway)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(name: &str, ipv4: &str, ipv6: &str) -> NicDetail {
        let address = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        NicDetail {
            interface: name.to_owned(),
            ipv4: address(ipv4),
            ipv6: address(ipv6),
            ..NicDetail::default()
        }
    }

    fn route(dst: &str, gw: &str) -> Route {
        Route {
            dst: dst.to_owned(),
            gw: gw.to_owned(),
            ..Route::default()
        }
    }

    fn destinations(items: &[NicDetail]) -> Vec<Vec<&str>> {
        let of = |item| {
            let item: &NicDetail = item;
            item.routes.iter().flatten().map(|route| route.dst.as_str()).collect()
        };
        items.iter().map(of).collect()
    }

    #[test]
    fn a_route_goes_with_the_first_nic_whose_subnet_has_its_gateway() {
        let custom = [
            route("192.0.2.0/24", "10.77.0.254"),
            route("2001:db8::/32", "fd78::1"),
            route("198.51.100.0/24", "10.99.0.1"),
            route("203.0.113.0/24", "10.78.0.254"),
        ];
        let nics = || {
            vec![
                nic("eth0", "10.77.1.1/20", ""),
                nic("net1", "10.77.1.2/20", "fd78::2/64"),
                nic("net2", "10.78.0.2/24", "fd78::3/64"),
            ]
        };
        let mut all = nics();
        attach(&mut all, &["eth0", "net1", "net2"], &custom);
        let expected = [vec!["192.0.2.0/24"], vec!["2001:db8::/32"], vec!["203.0.113.0/24"]];
        assert_eq!(destinations(&all), expected);
        // One after the other they get the same, and again nothing more.
        let mut each = nics();
        for _ in 0..2 {
            for granted in ["net2", "eth0", "net1"] {
                attach(&mut each, &[granted], &custom);
            }
        }
        assert_eq!(each, all);
        let unreached: Vec<&str> = unreached(&all, &custom)
            .into_iter()
            .map(|route| route.dst.as_str())
            .collect();
        assert_eq!(unreached, ["198.51.100.0/24"]);
    }

    #[test]
    fn the_route_of_a_pool_is_not_repeated() {
        let mut items = [nic("eth0", "10.77.1.1/20", "")];
        add(&mut items[0], route("192.0.2.0/24", "10.77.0.254"));
        attach(&mut items, &["eth0"], &[route("192.0.2.0/24", "10.77.0.254")]);
        assert_eq!(destinations(&items), [["192.0.2.0/24"]]);
    }
}
