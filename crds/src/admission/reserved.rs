//! SpiderReservedIP.

use super::{Outcome, Rule, Settings, network};
use crate::types::{SpiderIPPool, SpiderReservedIP};
use kube::ResourceExt;
use spiderpool_ipam::{Family, TextError, text};

/// Judges a reservation that is made, or that replaces an `old` one. `pools` are those of which it may reserve something.
pub fn reserved(
    new: &SpiderReservedIP,
    old: Option<&SpiderReservedIP>,
    pools: &[&SpiderIPPool],
    settings: Settings,
) -> Outcome {
    // Whatever a finalizer has to do must be possible.
    if new.metadata.deletion_timestamp.is_some() {
        return Outcome::default();
    }
    let mut outcome = reserved_alone(new, old, settings);
    if outcome.is_allowed() {
        outcome.warnings.extend(reserved_world(new, pools));
    }
    outcome
}

/// Judges what a reservation alone can tell.
pub fn reserved_alone(new: &SpiderReservedIP, old: Option<&SpiderReservedIP>, settings: Settings) -> Outcome {
    let mut outcome = Outcome::default();
    if let Some(old) = old {
        network::version_stays(new.spec.ip_version, old.spec.ip_version, &mut outcome);
    }
    let ips = new.spec.ips.as_deref().unwrap_or_default();
    let family = match (new.spec.ip_version, ips.first()) {
        (Some(version), _) => Family::from_number(version),
        (None, Some(first)) => Some(network::family_of(first)),
        (None, None) => None,
    };
    let Some(family) = family else {
        let value = new.spec.ip_version.map(|version| version.to_string());
        let message = "the IP version is unknown; set ipVersion to 4 or 6 or add an address to ips";
        outcome.invalid(Rule::VersionKnown, "spec.ipVersion", value.unwrap_or_default(), message);
        return outcome;
    };
    if !settings.enables(family) {
        network::switched_off(family, &mut outcome);
    }
    for (index, range) in ips.iter().enumerate() {
        let Err(error) = text::parse_range(family, range) else {
            continue;
        };
        let field = format!("spec.ips[{index}]");
        if let TextError::Family { .. } = error {
            let message = format!(
                "{range} is not {family}, but all addresses must be of one IP version; write it in another SpiderReservedIP"
            );
            outcome.invalid(Rule::OneFamily, field, range, message);
        } else {
            outcome.invalid(network::range_rule(&error, family), field, range, error.to_string());
        }
    }
    if let Some(old) = old {
        let (new, old) = (&new.spec, &old.spec);
        network::unchanged_fields_pass(&mut outcome, |field| {
            field == "ips" && new.ips == old.ips || field == "ipVersion" && new == old
        });
        // The addresses were reserved before.
        outcome
            .errors
            .retain(|error| error.rule != Rule::FamilyEnabled || new.ips != old.ips);
    }
    outcome
}

/// Pools that a reservation leaves nothing of.
pub fn reserved_world(new: &SpiderReservedIP, pools: &[&SpiderIPPool]) -> Vec<String> {
    let covered = pools.iter().filter(|pool| {
        let total = pool.total().unwrap_or_default();
        let reserved = pool.family().map(|family| new.kept_back(family));
        !total.is_empty() && reserved.is_ok_and(|reserved| total.is_subset_of(&reserved))
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
