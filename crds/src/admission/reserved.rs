//! SpiderReservedIP.

use super::{Settings, Verdict};
use crate::types::{SpiderIPPool, SpiderReservedIP};
use kube::ResourceExt;
use spiderpool_ipam::{Family, text};

/// Judges a reservation that is made, or that replaces an `old` one. `pools` are those of which it may reserve something.
pub fn reserved(
    new: &SpiderReservedIP,
    old: Option<&SpiderReservedIP>,
    pools: &[&SpiderIPPool],
    settings: Settings,
) -> Verdict {
    // Whatever a finalizer has to do must be possible.
    if new.metadata.deletion_timestamp.is_some() {
        return Verdict::default();
    }
    let mut verdict = reserved_alone(new, old, settings);
    if verdict.is_allowed() {
        verdict.warnings.extend(reserved_world(new, pools));
    }
    verdict
}

/// Judges what a reservation alone can tell.
pub fn reserved_alone(new: &SpiderReservedIP, old: Option<&SpiderReservedIP>, settings: Settings) -> Verdict {
    let mut verdict = Verdict::default();
    if let Some(before) = old.and_then(|old| old.spec.ip_version)
        && new.spec.ip_version != Some(before)
    {
        verdict.forbidden(
            "spec.ipVersion",
            "ipVersion cannot be changed or removed once it is set; delete the object and create it with the other version",
        );
    }
    let ips = new.spec.ips.as_deref().unwrap_or_default();
    let family = match (new.spec.ip_version, ips.first()) {
        (Some(version), _) => Family::from_number(version),
        (None, Some(first)) if first.contains(':') => Some(Family::V6),
        (None, Some(_)) => Some(Family::V4),
        (None, None) => None,
    };
    let Some(family) = family else {
        let value = new.spec.ip_version.map(|version| version.to_string());
        let message = "the IP version is unknown; set ipVersion to 4 or 6 or add an address to ips";
        verdict.invalid("spec.ipVersion", &value.unwrap_or_default(), message);
        return verdict;
    };
    if !settings.enables(family) {
        let message = format!("{family} is switched off; switch it on with the chart value ipam.enable{family}");
        verdict.forbidden("spec.ipVersion", message);
    }
    for (index, range) in ips.iter().enumerate() {
        if let Err(error) = text::parse_range(family, range) {
            verdict.invalid(format!("spec.ips[{index}]"), range, error.to_string());
        }
    }
    verdict
}

/// Pools that a reservation leaves nothing of.
pub fn reserved_world(new: &SpiderReservedIP, pools: &[&SpiderIPPool]) -> Vec<String> {
    let Ok((family, reserved)) = new.addresses() else {
        return Vec::new();
    };
    let covered = pools.iter().filter(|pool| pool.family() == Ok(family)).filter(|pool| {
        let total = pool.total().unwrap_or_default();
        !total.is_empty() && total.is_subset_of(&reserved)
    });
    covered
        .map(|pool| {
            format!(
                "spec.ips: all addresses of SpiderIPPool {} are reserved now, so that no pod gets one of it",
                pool.name_any()
            )
        })
        .collect()
}
