//! What is on record for a pod, for CHECK: its endpoint, and whether the pools say the same.

use crate::context::Context;
use crate::endpoints;
use crate::error::RequestError;
use crate::sticky::Identity;
use spiderpool_crds::NicDetail;
use spiderpool_ipam::Owner;
use spiderpool_wire::{EndpointInterface, EndpointRoute, WorkloadEndpointStatus};
use std::net::IpAddr;
use tokio::time::Instant;

/// What is on record; nothing if there is no endpoint.
pub async fn status(
    context: &Context,
    namespace: &str,
    name: &str,
    deadline: Instant,
) -> Result<Option<WorkloadEndpointStatus>, RequestError> {
    let pod = context.pods.get(namespace, name);
    let identity = pod.map(|pod| Identity::of(&context.config, &pod));
    let identity = identity.map_or_else(|| name.to_owned(), |identity| identity.name);
    let Some(endpoint) = endpoints::read(context, namespace, &identity, deadline).await? else {
        return Ok(None);
    };
    let current = endpoint.status.current;
    let mut interfaces = Vec::with_capacity(current.ips.len());
    for item in &current.ips {
        let owner = Owner {
            pod: format!("{namespace}/{identity}"),
            uid: current.uid.clone(),
            nic: Some(item.interface.clone()),
        };
        let ipv4_fault = fault(context, &owner, &item.ipv4, &item.ipv4_pool, deadline).await?;
        let ipv6_fault = fault(context, &owner, &item.ipv6, &item.ipv6_pool, deadline).await?;
        interfaces.push(EndpointInterface {
            ipv4_fault: ipv4_fault.unwrap_or_default(),
            ipv6_fault: ipv6_fault.unwrap_or_default(),
            ..interface(item)
        });
    }
    Ok(Some(WorkloadEndpointStatus {
        interfaces,
        node: current.node,
        pod_name: name.to_owned(),
        pod_namespace: namespace.to_owned(),
        pod_uid: current.uid,
    }))
}

/// Why a pool does not have an address on record for the NIC. That the pool cannot be read says nothing about its records.
async fn fault(
    context: &Context,
    owner: &Owner,
    address: &Option<String>,
    pool: &Option<String>,
    deadline: Instant,
) -> Result<Option<String>, RequestError> {
    let (Some(address), Some(pool)) = (address.as_deref(), pool.as_deref()) else {
        return Ok(None);
    };
    match address.split('/').next().unwrap_or_default().parse::<IpAddr>() {
        Ok(ip) => Ok(context.pools.fault(pool, ip, owner, deadline).await?),
        Err(_) => Ok(Some(format!("{address:?} in the endpoint is not an address"))),
    }
}

fn interface(item: &NicDetail) -> EndpointInterface {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let routes = item.routes.iter().flatten();
    EndpointInterface {
        interface: item.interface.clone(),
        ipv4: text(&item.ipv4),
        ipv4_gateway: text(&item.ipv4_gateway),
        ipv4_pool: text(&item.ipv4_pool),
        ipv6: text(&item.ipv6),
        ipv6_gateway: text(&item.ipv6_gateway),
        ipv6_pool: text(&item.ipv6_pool),
        mac: text(&item.mac),
        routes: routes
            .map(|route| EndpointRoute {
                dst: route.dst.clone(),
                gw: route.gw.clone(),
                if_name: None,
            })
            .collect(),
        vlan: item.vlan.unwrap_or_default(),
        container_id: text(&item.container_id),
        ipv4_fault: String::new(),
        ipv6_fault: String::new(),
    }
}
