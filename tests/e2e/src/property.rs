//! What is true of a subnet and its pools whenever the operator has nothing left to do.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use spiderpool_crds::names::LABEL_OWNER_SUBNET;
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};
use spiderpool_ipam::{Family, RangeSet, text};

/// What is wrong with a subnet, its automatic pools and its accounting: the union of the pools has to be the accounting,
/// disjoint, inside the subnet, and without reserved addresses.
pub async fn wrongs(client: &Client, name: &str) -> Result<Vec<String>> {
    let subnets: Api<SpiderSubnet> = Api::all(client.clone());
    let pools: Api<SpiderIPPool> = Api::all(client.clone());
    let reserved: Api<SpiderReservedIP> = Api::all(client.clone());
    let subnet = subnets.get(name).await.with_context(|| format!("reading {name}"))?;
    let labels = ListParams::default().labels(&format!("{LABEL_OWNER_SUBNET}={name}"));
    let pools = pools.list(&labels).await.context("listing pools")?.items;
    let reserved = reserved
        .list(&ListParams::default())
        .await
        .context("listing reservations")?
        .items;
    judge(&subnet, &pools, &reserved)
}

/// The same of objects that were read.
pub fn judge(subnet: &SpiderSubnet, pools: &[SpiderIPPool], reserved: &[SpiderReservedIP]) -> Result<Vec<String>> {
    let mut wrongs = Vec::new();
    let family = subnet.family()?;
    let total = subnet.total()?;
    let entries = subnet.controlled()?.entries(family)?;
    let kept_back = kept_back(family, reserved);
    let mut real: BTreeMap<String, RangeSet> = BTreeMap::new();
    let mut union = RangeSet::new();
    for pool in pools {
        let ranges = pool.total()?;
        if ranges.intersects(&union) {
            wrongs.push(format!(
                "pool {} shares addresses with another: {ranges:?}",
                pool.name_any()
            ));
        }
        if !ranges.is_subset_of(&total) {
            wrongs.push(format!(
                "pool {} has addresses outside the subnet: {ranges:?}",
                pool.name_any()
            ));
        }
        if pool.is_automatic() && ranges.intersects(&kept_back) {
            wrongs.push(format!("pool {} has reserved addresses: {ranges:?}", pool.name_any()));
        }
        union = union.union(&ranges);
        real.insert(pool.name_any(), ranges);
    }
    let noted: BTreeMap<String, RangeSet> = entries.into_iter().map(|(pool, entry)| (pool, entry.ranges)).collect();
    for (pool, ranges) in &real {
        if noted.get(pool) != Some(ranges) {
            wrongs.push(format!(
                "pool {pool} has {ranges:?} and the accounting {:?}",
                noted.get(pool)
            ));
        }
    }
    wrongs.extend(
        noted
            .keys()
            .filter(|pool| !real.contains_key(*pool))
            .map(|pool| format!("{pool} is accounted for and does not exist")),
    );
    let counted = subnet
        .status
        .as_ref()
        .and_then(|status| status.allocated_ip_count)
        .unwrap_or(0);
    if u128::try_from(counted) != Ok(union.count()) {
        wrongs.push(format!(
            "the subnet counts {counted} addresses given and its pools have {}",
            union.count()
        ));
    }
    Ok(wrongs)
}

fn kept_back(family: Family, reserved: &[SpiderReservedIP]) -> RangeSet {
    let texts = reserved.iter().flat_map(|one| one.spec.ips.iter().flatten());
    // A reservation of the other family does not parse in this one.
    let sets = texts.filter_map(|one| text::parse_ranges(family, std::slice::from_ref(one)).ok());
    sets.fold(RangeSet::new(), |all, set| all.union(&set))
}
