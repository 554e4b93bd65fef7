//! Which objects may be stored, and what is said about those that may not.
//!
//! Every rule is a function of the object, the one that it replaces, and the other objects that it must get on with. The webhook
//! calls these functions with what it knows; so does whoever marks an object that got in while no webhook ran. What one object
//! alone can tell is said by the API server too, by the rules in the CRDs; `Rule::stage` tells which those are.
//!
//! All rules that fail are told at once, in the order of the fields. docs/admission.md has an example of each.

mod affinity;
pub mod complete;
pub(crate) mod grammar;
mod network;
mod outcome;
mod pool;
mod reserved;
mod rule;
mod subnet;
mod usable;

pub use outcome::{FieldError, FieldErrorKind, Outcome, Refusal};
pub use pool::{PoolWorld, pool, pool_alone, pool_deletion};
pub use reserved::{reserved, reserved_alone, reserved_world};
pub use rule::{Rule, Stage};
pub use subnet::{SubnetWorld, subnet, subnet_alone, subnet_deletion};
pub use usable::{reserved_fault, usable_pool, usable_subnet};

use spiderpool_ipam::Family;

/// What the installation allows at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether IPv4 is switched on (`enableIPv4`).
    pub ipv4: bool,
    /// Whether IPv6 is switched on (`enableIPv6`).
    pub ipv6: bool,
    /// Whether pools can be parts of subnets (`enableSpiderSubnet`).
    pub subnets: bool,
    /// Whether subnets and pools with addresses in use are kept from deletion
    /// (`enableValidatingResourcesDeletedWebhook`).
    pub protect_used: bool,
}

impl Settings {
    const fn enables(self, family: Family) -> bool {
        match family {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }
}
