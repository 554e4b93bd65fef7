//! A line of addresses cut where claims begin and end.

use crate::range::Range;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Disjoint parts of the line, each with the pools that lay claim to all of it. A part that nobody claims is not there.
#[derive(Debug, Default)]
pub(super) struct Segments {
    by_first: BTreeMap<u128, Segment>,
}

#[derive(Debug)]
struct Segment {
    last: u128,
    /// Ascending, never empty.
    names: Vec<Arc<str>>,
}

impl Segments {
    /// Adds a claim to a range, of which the pool has no part yet.
    pub(super) fn add(&mut self, range: Range, name: &Arc<str>) {
        self.cut(range.first());
        if let Some(after) = range.last().checked_add(1) {
            self.cut(after);
        }
        let mut gaps = Vec::new();
        let mut open = Some(range.first());
        for (first, segment) in self.by_first.range_mut(range.first()..=range.last()) {
            if let (Some(from), Some(before)) = (open, first.checked_sub(1)) {
                gaps.extend(Range::new(from, before));
            }
            let place = segment.names.partition_point(|other| other < name);
            segment.names.insert(place, name.clone());
            open = segment.last.checked_add(1);
        }
        gaps.extend(open.and_then(|from| Range::new(from, range.last())));
        for gap in gaps {
            let segment = Segment {
                last: gap.last(),
                names: vec![name.clone()],
            };
            self.by_first.insert(gap.first(), segment);
        }
    }

    /// Takes away a claim that was added for this very range.
    pub(super) fn take(&mut self, range: Range, name: &Arc<str>) {
        let firsts: Vec<u128> = self
            .by_first
            .range(range.first()..=range.last())
            .map(|(first, _)| *first)
            .collect();
        for first in &firsts {
            if let Some(segment) = self.by_first.get_mut(first) {
                segment.names.retain(|other| other != name);
                if segment.names.is_empty() {
                    self.by_first.remove(first);
                }
            }
        }
        for at in firsts.into_iter().chain(range.last().checked_add(1)) {
            self.join(at);
        }
    }

    /// Tells the parts of a range that somebody claims, and who.
    pub(super) fn within(&self, range: Range, mut tell: impl FnMut(Range, &[Arc<str>])) {
        let begun = self.by_first.range(..range.first()).next_back();
        let begun = begun.filter(|(_, segment)| segment.last >= range.first());
        for (first, segment) in begun
            .into_iter()
            .chain(self.by_first.range(range.first()..=range.last()))
        {
            let common = Range::new((*first).max(range.first()), segment.last.min(range.last()));
            if let Some(common) = common {
                tell(common, &segment.names);
            }
        }
    }

    /// Makes sure that no part reaches over the beginning of `at`.
    fn cut(&mut self, at: u128) {
        let Some((_, segment)) = self.by_first.range_mut(..at).next_back() else {
            return;
        };
        if segment.last < at {
            return;
        }
        let rest = Segment {
            last: segment.last,
            names: segment.names.clone(),
        };
        segment.last = at.saturating_sub(1);
        self.by_first.insert(at, rest);
    }

    /// Undoes a cut that nobody needs any more: what cuts the line once must not do so for ever.
    fn join(&mut self, at: u128) {
        let Some(right) = self.by_first.get(&at) else { return };
        let (last, names) = (right.last, &right.names);
        let joins = self
            .by_first
            .range(..at)
            .next_back()
            .filter(|(_, left)| left.last.checked_add(1) == Some(at) && left.names == *names)
            .map(|(first, _)| *first);
        if let Some(first) = joins {
            self.by_first.remove(&at);
            if let Some(left) = self.by_first.get_mut(&first) {
                left.last = last;
            }
        }
    }

    /// How many parts there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_first.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_go_with_the_claims_that_made_them() {
        let (wide, narrow): (Arc<str>, Arc<str>) = ("wide".into(), "narrow".into());
        let range = |first, last| Range::new(first, last).unwrap();
        let mut segments = Segments::default();
        segments.add(range(0, u128::MAX), &wide);
        for at in (10..1000).step_by(10) {
            segments.add(range(at, at + 3), &narrow);
        }
        assert_eq!(segments.len(), 199);
        for at in (10..1000).step_by(10) {
            segments.take(range(at, at + 3), &narrow);
        }
        assert_eq!(segments.len(), 1);
        segments.take(range(0, u128::MAX), &wide);
        assert_eq!(segments.len(), 0);
    }
}
