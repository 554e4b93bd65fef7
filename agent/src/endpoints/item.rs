//! A NIC's item of the endpoint, made from claims, and the plugin's answer, made from items.

use super::routes;
use crate::pools::Claimed;
use spiderpool_crds::{NicDetail, SpiderEndpoint, SpiderIPPool};
use spiderpool_ipam::{Family, addr};
use spiderpool_wire::{IpConfig, IpamAddResponse};
use std::net::IpAddr;

/// The item of a NIC that was given these addresses, with the routes of their pools.
pub fn item(nic: &str, clean_gateway: bool, claims: &[Claimed]) -> NicDetail {
    let mut item = NicDetail {
        interface: nic.to_owned(),
        vlan: Some(0),
        ..NicDetail::default()
    };
    let mut pool_routes = Vec::new();
    for claim in claims {
        let pool: &SpiderIPPool = &claim.pool;
        // A claim comes from a pool whose subnet was parsed to make it.
        let Ok(cidr) = pool.cidr() else { continue };
        let (family, bits) = addr::to_bits(claim.taken.ip);
        let address = Some(cidr.with_prefix(bits));
        let name = pool.metadata.name.clone();
        let gateway = pool.spec.gateway.clone().filter(|gateway| !gateway.is_empty());
        if gateway.is_some() {
            item.clean_gateway = Some(clean_gateway);
        }
        match family {
            Family::V4 => (item.ipv4, item.ipv4_pool, item.ipv4_gateway) = (address, name, gateway),
            Family::V6 => (item.ipv6, item.ipv6_pool, item.ipv6_gateway) = (address, name, gateway),
        }
        pool_routes.extend(pool.spec.routes.iter().flatten().cloned());
    }
    pool_routes.into_iter().for_each(|route| routes::add(&mut item, route));
    item
}

/// The item of a NIC with the sandbox that is set up with it, and the network, for which GC looks.
pub fn of_attachment(item: NicDetail, container: &str, network: &str) -> NicDetail {
    NicDetail {
        container_id: Some(container.to_owned()),
        network_name: Some(network.to_owned()).filter(|name| !name.is_empty()),
        ..item
    }
}

/// The addresses of an item, without their prefix lengths.
pub fn addresses(item: &NicDetail) -> Vec<IpAddr> {
    item.addresses().map(|(ip, _)| ip).collect()
}

/// The answer for a pod: all its NICs, IPv4 before IPv6.
pub fn answer(endpoint: &SpiderEndpoint) -> IpamAddResponse {
    let mut response = IpamAddResponse::default();
    for item in &endpoint.status.current.ips {
        let families = [
            (Family::V4, "0.0.0.0/0", &item.ipv4, &item.ipv4_gateway, &item.ipv4_pool),
            (Family::V6, "::/0", &item.ipv6, &item.ipv6_gateway, &item.ipv6_pool),
        ];
        for (family, everywhere, address, gateway, pool) in families {
            let Some(address) = address else { continue };
            let gateway = gateway.clone().unwrap_or_default();
            if !gateway.is_empty() && item.clean_gateway != Some(true) {
                response.routes.push(route(item, everywhere, &gateway));
            }
            response.ips.push(IpConfig {
                address: address.clone(),
                gateway,
                ip_pool: pool.clone().unwrap_or_default(),
                nic: item.interface.clone(),
                version: family.number(),
                vlan: item.vlan.unwrap_or_default(),
                ..IpConfig::default()
            });
        }
        response
            .routes
            .extend(item.routes.iter().flatten().map(|own| route(item, &own.dst, &own.gw)));
    }
    response
}

fn route(item: &NicDetail, dst: &str, gw: &str) -> spiderpool_wire::Route {
    spiderpool_wire::Route {
        if_name: item.interface.clone(),
        dst: dst.to_owned(),
        gw: gw.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::Taken;
    use spiderpool_crds::{EndpointStatus, IPPoolSpec, PodAllocation, Route};
    use std::sync::Arc;

    fn claimed(name: &str, subnet: &str, gateway: &str, ip: &str) -> Claimed {
        let spec = IPPoolSpec {
            subnet: subnet.to_owned(),
            gateway: Some(gateway.to_owned()),
            ..IPPoolSpec::default()
        };
        let taken = Taken {
            ip: ip.parse().unwrap(),
            new: true,
            written: true,
        };
        Claimed {
            taken,
            pool: Arc::new(SpiderIPPool::new(name, spec)),
        }
    }

    fn dual(clean: bool) -> SpiderEndpoint {
        // IPv6 first, as it may be claimed first.
        let claims = [
            claimed("p6", "fd77::/64", "fd77::1", "fd77::1:10"),
            claimed("p4", "10.77.0.0/20", "10.77.0.1", "10.77.1.10"),
        ];
        let custom = [("192.0.2.0/24", "10.77.0.254"), ("2001:db8::/32", "fd99::1")].map(|(dst, gw)| Route {
            dst: dst.to_owned(),
            gw: gw.to_owned(),
            ..Route::default()
        });
        let mut ips = vec![item("eth0", clean, &claims)];
        routes::attach(&mut ips, &["eth0"], &custom);
        let status = EndpointStatus {
            current: PodAllocation {
                ips,
                ..PodAllocation::default()
            },
            ..EndpointStatus::default()
        };
        SpiderEndpoint::new("retail", "shop", status)
    }

    fn routes(response: &IpamAddResponse) -> Vec<(&str, &str)> {
        response
            .routes
            .iter()
            .map(|route| (route.dst.as_str(), route.gw.as_str()))
            .collect()
    }

    #[test]
    fn an_answer_lists_ipv4_first_and_routes_only_what_the_subnets_reach() {
        let response = answer(&dual(false));
        let ips: Vec<(&str, i64)> = response
            .ips
            .iter()
            .map(|ip| (ip.address.as_str(), ip.version))
            .collect();
        assert_eq!(ips, [("10.77.1.10/20", 4), ("fd77::1:10/64", 6)]);
        let expected = [
            ("0.0.0.0/0", "10.77.0.1"),
            ("::/0", "fd77::1"),
            ("192.0.2.0/24", "10.77.0.254"),
        ];
        assert_eq!(routes(&response), expected);
    }

    #[test]
    fn a_clean_gateway_leaves_the_default_routes_out_and_is_remembered() {
        let endpoint = dual(true);
        assert_eq!(endpoint.status.current.ips[0].clean_gateway, Some(true));
        let response = answer(&endpoint);
        assert_eq!(routes(&response), [("192.0.2.0/24", "10.77.0.254")]);
        assert_eq!(response.ips[0].gateway, "10.77.0.1");
    }
}
