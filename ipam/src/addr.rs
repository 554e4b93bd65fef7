//! Address families, and addresses as numbers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP address family. IPv4 sorts first, as in every list that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4: 32 bits.
    V4,
    /// IPv6: 128 bits.
    V6,
}

impl Family {
    /// Both families in the order in which results are listed.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The number that `spec.ipVersion` holds: 4 or 6.
    pub const fn number(self) -> i64 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// The family of a `spec.ipVersion` value; nothing for any number but 4 and 6.
    pub const fn from_number(number: i64) -> Option<Self> {
        match number {
            4 => Some(Self::V4),
            6 => Some(Self::V6),
            _ => None,
        }
    }

    /// Bits of an address: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The highest address as a number.
    pub const fn max(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    /// The family of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// `IPv4` or `IPv6`, as in the label `ipam.spidernet.io/ip-version`.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address as its family and number.
pub fn to_bits(addr: IpAddr) -> (Family, u128) {
    match addr {
        IpAddr::V4(v4) => (Family::V4, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (Family::V6, v6.to_bits()),
    }
}

/// The address of a number. Bits above the family's size are cut off; callers hold numbers of that family.
pub fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => {
            let low = u32::try_from(bits & Family::V4.max()).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from_bits(low))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_convert_both_ways() {
        for text in [
            "0.0.0.0",
            "10.6.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fd00::ffff",
            "64:ff9b::9",
        ] {
            let addr: IpAddr = text.parse().unwrap();
            let (family, bits) = to_bits(addr);
            assert_eq!(from_bits(family, bits), addr);
            assert_eq!(Family::of(addr), family);
        }
        assert_eq!(Family::from_number(5), None);
        assert_eq!(Family::from_number(Family::V6.number()), Some(Family::V6));
    }
}
