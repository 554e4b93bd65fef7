//! Certificates as they are stored: read, compared, and put together to bundles.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::KeyPair;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::decide::{Cert, Id};

const LABEL: &str = "CERTIFICATE";

/// A certificate that can be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    cert: Cert,
    der: Vec<u8>,
}

impl Certificate {
    /// All certificates of a text; none if one of them cannot be decoded, or there are none.
    pub fn all(text: &[u8]) -> Option<Vec<Self>> {
        let blocks = pem::parse_many(text).ok()?;
        let all: Option<Vec<Self>> = blocks.iter().map(Self::of).collect();
        all.filter(|all| !all.is_empty())
    }

    /// The first certificate of a text.
    pub fn first(text: &[u8]) -> Option<Self> {
        Self::all(text)?.into_iter().next()
    }

    fn of(block: &Pem) -> Option<Self> {
        if block.tag() != LABEL {
            return None;
        }
        let der = block.contents().to_vec();
        let (_, decoded) = X509Certificate::from_der(&der).ok()?;
        let validity = decoded.validity();
        let cert = Cert {
            id: id(&der),
            starts: Timestamp::from_second(validity.not_before.timestamp()).unwrap_or(Timestamp::MIN),
            ends: Timestamp::from_second(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX),
        };
        Some(Self { cert, der })
    }

    /// What matters of it to decisions.
    pub fn cert(&self) -> Cert {
        self.cert
    }

    /// Its text.
    pub fn pem(&self) -> String {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new(LABEL, self.der.clone()), config)
    }

    fn decoded<T>(&self, look: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
        X509Certificate::from_der(&self.der)
            .ok()
            .map(|(_, decoded)| look(&decoded))
    }

    /// Whether it may sign others.
    pub fn is_authority(&self) -> bool {
        self.decoded(|own| own.is_ca()).unwrap_or(false)
    }

    /// Whether another one signed it.
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let signed = |issuer: &X509Certificate<'_>| {
            self.decoded(|own| {
                own.issuer() == issuer.subject() && own.verify_signature(Some(issuer.public_key())).is_ok()
            })
        };
        issuer.is_authority() && issuer.decoded(signed).flatten().unwrap_or(false)
    }

    /// Whether a key is its own.
    pub fn has_key(&self, key: &str) -> bool {
        let Ok(key) = KeyPair::from_pem(key) else {
            return false;
        };
        self.decoded(|own| own.public_key().subject_public_key.data == key.public_key_raw())
            .unwrap_or(false)
    }

    /// The DNS names and addresses that it is for.
    pub fn names(&self) -> BTreeSet<String> {
        let names = self.decoded(|own| {
            let extension = own.subject_alternative_name().ok().flatten();
            let names = extension.iter().flat_map(|extension| &extension.value.general_names);
            names.filter_map(text).collect()
        });
        names.unwrap_or_default()
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
            let six = || <[u8; 16]>::try_from(*bytes).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
            four.or_else(|_| six()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn id(der: &[u8]) -> Id {
    Sha256::digest(der).into()
}
