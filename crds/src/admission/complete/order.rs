//! Lists of addresses in their normal form: ascending, what touches joined, nothing twice.

use crate::admission::network::twice;
use spiderpool_ipam::{Cidr, Family, Range, RangeSet, text};

/// Orders `ips` and `excludeIPs` of a network. Gives what stands in `ips` more than once.
pub(super) fn network(subnet: &str, ips: &mut Option<Vec<String>>, excluded: &mut Option<Vec<String>>) -> Vec<String> {
    let Ok(cidr) = Cidr::parse_lenient(subnet) else {
        return Vec::new();
    };
    let warnings = ranges(cidr.family(), "ips", ips);
    ranges(cidr.family(), "excludeIPs", excluded);
    warnings
}

/// Orders one list. A list of one item is its author's own way to write it, and one that does not parse is told to be wrong as it
/// was written.
pub(super) fn ranges(family: Family, name: &str, list: &mut Option<Vec<String>>) -> Vec<String> {
    let Some(texts) = list.as_mut().filter(|texts| texts.len() > 1) else {
        return Vec::new();
    };
    let parsed: Result<Vec<Range>, _> = texts.iter().map(|text| text::parse_range(family, text)).collect();
    let Ok(parsed) = parsed else { return Vec::new() };
    let warnings = twice(family, name, parsed.iter().copied().enumerate());
    let whole: RangeSet = parsed.into_iter().collect();
    *texts = text::print_ranges(family, &whole);
    warnings
}
