//! SpiderReservedIP: addresses that are never given out.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_RANGES, UnknownMembers};

/// Which addresses are kept back.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "spiderpool.spidernet.io",
    version = "v2beta1",
    kind = "SpiderReservedIP",
    plural = "spiderreservedips",
    singular = "spiderreservedip",
    shortname = "sr",
    category = "spiderpool",
    derive = "Default",
    derive = "PartialEq",
    doc = "Addresses that Spiderpool never gives out, whichever pool or subnet they belong to. Pods that already use one keep it."
)]
pub struct ReservedIPSpec {
    /// IP version of the addresses, 4 or 6. May be left out when ips has an item. Cannot be changed once set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [4, 6]))]
    pub ip_version: Option<i64>,

    /// The addresses. Each item is one address or a range "first-last", for example 10.6.1.10-10.6.1.250. All of them are
    /// of one IP version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_RANGES), inner(length(max = 96)))]
    pub ips: Option<Vec<String>>,

    /// Members this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: UnknownMembers,
}
