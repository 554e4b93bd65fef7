//! The text grammar of addresses and ranges in `spec.ips`, `spec.excludeIPs` and gateways.
//!
//! A range is `A` or `A-B` with both ends of one family, no blanks, and `A` not above `B`. CIDR notation and wildcards are
//! not ranges. Unlike the peer, reversed ranges and IPv4-mapped IPv6 text are refused, since both hide mistakes.

use crate::addr::{self, Family};
use crate::range::Range;
use crate::set::RangeSet;
use std::net::IpAddr;

/// Text that is not an address, range or subnet. Every message names the text and says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not an IP address at all.
    #[error("{text:?} is not an IP address; write for example {example}")]
    Address {
        /// The offending text.
        text: String,
        /// A right one of the wanted family.
        example: &'static str,
    },
    /// An address of the other family.
    #[error("{text:?} is not an {wanted} address, but this field holds {wanted} addresses")]
    Family {
        /// The offending text.
        text: String,
        /// The family that is needed.
        wanted: Family,
    },
    /// `::ffff:a.b.c.d`.
    #[error("{text:?} is an IPv4 address in IPv6 notation; write the IPv4 address itself")]
    MappedIpv4 {
        /// The offending text.
        text: String,
    },
    /// Neither `A` nor `A-B`.
    #[error("{text:?} is not an IP range; write one address or FIRST-LAST, for example {example}")]
    Range {
        /// The offending text.
        text: String,
        /// A right one of the wanted family.
        example: &'static str,
    },
    /// `A-B` with `A` above `B`.
    #[error("range {text:?} is reversed; write {proposal}")]
    Reversed {
        /// The offending text.
        text: String,
        /// The range the right way round.
        proposal: String,
    },
    /// Not a subnet.
    #[error("{text:?} is not a subnet in CIDR notation; write for example 10.6.0.0/16 or fd00:6::/64")]
    Cidr {
        /// The offending text.
        text: String,
    },
    /// A subnet that is not written canonically.
    #[error("subnet {text:?} is not in canonical form; write {canonical}")]
    NotCanonical {
        /// The offending text.
        text: String,
        /// The right text.
        canonical: String,
    },
}

const fn address_example(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.6.0.10",
        Family::V6 => "fd00:6::10",
    }
}

const fn range_example(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.6.0.10-10.6.0.20",
        Family::V6 => "fd00:6::10-fd00:6::20",
    }
}

/// Parses an address of the family.
pub fn parse_addr(family: Family, text: &str) -> Result<u128, TextError> {
    let address: IpAddr = text.parse().map_err(|_| TextError::Address {
        text: text.to_owned(),
        example: address_example(family),
    })?;
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(TextError::MappedIpv4 { text: text.to_owned() });
    }
    let (found, bits) = addr::to_bits(address);
    if found == family {
        Ok(bits)
    } else {
        Err(TextError::Family {
            text: text.to_owned(),
            wanted: family,
        })
    }
}

/// Parses `A` or `A-B`.
pub fn parse_range(family: Family, text: &str) -> Result<Range, TextError> {
    let mut ends = text.split('-');
    let (first, last) = match (ends.next(), ends.next(), ends.next()) {
        (Some(only), None, None) => (only, only),
        (Some(first), Some(last), None) => (first, last),
        _ => {
            return Err(TextError::Range {
                text: text.to_owned(),
                example: range_example(family),
            });
        }
    };
    let end = |end: &str| {
        parse_addr(family, end).map_err(|error| match error {
            // The whole text helps more than the half that failed.
            TextError::Address { .. } => TextError::Range {
                text: text.to_owned(),
                example: range_example(family),
            },
            TextError::Family { .. } => TextError::Family {
                text: text.to_owned(),
                wanted: family,
            },
            other => other,
        })
    };
    let (low, high) = (end(first)?, end(last)?);
    Range::new(low, high).ok_or_else(|| TextError::Reversed {
        text: text.to_owned(),
        proposal: format!("{last}-{first}"),
    })
}

/// Parses a list of ranges into one set. Overlapping ranges are merged.
pub fn parse_ranges<S: AsRef<str>>(family: Family, texts: &[S]) -> Result<RangeSet, TextError> {
    let mut ranges = Vec::with_capacity(texts.len());
    for text in texts {
        ranges.push(parse_range(family, text.as_ref())?);
    }
    Ok(ranges.into_iter().collect())
}

/// Prints a range: `A` for one address, `A-B` for more.
pub fn print_range(family: Family, range: &Range) -> String {
    let first = addr::from_bits(family, range.first());
    if range.first() == range.last() {
        first.to_string()
    } else {
        format!("{first}-{}", addr::from_bits(family, range.last()))
    }
}

/// Prints a set in the normal form: ascending, joined.
pub fn print_ranges(family: Family, set: &RangeSet) -> Vec<String> {
    set.ranges().iter().map(|range| print_range(family, range)).collect()
}
