//! The networks of scenes. Each scene has a number that no other has, and the number is part of its addresses.

use anyhow::{Context, Result, bail};
use kube::Api;
use kube::api::PostParams;
use spiderpool_crds::{SpiderSubnet, SubnetSpec};

use crate::cluster::Cluster;
use crate::leave::delete_if_there;

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

/// How many further networks of each IP version a scene has.
pub(crate) const MORE: u8 = 3;

/// CIDR of a further network of a scene, by its number from 1.
pub(crate) fn further(number: u16, version: u8, which: u8) -> String {
    if version == 4 {
        format!("10.{}.{number}.0/24", 110 + u16::from(which))
    } else {
        format!("fda{which}:{number:x}::/64")
    }
}

/// Name of the subnet of that network.
pub(crate) fn subnet_name(number: u16, version: u8) -> String {
    format!("e2e-{number}-v{version}")
}

/// Its spec.
fn subnet_spec(number: u16, version: u8) -> SubnetSpec {
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

/// Takes a number that no other test has, in this process or another: making its IPv4 subnet is the claim. What a failed
/// test left of a number's IPv6 subnet makes it unusable.
pub(crate) async fn claim(cluster: &Cluster) -> Result<u16> {
    for number in 1..=MOST {
        if !make(cluster, number, 4).await? {
            continue;
        }
        if make(cluster, number, 6).await? {
            return Ok(number);
        }
        let subnets: Api<SpiderSubnet> = Api::all(cluster.client.clone());
        delete_if_there(&subnets, &subnet_name(number, 4)).await?;
    }
    bail!("all {MOST} numbers of scenes are taken; delete the subnets e2e-* of runs that failed")
}

/// Makes a subnet of a scene; false if there is one.
async fn make(cluster: &Cluster, number: u16, version: u8) -> Result<bool> {
    let subnets: Api<SpiderSubnet> = Api::all(cluster.client.clone());
    let subnet = SpiderSubnet::new(&subnet_name(number, version), subnet_spec(number, version));
    match subnets.create(&PostParams::default(), &subnet).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error).context("making a subnet; is the chart installed?"),
    }
}
