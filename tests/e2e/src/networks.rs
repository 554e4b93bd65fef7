//! The networks of scenes. Each scene has a number that no other has, and the number is part of its addresses.

use anyhow::{Context, Result, bail};
use kube::Api;
use kube::api::PostParams;
use spiderpool_crds::{SpiderSubnet, SubnetSpec};

use crate::cluster::Cluster;

/// Scenes have numbers from 1 to this.
const MOST: u16 = 250;

/// CIDR of a scene's network of an IP version.
pub(crate) fn network(number: u16, version: u8) -> String {
    if version == 4 {
        format!("10.80.{number}.0/24")
    } else {
        format!("fd80:{number:x}::/64")
    }
}

/// Name of the subnet of that network.
pub(crate) fn subnet_name(number: u16, version: u8) -> String {
    format!("e2e-{number}-v{version}")
}

/// Its spec.
pub(crate) fn subnet_spec(number: u16, version: u8) -> SubnetSpec {
    let (ips, gateway) = if version == 4 {
        (
            format!("10.80.{number}.10-10.80.{number}.250"),
            format!("10.80.{number}.1"),
        )
    } else {
        (
            format!("fd80:{number:x}::10-fd80:{number:x}::ffff"),
            format!("fd80:{number:x}::1"),
        )
    };
    SubnetSpec {
        subnet: network(number, version),
        ips: Some(vec![ips]),
        gateway: Some(gateway),
        ..SubnetSpec::default()
    }
}

/// Takes a number that no other test has, in this process or another: making its IPv4 subnet is the claim.
pub(crate) async fn claim(cluster: &Cluster) -> Result<u16> {
    let subnets: Api<SpiderSubnet> = Api::all(cluster.client.clone());
    for number in 1..=MOST {
        let subnet = SpiderSubnet::new(&subnet_name(number, 4), subnet_spec(number, 4));
        match subnets.create(&PostParams::default(), &subnet).await {
            Ok(_) => return Ok(number),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error).context("making the IPv4 subnet; is the chart installed?"),
        }
    }
    bail!("all {MOST} numbers of scenes are taken; delete the subnets e2e-* of runs that failed")
}
