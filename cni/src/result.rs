//! What ADD prints: the agent's answer in the form of the CNI version in use.

use std::net::IpAddr;

use serde::Serialize;
use spiderpool_ipam::{Cidr, Family};
use spiderpool_wire::{Dns, IpamAddResponse};
use thiserror::Error;

use crate::{error::pretty, version::Version};

/// An answer that no result can be made of.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The agent gave other NICs addresses, or none at all.
    #[error("no Interface {0} IP allocation found in the agent's answer")]
    NoAddress(String),
    /// A member is not what it should be.
    #[error("the agent's answer cannot be used: {what} {text:?} is not {expected}")]
    Bad {
        /// Member.
        what: &'static str,
        /// Its text.
        text: String,
        /// What it should be.
        expected: &'static str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    cni_version: &'static str,
    ips: Vec<Ip>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    dns: PrintedDns<'a>,
}

#[derive(Serialize)]
struct Ip {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip)]
    family: Family,
}

#[derive(Serialize)]
struct Route {
    dst: String,
    gw: IpAddr,
}

#[derive(Default, Serialize)]
struct PrintedDns<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nameservers: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    search: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    options: &'a [String],
}

impl<'a> From<&'a Dns> for PrintedDns<'a> {
    fn from(dns: &'a Dns) -> Self {
        Self {
            nameservers: &dns.nameservers,
            domain: &dns.domain,
            search: &dns.search,
            options: &dns.options,
        }
    }
}

/// The result for one NIC, IPv4 first. The answer holds all NICs of the pod; those of others are not even looked at.
pub fn render(version: Version, answer: &IpamAddResponse, if_name: &str) -> Result<String, Error> {
    let mut ips = Vec::new();
    for ip in answer.ips.iter().filter(|ip| ip.nic == if_name) {
        let family = match ip.version {
            4 => Family::V4,
            6 => Family::V6,
            other => return Err(bad("address family", &other.to_string(), "4 or 6")),
        };
        ips.push(Ip {
            version: version
                .names_family()
                .then_some(if family == Family::V4 { "4" } else { "6" }),
            address: address(&ip.address, family)?,
            gateway: match ip.gateway.as_str() {
                "" => None,
                text => Some(self::ip("gateway", text)?),
            },
            family,
        });
    }
    if ips.is_empty() {
        return Err(Error::NoAddress(if_name.to_owned()));
    }
    ips.sort_by_key(|ip| ip.family == Family::V6);
    let mut routes = Vec::new();
    for route in answer.routes.iter().filter(|route| route.if_name == if_name) {
        let dst = Cidr::parse_lenient(&route.dst).map_err(|_| bad("route destination", &route.dst, "a subnet"))?;
        routes.push(Route {
            dst: dst.to_string(),
            gw: ip("route gateway", &route.gw)?,
        });
    }
    let dns = answer.dns.as_ref().map(PrintedDns::from).unwrap_or_default();
    Ok(pretty(&Printed {
        cni_version: version.as_str(),
        ips,
        routes,
        dns,
    }))
}

fn bad(what: &'static str, text: &str, expected: &'static str) -> Error {
    Error::Bad {
        what,
        text: text.to_owned(),
        expected,
    }
}

fn ip(what: &'static str, text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| bad(what, text, "an address"))
}

/// An address with prefix length, of that family and in its canonical form.
fn address(text: &str, family: Family) -> Result<String, Error> {
    let wrong = || bad("address", text, "an address of its family with a prefix length");
    let subnet = Cidr::parse_lenient(text).map_err(|_| wrong())?;
    if subnet.family() != family {
        return Err(wrong());
    }
    let host = text.split('/').next().unwrap_or_default();
    Ok(format!("{}/{}", ip("address", host)?, subnet.prefix()))
}

#[cfg(test)]
mod tests {
    use spiderpool_wire::{IpConfig, Route};

    use super::*;

    fn answer(version: i64, address: &str, gateway: &str, dst: &str, gw: &str) -> IpamAddResponse {
        IpamAddResponse {
            ips: vec![IpConfig {
                address: address.into(),
                gateway: gateway.into(),
                nic: "eth0".into(),
                version,
                ..IpConfig::default()
            }],
            routes: vec![Route {
                dst: dst.into(),
                gw: gw.into(),
                if_name: "eth0".into(),
            }],
            dns: None,
        }
    }

    #[test]
    fn what_cannot_be_a_result_is_named() {
        let faulty = [
            (answer(5, "10.0.0.1/8", "", "0.0.0.0/0", "10.0.0.2"), "address family"),
            (answer(4, "10.0.0.1", "", "0.0.0.0/0", "10.0.0.2"), "address"),
            (answer(6, "10.0.0.1/8", "", "0.0.0.0/0", "10.0.0.2"), "address"),
            (answer(4, "10.0.0.1/33", "", "0.0.0.0/0", "10.0.0.2"), "address"),
            (answer(4, "10.0.0.1/8", "ten", "0.0.0.0/0", "10.0.0.2"), "gateway"),
            (answer(4, "10.0.0.1/8", "", "default", "10.0.0.2"), "route destination"),
            (answer(4, "10.0.0.1/8", "", "0.0.0.0/0", ""), "route gateway"),
        ];
        for (answer, member) in faulty {
            let error = render(Version::V1_0_0, &answer, "eth0").unwrap_err();
            assert!(
                matches!(&error, Error::Bad { what, .. } if *what == member),
                "{member}: {error}"
            );
        }
    }

    #[test]
    fn faults_of_another_nic_do_not_matter() {
        let mut both = answer(4, "10.0.0.1/8", "", "0.0.0.0/0", "10.0.0.2");
        both.ips.push(IpConfig {
            nic: "net1".into(),
            ..IpConfig::default()
        });
        assert!(render(Version::V1_0_0, &both, "eth0").is_ok());
        assert_eq!(
            render(Version::V1_0_0, &both, "net2"),
            Err(Error::NoAddress("net2".into()))
        );
    }

    #[test]
    fn destinations_lose_their_host_bits_and_addresses_keep_them() {
        let text = render(
            Version::V1_1_0,
            &answer(6, "FD00::00A1/64", "", "fd01::7/16", "fd00::1"),
            "eth0",
        )
        .unwrap();
        assert!(text.contains(r#""address": "fd00::a1/64""#), "{text}");
        assert!(text.contains(r#""dst": "fd01::/16""#), "{text}");
        assert!(!text.contains("gateway"), "{text}");
    }
}
