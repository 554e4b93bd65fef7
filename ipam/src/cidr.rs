//! Subnets in CIDR notation.

use crate::addr::{self, Family};
use crate::range::Range;
use crate::text::TextError;
use std::fmt;
use std::net::IpAddr;

/// A subnet: the network address and the length of its prefix. Host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    family: Family,
    base: u128,
    prefix: u8,
}

impl Cidr {
    /// Parses canonical text: host bits zero, IPv6 in its shortest lower-case form. The error proposes the right text.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        let cidr = Self::parse_lenient(text)?;
        let canonical = cidr.to_string();
        if canonical == text {
            Ok(cidr)
        } else {
            Err(TextError::NotCanonical {
                text: text.to_owned(),
                canonical,
            })
        }
    }

    /// Parses text that may have host bits set, as route destinations may; they are cleared.
    pub fn parse_lenient(text: &str) -> Result<Self, TextError> {
        let bad = || TextError::Cidr { text: text.to_owned() };
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let (family, bits) = addr::to_bits(address);
        let digits = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
        let plain = digits && (prefix.len() == 1 || !prefix.starts_with('0'));
        let prefix = prefix
            .parse::<u8>()
            .ok()
            .filter(|p| plain && *p <= family.bits())
            .ok_or_else(bad)?;
        if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
            return Err(TextError::MappedIpv4 { text: text.to_owned() });
        }
        Ok(Self {
            family,
            base: bits & !host_mask(family, prefix),
            prefix,
        })
    }

    /// The address family.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The length of the prefix in bits.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The network around this one with a shorter prefix; itself with a longer one.
    #[must_use]
    pub const fn widened(&self, prefix: u8) -> Self {
        if prefix >= self.prefix {
            return *self;
        }
        Self {
            family: self.family,
            base: self.base & !host_mask(self.family, prefix),
            prefix,
        }
    }

    /// All addresses of the subnet.
    pub const fn range(&self) -> Range {
        Range::between(self.base, self.base | host_mask(self.family, self.prefix))
    }

    /// Whether an address of the same family lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (family, bits) = addr::to_bits(address);
        family == self.family && self.range().contains(bits)
    }

    /// Whether the two subnets have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.family == other.family
            && (self.range().contains(other.range().first()) || other.range().contains(self.range().first()))
    }

    /// The subnet as a label value: `.`, `:` and `/` become `-`. Nothing where Kubernetes would refuse the value, which
    /// is so when the text starts with `::`.
    pub fn label_value(&self) -> Option<String> {
        let value = self.to_string().replace(['.', ':', '/'], "-");
        (!value.starts_with('-')).then_some(value)
    }

    /// An address of this subnet with the prefix length, for example `10.6.0.5/16`.
    pub fn with_prefix(&self, bits: u128) -> String {
        format!("{}/{}", addr::from_bits(self.family, bits), self.prefix)
    }
}

const fn host_mask(family: Family, prefix: u8) -> u128 {
    let host_bits = family.bits() - prefix;
    match 1u128.checked_shl(host_bits as u32) {
        Some(size) => size - 1,
        None => u128::MAX,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", addr::from_bits(self.family, self.base), self.prefix)
    }
}
