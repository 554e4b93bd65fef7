//! Which pool lays claim to which addresses, over all pools of any subnet or none.
//!
//! Users may make two pools with the same address at the same moment, or move addresses from one pool to another while pods
//! have them. Of two pools the one stands back for the other, and is not admitted meanwhile,
//! - if pods of the other have addresses that it offers, whoever comes first otherwise: nobody but the records of the other
//!   pool knows of them;
//! - if both offer an address and the other comes first: whoever may give addresses out already before all that only want
//!   to, so that nobody who was ever admitted has to stop because of a newcomer; then whose pods have addresses that both
//!   offer; then by [`Rank`].
//!
//! A pool is admitted if it stands back for nobody ([`Claims::contest`]). What was observed may be old, and two who decide may
//! have observed different things. Still no address gets into two admitted pools, nor to a second pod, if whoever admits a
//! pool
//! - does so against the version of the pool that was observed, and observed everything that happened before that version;
//! - writes into each rival that stands back for it that it may not give out addresses and because of whom, against the
//!   version of the rival that was observed, before it admits the pool. Such a write changes the rival even if that says
//!   just this already, unless the rival's version is later than that of the pool.
//!
//! For of two rivals one has the later version. Whoever admits that one has observed the other, and so either finds it
//! admitted, or changes it, and whoever was about to admit it fails. Which of two stands back follows from the two alone, so
//! that two who observed the same of them agree.

mod segments;

use crate::addr::Family;
use crate::set::RangeSet;
use segments::Segments;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How firmly a pool stands, the firmest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has what its subnet's accounting gives it, and was admitted.
    Automatic,
    /// It was admitted as it is.
    Admitted,
    /// It was made out of its subnet's accounting, or says so.
    Accounted,
    /// It is being deleted, but pods may have its addresses still.
    Going,
    /// It was admitted before it was changed, or long ago: pods have addresses of it.
    InUse,
    /// No pod has an address of it.
    New,
}

impl Standing {
    /// Whether it gives out addresses.
    pub const fn serves(self) -> bool {
        matches!(self, Self::Automatic | Self::Admitted)
    }
}

/// In which order pools come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// How firmly it stands.
    pub standing: Standing,
    /// When it was made, in seconds since any moment.
    pub made: i64,
    /// Its name.
    pub name: Arc<str>,
}

/// What a pool lays claim to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The IP version.
    pub family: Family,
    /// Addresses that it may give out.
    pub offered: RangeSet,
    /// Addresses that its pods have. Of a pool that gives out addresses, those that it does not offer suffice.
    pub held: RangeSet,
    /// How firmly it stands.
    pub standing: Standing,
    /// When it was made, in seconds since any moment.
    pub made: i64,
}

impl Claim {
    fn ranges(&self) -> RangeSet {
        self.offered.union(&self.held)
    }
}

/// A pool with addresses of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Where it stands in the order.
    pub rank: Rank,
    /// The addresses that both offer.
    pub common: RangeSet,
    /// The addresses that the one which stands back offers, and that pods of the other have.
    pub held: RangeSet,
}

/// How a pool stands to its rivals, each list in the order of ranks. Two are in both lists of each other if pods of each have
/// addresses that the other offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contest {
    /// Those that it stands back for: it must not give out addresses.
    pub before: Vec<Rival>,
    /// Those that stand back for it.
    pub after: Vec<Rival>,
}

/// The claims of all pools. A look at one pool costs time in its ranges and in its rivals, however many pools there are.
#[derive(Debug, Default)]
pub struct Claims {
    by_name: BTreeMap<Arc<str>, Claim>,
    v4: Segments,
    v6: Segments,
}

impl Claims {
    /// Takes in what a pool lays claim to now. Says which other pools have to look again because of that.
    pub fn put(&mut self, name: &str, claim: Claim) -> BTreeSet<Arc<str>> {
        let known = self
            .by_name
            .get_key_value(name)
            .map(|(name, known)| (name.clone(), known.clone()));
        let same_place = |known: &Claim| known.family == claim.family && known.ranges() == claim.ranges();
        match known {
            Some((_, known)) if known == claim => BTreeSet::new(),
            Some((name, known)) if same_place(&known) => {
                let concerned = self.sharing(&name, &claim);
                self.by_name.insert(name, claim);
                concerned
            }
            known => {
                let mut concerned = known.map(|(name, _)| self.remove(&name)).unwrap_or_default();
                let name: Arc<str> = name.into();
                let segments = self.segments(claim.family);
                for range in claim.ranges().ranges() {
                    segments.add(*range, &name);
                }
                concerned.extend(self.sharing(&name, &claim));
                self.by_name.insert(name, claim);
                concerned
            }
        }
    }

    /// Forgets a pool. Says which others have to look again because of that.
    pub fn remove(&mut self, name: &str) -> BTreeSet<Arc<str>> {
        let Some((name, claim)) = self.by_name.remove_entry(name) else {
            return BTreeSet::new();
        };
        let concerned = self.sharing(&name, &claim);
        let segments = self.segments(claim.family);
        for range in claim.ranges().ranges() {
            segments.take(*range, &name);
        }
        concerned
    }

    /// What a pool lays claim to.
    pub fn get(&self, name: &str) -> Option<&Claim> {
        self.by_name.get(name)
    }

    /// The pools with some of these addresses, each with what they have of them.
    pub fn within(&self, family: Family, ranges: &RangeSet) -> BTreeMap<Arc<str>, RangeSet> {
        let segments = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let mut found: BTreeMap<Arc<str>, RangeSet> = BTreeMap::new();
        for range in ranges.ranges() {
            segments.within(*range, |common, names| {
                for name in names {
                    found.entry(name.clone()).or_default().insert(common);
                }
            });
        }
        found
    }

    /// How a pool stands to its rivals; none if nothing is known of it.
    pub fn contest(&self, name: &str) -> Option<Contest> {
        let (name, claim) = self.by_name.get_key_value(name)?;
        let mut contest = Contest::default();
        for (other, shared) in self.within(claim.family, &claim.ranges()) {
            let Some(known) = self.by_name.get(&other).filter(|_| other != *name) else {
                continue;
            };
            let common = shared.intersection(&claim.offered).intersection(&known.offered);
            let of_rival = shared.intersection(&known.held).intersection(&claim.offered);
            let of_own = shared.intersection(&claim.held).intersection(&known.offered);
            let order = |rank: &Rank, held: &RangeSet| (!rank.standing.serves(), held.is_empty(), rank.clone());
            let rank_of_rival = rank(&other, known);
            let rival_first = order(&rank_of_rival, &of_rival) < order(&rank(name, claim), &of_own);
            let rival = |held| Rival {
                rank: rank_of_rival.clone(),
                common: common.clone(),
                held,
            };
            if !of_rival.is_empty() || !common.is_empty() && rival_first {
                contest.before.push(rival(of_rival));
            }
            if !of_own.is_empty() || !common.is_empty() && !rival_first {
                contest.after.push(rival(of_own));
            }
        }
        contest.before.sort_by(|a, b| a.rank.cmp(&b.rank));
        contest.after.sort_by(|a, b| a.rank.cmp(&b.rank));
        Some(contest)
    }

    fn sharing(&self, name: &Arc<str>, claim: &Claim) -> BTreeSet<Arc<str>> {
        let within = self.within(claim.family, &claim.ranges());
        within.into_keys().filter(|other| other != name).collect()
    }

    const fn segments(&mut self, family: Family) -> &mut Segments {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

fn rank(name: &Arc<str>, claim: &Claim) -> Rank {
    Rank {
        standing: claim.standing,
        made: claim.made,
        name: name.clone(),
    }
}
