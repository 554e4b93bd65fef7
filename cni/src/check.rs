//! CHECK: whether what ADD gave out is still this pod's, and nobody else's: in the pod's endpoint, in the records of the pools,
//! and on the NIC.
//!
//! An address that was freed under a running pod will be given to another one; one that somebody took off the NIC is the pod's
//! and of no use to it.

use std::{net::IpAddr, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};
use spiderpool_wire::WorkloadEndpointStatus;
use thiserror::Error;

use crate::{env::Attachment, error::Code, net};

/// Why a check did not pass.
#[derive(Debug, Error)]
pub enum Error {
    /// The runtime sent no result to compare with.
    #[error("network configuration: CHECK needs prevResult, the result of the ADD")]
    NoPrevious,
    /// The result to compare with cannot be read.
    #[error("network configuration: cannot read prevResult")]
    Previous(#[source] serde_json::Error),
    /// An address in the result to compare with is none.
    #[error("network configuration: {0:?} in prevResult is not an address")]
    Address(String),
    /// Nothing on record for the pod.
    #[error("the agent has no addresses on record for the pod, which was given {}", list(.0))]
    NoEndpoint(Vec<IpAddr>),
    /// What is on record belongs to another pod of the same name.
    #[error("the agent's record belongs to another pod of that name, with UID {0:?}")]
    OtherPod(String),
    /// Some addresses are not on record.
    #[error("not on record for the interface: {}; on record: {}", list(.missing), list(.recorded))]
    Missing {
        /// Addresses given out but not on record.
        missing: Vec<IpAddr>,
        /// Addresses on record.
        recorded: Vec<IpAddr>,
    },
    /// The pools do not say what the endpoint says.
    #[error("the pools do not have on record what the pod was given: {}", .0.join("; "))]
    Pools(Vec<String>),
    /// The addresses were given to another sandbox of the pod.
    #[error("the interface was set up in sandbox {0:?} later, or that sandbox is gone")]
    OtherSandbox(String),
    /// The NIC is not there.
    #[error("the network namespace {netns} has no interface {nic}")]
    NoInterface {
        /// The namespace.
        netns: String,
        /// The NIC.
        nic: String,
    },
    /// The NIC lacks addresses.
    #[error("interface {nic} does not carry {}; it has {}", list(.missing), list(.carried))]
    NotCarried {
        /// The NIC.
        nic: String,
        /// Addresses given out.
        missing: Vec<IpAddr>,
        /// Addresses that it has.
        carried: Vec<IpAddr>,
    },
    /// The namespace cannot be looked into.
    #[error("cannot look at interface {nic} in {netns}")]
    Namespace {
        /// The namespace.
        netns: String,
        /// The NIC.
        nic: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Reason class.
    pub fn code(&self) -> Code {
        match self {
            Self::NoPrevious | Self::Previous(_) | Self::Address(_) => Code::InvalidConfig,
            Self::NoEndpoint(_)
            | Self::OtherPod(_)
            | Self::Missing { .. }
            | Self::Pools(_)
            | Self::OtherSandbox(_)
            | Self::NoInterface { .. }
            | Self::NotCarried { .. }
            | Self::Namespace { .. } => Code::Internal,
        }
    }
}

fn list(addresses: &[IpAddr]) -> String {
    if addresses.is_empty() {
        return "nothing".to_owned();
    }
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

#[derive(Deserialize)]
struct Previous {
    #[serde(default)]
    interfaces: Option<Vec<Interface>>,
    #[serde(default)]
    ips: Option<Vec<Ip>>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    #[serde(default)]
    interface: Option<usize>,
}

/// The addresses that a previous result has for one NIC of the pod. An address bound to no interface counts as its own, as our own
/// result binds none.
pub fn given(previous: Option<&Value>, if_name: &str) -> Result<Vec<IpAddr>, Error> {
    // by way of a map, as a struct without mandatory members would also be read from a list
    let previous = Map::deserialize(previous.ok_or(Error::NoPrevious)?).map_err(Error::Previous)?;
    let previous: Previous = serde_json::from_value(Value::Object(previous)).map_err(Error::Previous)?;
    let interfaces = previous.interfaces.unwrap_or_default();
    let is_ours = |ip: &Ip| match ip.interface {
        None => true,
        Some(index) => interfaces
            .get(index)
            .is_some_and(|i| i.name == if_name && !i.sandbox.is_empty()),
    };
    previous
        .ips
        .unwrap_or_default()
        .into_iter()
        .filter(is_ours)
        .map(|ip| host(&ip.address))
        .collect()
}

/// Compares what was given with what is on record.
pub fn compare(given: &[IpAddr], endpoint: Option<&WorkloadEndpointStatus>, nic: &Attachment) -> Result<(), Error> {
    let Some(endpoint) = endpoint else {
        return if given.is_empty() {
            Ok(())
        } else {
            Err(Error::NoEndpoint(given.to_vec()))
        };
    };
    if !nic.pod.uid.is_empty() && endpoint.pod_uid != nic.pod.uid {
        return Err(Error::OtherPod(endpoint.pod_uid.clone()));
    }
    let interfaces = endpoint
        .interfaces
        .iter()
        .filter(|interface| interface.interface == nic.if_name);
    let recorded: Vec<IpAddr> = interfaces
        .flat_map(|i| [&i.ipv4, &i.ipv6])
        .filter_map(|text| host(text).ok())
        .collect();
    let missing: Vec<IpAddr> = given
        .iter()
        .copied()
        .filter(|address| !recorded.contains(address))
        .collect();
    if !missing.is_empty() {
        return Err(Error::Missing { missing, recorded });
    }
    let interfaces = || endpoint.interfaces.iter().filter(|i| i.interface == nic.if_name);
    let faults: Vec<String> = interfaces()
        .flat_map(|i| [&i.ipv4_fault, &i.ipv6_fault])
        .filter(|fault| !fault.is_empty())
        .cloned()
        .collect();
    if !faults.is_empty() {
        return Err(Error::Pools(faults));
    }
    match interfaces().find(|i| i.container_id != nic.container_id) {
        // a record from before the sandbox was noted says nothing about it
        Some(other) if !other.container_id.is_empty() => Err(Error::OtherSandbox(other.container_id.clone())),
        _ => Ok(()),
    }
}

/// Looks whether the NIC carries what was given.
pub fn carried(given: &[IpAddr], nic: &Attachment) -> Result<(), Error> {
    let carried = net::addresses(Path::new(&nic.netns), &nic.if_name).map_err(|source| Error::Namespace {
        netns: nic.netns.clone(),
        nic: nic.if_name.clone(),
        source,
    })?;
    let Some(carried) = carried else {
        return Err(Error::NoInterface {
            netns: nic.netns.clone(),
            nic: nic.if_name.clone(),
        });
    };
    let missing: Vec<IpAddr> = given.iter().copied().filter(|ip| !carried.contains(ip)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::NotCarried {
        nic: nic.if_name.clone(),
        missing,
        carried,
    })
}

/// The address in a text that may end in a prefix length.
fn host(text: &str) -> Result<IpAddr, Error> {
    let host = text.split('/').next().unwrap_or_default();
    host.parse().map_err(|_| Error::Address(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_addresses_of_the_nic_inside_the_pod_count() {
        let previous = json!({
            "interfaces": [{"name": "eth0"}, {"name": "eth0", "sandbox": "/ns"}, {"name": "net1", "sandbox": "/ns"}],
            "ips": [{"address": "10.0.0.1/8", "interface": 0}, {"address": "10.0.0.2/8", "interface": 1},
                    {"address": "10.0.0.3/8", "interface": 2}, {"address": "10.0.0.4/8", "interface": 9}, {"address": "fd00::1/64"}]
        });
        let expected: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(given(Some(&previous), "eth0").unwrap(), expected);
    }

    #[test]
    fn a_previous_result_that_cannot_be_read_is_the_configurations_fault() {
        for previous in [
            None,
            Some(json!([])),
            Some(json!({"ips": [{"address": "x"}]})),
            Some(json!({"ips": [{}]})),
        ] {
            let error = given(previous.as_ref(), "eth0").unwrap_err();
            assert_eq!(error.code(), Code::InvalidConfig, "{error}");
        }
        assert!(
            given(Some(&json!({"ips": null, "interfaces": null})), "eth0")
                .unwrap()
                .is_empty()
        );
    }
}
