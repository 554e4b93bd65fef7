//! SpiderReservedIP.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use super::{Each, range_texts, version_stays};

/// Rules of a reservation.
pub(super) fn rules() -> Vec<ValidationRule> {
    let mut rules = vec![version_stays(), version_or_address()];
    rules.extend(range_texts("ips"));
    rules.push(one_family());
    rules
}

fn version_or_address() -> ValidationRule {
    let known = |spec: &str| format!("has({spec}.ipVersion) || has({spec}.ips) && size({spec}.ips) > 0");
    ValidationRule {
        // One that was stored without may stay so.
        rule: format!(
            "oldSelf.hasValue() && !({}) || {}",
            known("oldSelf.value()"),
            known("self")
        ),
        message: Some("the IP version is unknown; set ipVersion to 4 or 6 or add an address to ips".to_owned()),
        field_path: Some(".ipVersion".to_owned()),
        optional_old_self: Some(true),
        ..ValidationRule::default()
    }
}

fn one_family() -> ValidationRule {
    let family = "(has(self.ipVersion) ? self.ipVersion : (self.ips[0].contains(':') ? 6 : 4))";
    Each {
        field: "ips",
        list: "ips",
        item: "range",
        sound: &format!("range.split('-', 2).all(address, !isIP(address) || ip(address).family() == {family})"),
        message: "all addresses must be of one IP version, that of ipVersion if it is set; write the others in another \
                  SpiderReservedIP",
        text: ": %s is not IPv%d, but all addresses must be of one IP version; write it in another SpiderReservedIP",
        arguments: &["BAD", family],
    }
    .build()
}
