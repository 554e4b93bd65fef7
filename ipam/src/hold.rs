//! Addresses of a pool that no pod has and that are not as good as the others: who gets one of them, and when.
//!
//! | address | who gets it |
//! |---|---|
//! | free, and nothing is noted of it | everybody, the lowest first |
//! | [`Note::Freed`] by a pod a moment ago | the same identity at once, before all others if the pool has a cool-down; other pods as [`WhenCooling`] says |
//! | [`Note::Doubtful`] | everybody, when there is no other |
//! | [`Note::Blocked`] | nobody |
//!
//! The identity is the name on record: the pod's, or the virtual machine's. A pool without a cool-down gives out what was freed
//! last of all, too, but promises nothing.

use crate::ledger::{Ledger, Owner};
use crate::range::Range;
use crate::set::RangeSet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// How long a freed address is chosen last where the pool says nothing: as long as its old owner may still answer for it.
const LEAST: Duration = Duration::from_secs(5);

/// Most notes about freed addresses where the pool says nothing. Nobody depends on them, and a note has a hundred bytes.
const MOST: usize = 256;

/// What other pods get when only addresses that cool down are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenCooling {
    /// Nothing, until the first of them has cooled down.
    Wait,
    /// The one that does so for the longest time.
    #[default]
    Oldest,
}

impl WhenCooling {
    /// The word in a pool's spec; none if this version does not know it.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "Wait" => Some(Self::Wait),
            "Oldest" => Some(Self::Oldest),
            _ => None,
        }
    }
}

/// How a pool gives out again what was freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Time between one owner of an address and the next one. Zero: none is promised.
    pub cooldown: Duration,
    /// What goes if that leaves nothing.
    pub when_cooling: WhenCooling,
}

impl Reuse {
    /// Whether the pool has a cool-down.
    pub const fn is_set(&self) -> bool {
        !self.cooldown.is_zero()
    }

    /// Whether other pods wait when only addresses that cool down are left.
    pub fn waits(&self) -> bool {
        self.is_set() && self.when_cooling == WhenCooling::Wait
    }

    /// How long an address cools down from when it was freed.
    pub fn time(&self) -> Duration {
        self.cooldown.max(LEAST)
    }

    /// Whether it is noted that an address was freed, where so many addresses have such a note.
    pub const fn takes_note(&self, notes: usize) -> bool {
        self.is_set() || notes < MOST
    }
}

/// What is noted of an address that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note<'a> {
    /// Nobody may have it.
    Blocked,
    /// A host that nobody knows may have it.
    Doubtful,
    /// The pod of this identity had it.
    Freed(&'a str),
}

/// Until when, in order: what has no end comes last.
type Until<T> = (bool, Option<T>);

#[derive(Clone, Debug)]
struct Kept<T> {
    until: Until<T>,
    blocks: bool,
    by: Option<Box<str>>,
}

/// The noted addresses of one pool and family. `T` is a moment of whatever clock the notes are from.
#[derive(Clone, Debug)]
pub struct Shelf<T> {
    reuse: Reuse,
    notes: BTreeMap<u128, Kept<T>>,
    /// All of them: what is not chosen first.
    noted: RangeSet,
    /// Those that are chosen last, in that order.
    last: BTreeSet<(Until<T>, u128)>,
    /// Freed addresses, by who had them.
    freed: HashMap<Box<str>, BTreeSet<(Until<T>, u128)>>,
    /// How many notes are about freed or doubtful addresses.
    cooling: usize,
}

impl<T: Ord + Copy> Shelf<T> {
    /// Nothing is noted.
    pub fn new(reuse: Reuse) -> Self {
        Self {
            reuse,
            notes: BTreeMap::new(),
            noted: RangeSet::new(),
            last: BTreeSet::new(),
            freed: HashMap::new(),
            cooling: 0,
        }
    }

    /// The pool's rule.
    pub const fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// How many addresses are freed or doubtful.
    pub const fn cooling(&self) -> usize {
        self.cooling
    }

    /// Notes something of an address, in the place of what was noted of it.
    pub fn put(&mut self, addr: u128, note: Note<'_>, until: Option<T>) {
        self.remove(addr);
        let until = (until.is_none(), until);
        let by = match note {
            Note::Freed(by) => Some(Box::<str>::from(by)),
            Note::Blocked | Note::Doubtful => None,
        };
        let blocks = note == Note::Blocked;
        if !blocks {
            self.cooling += 1;
            if by.is_none() || !self.reuse.waits() {
                self.last.insert((until, addr));
            }
        }
        if let Some(by) = &by {
            self.freed.entry(by.clone()).or_default().insert((until, addr));
        }
        self.noted.insert(Range::single(addr));
        self.notes.insert(addr, Kept { until, blocks, by });
    }

    /// Forgets what is noted of an address.
    pub fn remove(&mut self, addr: u128) {
        let Some(kept) = self.notes.remove(&addr) else { return };
        let entry = (kept.until, addr);
        self.noted = self.noted.difference(&Range::single(addr).into());
        self.last.remove(&entry);
        if !kept.blocks {
            self.cooling = self.cooling.saturating_sub(1);
        }
        if let Some(by) = kept.by
            && let Some(all) = self.freed.get_mut(&by)
        {
            all.remove(&entry);
            if all.is_empty() {
                self.freed.remove(&by);
            }
        }
    }

    /// Notes that nobody depends on, the least needed first.
    pub fn expendable(&self) -> impl Iterator<Item = u128> {
        self.last.iter().map(|(_, addr)| *addr)
    }

    /// Whether what is noted of an address keeps it from an identity.
    pub fn keeps(&self, addr: u128, identity: &str) -> bool {
        self.notes.get(&addr).is_some_and(|kept| {
            let other = kept.by.as_deref().is_some_and(|by| by != identity);
            kept.blocks || other && self.reuse.waits()
        })
    }

    /// Takes an address of the pool for an owner: one that its identity had, else the lowest that nothing is noted of, else one of
    /// those that come last.
    pub fn take(&self, ledger: &mut Ledger, owner: &Owner, reserved: &RangeSet) -> Option<u128> {
        let own = self.freed.get(owner.pod.as_str()).filter(|_| self.reuse.is_set());
        let own = own.into_iter().flatten().rev().map(|(_, addr)| *addr);
        let mut allowed = own.filter(|addr| !reserved.contains(*addr));
        if let Some(addr) = allowed.find(|addr| ledger.take_exact(*addr, owner.clone())) {
            return Some(addr);
        }
        let fresh = ledger.take(owner.clone(), &self.noted.union(reserved));
        fresh.or_else(|| {
            let mut last = self.expendable().filter(|addr| !reserved.contains(*addr));
            last.find(|addr| ledger.take_exact(*addr, owner.clone()))
        })
    }

    /// How many addresses of the pool other pods wait for, and until when the first of them cools down.
    pub fn awaited(&self, ledger: &Ledger, reserved: &RangeSet) -> Option<(usize, Option<T>)> {
        if !self.reuse.waits() {
            return None;
        }
        let free = |addr: u128| ledger.is_free(addr) && !reserved.contains(addr);
        let waiting = self.freed.values().flatten().filter(|(_, addr)| free(*addr));
        let (count, first) = waiting.fold((0, None), |(count, first): (usize, Option<Until<T>>), (until, _)| {
            (count + 1, Some(first.map_or(*until, |first| first.min(*until))))
        });
        first.map(|(_, until)| (count, until))
    }
}
