//! From the text of objects to the values that decisions work on.
//!
//! The family of an object always follows from its subnet, because `ipVersion` may not be filled in yet. An object whose
//! text does not parse is an error that names the field, so that the object alone is set aside and its condition can say
//! what to write.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use spiderpool_ipam::hold::{Reuse, WhenCooling};
use spiderpool_ipam::{Cidr, Family, Owner, RangeSet, TextError, addr, text};

use crate::app::AppKey;
use crate::conditions::{self, READY};
use crate::label::whole;
use crate::names::{DEFAULT_NIC, FINALIZER, LABEL_INTERFACE, LABEL_OWNER_APP_NAME, LABEL_OWNER_SUBNET};
use crate::records::{ControlledPools, HeldRecords, PoolRecords, RecordsError};
use crate::types::{Route, SpiderIPPool, SpiderReservedIP, SpiderSubnet};

/// A field of a spec that does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text of a field does not parse.
    #[error("{field}: {source}")]
    Text {
        /// Path of the field.
        field: String,
        /// What is wrong with its text.
        source: TextError,
    },
    /// An address of the object is not in the object's own subnet.
    #[error("{field}: {text} is not inside spec.subnet {subnet}; write addresses of that subnet")]
    Outside {
        /// Path of the field.
        field: String,
        /// The address or range.
        text: String,
        /// The subnet.
        subnet: Cidr,
    },
    /// `ipVersion` contradicts the addresses.
    #[error("spec.ipVersion is {version}, but the addresses are {family}; write {} or leave it out", .family.number())]
    Version {
        /// `spec.ipVersion`.
        version: i64,
        /// The family of the addresses.
        family: Family,
    },
    /// Nothing tells the family.
    #[error("the IP version is unknown; set spec.ipVersion to 4 or 6 or add an address to spec.ips")]
    NoFamily,
}

/// The fields that subnets and pools have in common, still as text.
struct Network<'a> {
    ip_version: Option<i64>,
    subnet: &'a str,
    ips: Option<&'a [String]>,
    exclude_ips: Option<&'a [String]>,
}

impl Network<'_> {
    fn cidr(&self) -> Result<Cidr, SpecError> {
        let cidr = Cidr::parse(self.subnet).map_err(|source| SpecError::Text {
            field: "spec.subnet".to_owned(),
            source,
        })?;
        same_version(self.ip_version, cidr.family())?;
        Ok(cidr)
    }

    fn total(&self) -> Result<RangeSet, SpecError> {
        let cidr = self.cidr()?;
        let inside = |name: &str, texts: Option<&[String]>| {
            let set = ranges(cidr.family(), name, texts)?;
            let subnet = RangeSet::from(cidr.range());
            match set.first_outside(&subnet) {
                Some(bits) => Err(SpecError::Outside {
                    field: format!("spec.{name}"),
                    text: addr::from_bits(cidr.family(), bits).to_string(),
                    subnet: cidr,
                }),
                None => Ok(set),
            }
        };
        // Excluding what is not there does no harm, so it must not make the object unusable.
        let excluded = ranges(cidr.family(), "excludeIPs", self.exclude_ips)?;
        Ok(inside("ips", self.ips)?.difference(&excluded))
    }
}

fn same_version(version: Option<i64>, family: Family) -> Result<(), SpecError> {
    match version {
        Some(version) if version != family.number() => Err(SpecError::Version { version, family }),
        _ => Ok(()),
    }
}

fn ranges(family: Family, name: &str, texts: Option<&[String]>) -> Result<RangeSet, SpecError> {
    texts
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(index, range)| {
            text::parse_range(family, range).map_err(|source| SpecError::Text {
                field: format!("spec.{name}[{index}]"),
                source,
            })
        })
        .collect()
}

macro_rules! network_methods {
    ($kind:ty) => {
        impl $kind {
            fn network(&self) -> Network<'_> {
                Network {
                    ip_version: self.spec.ip_version,
                    subnet: &self.spec.subnet,
                    ips: self.spec.ips.as_deref(),
                    exclude_ips: self.spec.exclude_ips.as_deref(),
                }
            }

            /// The network. An `ipVersion` that contradicts it is an error.
            pub fn cidr(&self) -> Result<Cidr, SpecError> {
                self.network().cidr()
            }

            /// The family, from the network.
            pub fn family(&self) -> Result<Family, SpecError> {
                self.cidr().map(|cidr| cidr.family())
            }

            /// The addresses on offer: ips without excludeIPs.
            pub fn total(&self) -> Result<RangeSet, SpecError> {
                self.network().total()
            }

            /// The gateway, if there is one.
            pub fn gateway(&self) -> Result<Option<u128>, SpecError> {
                let family = self.family()?;
                let gateway = self.spec.gateway.as_deref().filter(|text| !text.is_empty());
                gateway
                    .map(|gateway| {
                        text::parse_addr(family, gateway).map_err(|source| SpecError::Text {
                            field: "spec.gateway".to_owned(),
                            source,
                        })
                    })
                    .transpose()
            }

            /// The routes besides the default route.
            pub fn routes(&self) -> &[Route] {
                self.spec.routes.as_deref().unwrap_or_default()
            }

            /// Whether the object is being deleted.
            pub fn is_terminating(&self) -> bool {
                self.metadata.deletion_timestamp.is_some()
            }

            /// Whether the object carries our finalizer.
            pub fn has_finalizer(&self) -> bool {
                self.meta()
                    .finalizers
                    .iter()
                    .flatten()
                    .any(|name| name == FINALIZER)
            }
        }
    };
}

network_methods!(SpiderSubnet);
network_methods!(SpiderIPPool);

impl SpiderSubnet {
    /// Which pool was given which addresses.
    pub fn controlled(&self) -> Result<ControlledPools, RecordsError> {
        let status = self.status.as_ref();
        ControlledPools::parse_opt(status.and_then(|status| status.controlled_ippools.as_deref()))
    }
}

impl SpiderIPPool {
    /// Who has which address, as written.
    pub fn records(&self) -> Result<PoolRecords, RecordsError> {
        let status = self.status.as_ref();
        PoolRecords::parse_opt(status.and_then(|status| status.allocated_ips.as_deref()))
    }

    /// Who has which address, in the form a ledger of this family is built from.
    pub fn owners(&self, family: Family) -> Result<Vec<(u128, Owner)>, RecordsError> {
        self.records()?.owners(family)
    }

    /// Addresses that no pod has and that are not as good as the others, as written.
    pub fn held(&self) -> Result<HeldRecords, RecordsError> {
        let status = self.status.as_ref();
        HeldRecords::parse_opt(status.and_then(|status| status.held_ips.as_deref()))
    }

    /// How it gives out again what was freed. A word that nobody knows is of a later version, and others wait.
    pub fn reuse(&self) -> Reuse {
        let seconds = self.spec.reuse_cooldown.unwrap_or(0);
        let word = self.spec.reuse_when_cooling.as_deref();
        Reuse {
            cooldown: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            when_cooling: word.map_or(WhenCooling::Oldest, |word| {
                WhenCooling::parse(word).unwrap_or(WhenCooling::Wait)
            }),
        }
    }

    /// Whether the pool belongs to one application and is kept in shape by the operator.
    pub fn is_automatic(&self) -> bool {
        self.label(LABEL_OWNER_APP_NAME).is_some()
    }

    /// Whether addresses may be given out as far as the operator is concerned. A pool that a user made must have been
    /// checked in its present form against all others, since two webhook replicas do not see each other's pools. Of an
    /// automatic one it is enough that the operator has said so once and not taken it back: it changes such a pool itself, out
    /// of the accounting of its subnet. A copy that somebody makes of one has no status.
    pub fn is_ready(&self) -> bool {
        let ready = match self.is_automatic() {
            true => self.ready(),
            false => self.checked(),
        };
        ready.is_some_and(|ready| ready.status == "True")
    }

    /// Whether it gives out nothing until agents have put on record again what their pods have.
    pub fn is_restoring(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.restoring.is_some())
    }

    /// Why the operator found that no address may be given out, if it checked the pool in its present form and did.
    pub fn refusal(&self) -> Option<&str> {
        let ready = self.checked().filter(|ready| ready.status == "False");
        ready.map(|ready| ready.message.as_str())
    }

    fn ready(&self) -> Option<&Condition> {
        let conditions = self.status.as_ref().and_then(|status| status.conditions.as_deref());
        conditions::find(conditions, READY)
    }

    fn checked(&self) -> Option<&Condition> {
        self.ready()
            .filter(|ready| ready.observed_generation == self.metadata.generation)
    }

    /// The application an automatic pool belongs to.
    pub fn app_key(&self) -> Option<AppKey> {
        AppKey::of_pool(self)
    }

    /// The name of the subnet that the pool was made from.
    pub fn owner_subnet(&self) -> Option<&str> {
        let annotations = self.metadata.annotations.as_ref();
        let annotated = annotations.and_then(|all| all.get(LABEL_OWNER_SUBNET)).into_iter();
        let owners = self.metadata.owner_references.iter().flatten();
        let said = annotated.chain(owners.map(|owner| &owner.name)).map(String::as_str);
        Some(whole(self.label(LABEL_OWNER_SUBNET)?, said))
    }

    /// The interface an automatic pool is for.
    pub fn interface(&self) -> &str {
        self.label(LABEL_INTERFACE).unwrap_or(DEFAULT_NIC)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels: &BTreeMap<String, String> = self.metadata.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    }
}

impl SpiderReservedIP {
    /// The family: `ipVersion`, or that of the first address when it is not filled in.
    pub fn family(&self) -> Result<Family, SpecError> {
        if let Some(family) = self.spec.ip_version.and_then(Family::from_number) {
            return Ok(family);
        }
        let first = self.spec.ips.iter().flatten().next().ok_or(SpecError::NoFamily)?;
        match text::parse_range(Family::V4, first) {
            Ok(_) => Ok(Family::V4),
            Err(TextError::Family { .. }) => Ok(Family::V6),
            Err(source) => Err(SpecError::Text {
                field: "spec.ips[0]".to_owned(),
                source,
            }),
        }
    }

    /// The addresses of a family that are kept back. Whatever is wrong with the object, what can be read of it is in force: an
    /// address that was not meant to be kept back does less harm than one that was and is given out.
    pub fn kept_back(&self, family: Family) -> RangeSet {
        let range = |text: &String| match text::parse_range(family, text) {
            Ok(range) => Some(range),
            // What is meant is plain.
            Err(TextError::Reversed { proposal, .. }) => text::parse_range(family, &proposal).ok(),
            Err(_) => None,
        };
        self.spec.ips.iter().flatten().filter_map(range).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pool(labels: &Value, generation: &Value, condition: &Value) -> SpiderIPPool {
        let object = json!({"apiVersion": crate::names::API_VERSION, "kind": "SpiderIPPool",
            "metadata": {"name": "p", "labels": labels, "generation": generation},
            "spec": {"subnet": "10.77.0.0/20"}, "status": {"conditions": [condition]}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_pool_of_a_user_is_ready_once_its_present_spec_was_checked() {
        let condition = |type_: &str, status: &str, observed: &Value| {
            json!({"type": type_, "status": status, "reason": "R", "message": "why",
                "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        let none = json!({});
        for (type_, status, observed, ready) in [
            (READY, "True", json!(2), true),
            (READY, "True", json!(1), false),
            (READY, "True", Value::Null, false),
            (READY, "False", json!(2), false),
            ("Exhausted", "True", json!(2), false),
        ] {
            let made = pool(&none, &json!(2), &condition(type_, status, &observed));
            assert_eq!(made.is_ready(), ready, "{type_} {status} {observed}");
            let refused = type_ == READY && status == "False";
            assert_eq!(made.refusal(), refused.then_some("why"), "{type_} {status} {observed}");
        }
    }

    #[test]
    fn an_automatic_pool_is_ready_once_the_operator_has_said_so_and_not_taken_it_back() {
        let automatic = json!({LABEL_OWNER_APP_NAME: "shop"});
        for (type_, status, observed, ready) in [
            (READY, "True", 2, true),
            (READY, "True", 1, true),
            (READY, "False", 1, false),
            (READY, "False", 2, false),
            ("Exhausted", "True", 2, false),
        ] {
            let condition = json!({"type": type_, "status": status, "reason": "R", "message": "why",
                "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let made = pool(&automatic, &json!(2), &condition);
            assert_eq!(made.is_ready(), ready, "{type_} {status} {observed}");
            let refused = type_ == READY && status == "False" && observed == 2;
            assert_eq!(made.refusal(), refused.then_some("why"), "{type_} {status} {observed}");
        }
    }
}
