//! Claims of pools against a naive model, and the promise that no address gets into two admitted pools, whoever decides and
//! however old what they observed is.

use proptest::prelude::*;
use spiderpool_ipam::claims::{Claim, Claims, Contest, Standing};
use spiderpool_ipam::{Family, Range, RangeSet};
use std::collections::{BTreeMap, BTreeSet};

const SIZE: u128 = 12;

type Addresses = BTreeSet<u128>;

fn set(addresses: &Addresses) -> RangeSet {
    addresses.iter().copied().collect()
}

fn members(set: &RangeSet) -> Addresses {
    set.ranges()
        .iter()
        .flat_map(|range| range.first()..=range.last())
        .collect()
}

fn addresses() -> impl Strategy<Value = Addresses> {
    let piece = (0..SIZE, 0..4u128).prop_map(|(at, more)| at..=(at + more).min(SIZE - 1));
    prop::collection::vec(piece, 1..3).prop_map(|pieces| pieces.into_iter().flatten().collect())
}

fn standing() -> impl Strategy<Value = Standing> {
    use Standing::{Admitted, Automatic, Going, InUse, New};
    prop::sample::select(vec![Automatic, Admitted, Going, InUse, New])
}

fn claim() -> impl Strategy<Value = Claim> {
    (any::<bool>(), addresses(), standing(), 0..3i64).prop_map(|(v4, addresses, standing, made)| Claim {
        family: if v4 { Family::V4 } else { Family::V6 },
        ranges: set(&addresses),
        standing,
        made,
    })
}

type Model = BTreeMap<String, Claim>;

fn common(a: &Claim, b: &Claim) -> Addresses {
    if a.family != b.family {
        return Addresses::new();
    }
    members(&a.ranges).intersection(&members(&b.ranges)).copied().collect()
}

fn order<'a>(name: &'a str, claim: &Claim) -> (Standing, i64, &'a str) {
    (claim.standing, claim.made, name)
}

/// The rivals of a pool that come before it, and those that come after, by looking at all.
fn rivals(model: &Model, name: &str) -> [Vec<(String, Addresses)>; 2] {
    let own = &model[name];
    let mut others: Vec<_> = model.iter().filter(|(other, _)| *other != name).collect();
    others.sort_by_key(|(other, claim)| order(other, claim));
    let (before, after): (Vec<_>, Vec<_>) = others
        .into_iter()
        .filter(|(_, claim)| !common(own, claim).is_empty())
        .partition(|(other, claim)| order(other, claim) < order(name, own));
    let told = |list: Vec<(&String, &Claim)>| list.into_iter().map(|(n, c)| (n.clone(), common(own, c))).collect();
    [told(before), told(after)]
}

fn told(contest: &Contest) -> [Vec<(String, Addresses)>; 2] {
    [&contest.before, &contest.after].map(|rivals| {
        let told = |rival: &spiderpool_ipam::claims::Rival| (rival.rank.name.to_string(), members(&rival.common));
        rivals.iter().map(told).collect()
    })
}

proptest! {
    #[test]
    fn rivals_are_those_that_a_look_at_all_pools_finds(
        changes in prop::collection::vec((0..5u8, prop::option::weighted(0.8, claim())), 1..30)
    ) {
        let (mut claims, mut model) = (Claims::default(), Model::new());
        for (pool, change) in changes {
            let name = format!("p{pool}");
            let before = model.clone();
            let concerned = match change {
                Some(claim) => {
                    model.insert(name.clone(), claim.clone());
                    claims.put(&name, claim)
                }
                None => {
                    model.remove(&name);
                    claims.remove(&name)
                }
            };
            for other in model.keys() {
                let [first, second] = rivals(&model, other);
                let contest = claims.contest(other).unwrap();
                prop_assert_eq!(told(&contest), [first, second]);
                let news = before.contains_key(other) && rivals(&before, other) != rivals(&model, other);
                prop_assert!(!news || *other == name || concerned.contains(other.as_str()), "{} is not told", other);
            }
        }
    }

    #[test]
    fn pools_within_ranges_are_found_with_what_they_have_of_them(claims in prop::collection::vec(claim(), 0..6), asked in addresses()) {
        let mut known = Claims::default();
        for (n, claim) in claims.iter().enumerate() {
            known.put(&format!("p{n}"), claim.clone());
        }
        let found = known.within(Family::V4, &set(&asked));
        let mut expected = BTreeMap::new();
        for (n, claim) in claims.iter().enumerate().filter(|(_, claim)| claim.family == Family::V4) {
            let inside: Addresses = members(&claim.ranges).intersection(&asked).copied().collect();
            if !inside.is_empty() {
                expected.insert(format!("p{n}"), inside);
            }
        }
        let found: BTreeMap<String, Addresses> = found.iter().map(|(name, all)| (name.to_string(), members(all))).collect();
        prop_assert_eq!(found, expected);
    }
}

/// A pool as the API server has it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Pool {
    version: usize,
    /// Counts changes of what it offers.
    generation: u32,
    made: i64,
    offers: Addresses,
    pods: Addresses,
    going: bool,
    /// The generation that was admitted.
    admitted: Option<u32>,
    /// Why not, and which generation was looked at.
    refused: Option<(u32, Vec<(String, Addresses)>)>,
}

impl Pool {
    fn is_admitted(&self) -> bool {
        !self.going && self.admitted == Some(self.generation)
    }

    fn claim(&self) -> Claim {
        let standing = if self.going {
            Standing::Going
        } else if self.is_admitted() {
            Standing::Admitted
        } else if self.pods.is_empty() {
            Standing::New
        } else {
            Standing::InUse
        };
        Claim {
            family: Family::V4,
            ranges: set(&self.offers.union(&self.pods).copied().collect()),
            standing,
            made: self.made,
        }
    }
}

/// One write of somebody who decides, against the version that was observed.
#[derive(Clone, Debug)]
enum Write {
    Refuse(String, usize, (u32, Vec<(String, Addresses)>)),
    Admit(String, usize, u32),
}

/// Somebody who decides on what was observed up to a moment, and the writes that are under way.
#[derive(Default)]
struct Decider {
    seen: usize,
    pools: BTreeMap<String, Pool>,
    claims: Claims,
    writes: Vec<Vec<Write>>,
}

impl Decider {
    fn observe(&mut self, history: &[(String, Option<Pool>)], more: usize) {
        let end = (self.seen + more).min(history.len());
        for (name, pool) in &history[self.seen..end] {
            match pool {
                Some(pool) => {
                    self.claims.put(name, pool.claim());
                    self.pools.insert(name.clone(), pool.clone());
                }
                None => {
                    self.claims.remove(name);
                    self.pools.remove(name);
                }
            }
        }
        self.seen = end;
    }

    fn refusal(&self, name: &str) -> Write {
        let pool = &self.pools[name];
        let contest = self.claims.contest(name).unwrap_or_default();
        let [before, _] = told(&contest);
        Write::Refuse(name.to_owned(), pool.version, (pool.generation, before))
    }

    fn decide(&mut self, name: &str) {
        let Some(pool) = self.pools.get(name).filter(|pool| !pool.going) else {
            return;
        };
        let contest = self.claims.contest(name).unwrap_or_default();
        if !contest.before.is_empty() {
            self.writes.push(vec![self.refusal(name)]);
        } else if !pool.is_admitted() {
            let losers = contest.after.iter().map(|rival| self.refusal(&rival.rank.name));
            let unaware = losers.filter(|write| {
                let Write::Refuse(name, _, why) = write else {
                    return true;
                };
                self.pools[name].refused.as_ref() != Some(why)
            });
            let admit = Write::Admit(name.to_owned(), pool.version, pool.generation);
            self.writes.push(unaware.chain([admit]).collect());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Make(u8, Addresses),
    Edit(u8, Addresses),
    Delete(u8),
    Take(u8),
    Free(u8),
    Observe(usize, usize),
    Decide(usize, u8),
    Write(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let pool = 0..3u8;
    prop_oneof![
        4 => (pool.clone(), addresses()).prop_map(|(pool, offers)| Step::Make(pool, offers)),
        1 => (pool.clone(), addresses()).prop_map(|(pool, offers)| Step::Edit(pool, offers)),
        1 => pool.clone().prop_map(Step::Delete),
        4 => pool.clone().prop_map(Step::Take),
        2 => pool.clone().prop_map(Step::Free),
        6 => (0..2usize, 1..4usize).prop_map(|(decider, more)| Step::Observe(decider, more)),
        6 => (0..2usize, pool).prop_map(|(decider, pool)| Step::Decide(decider, pool)),
        6 => (0..2usize, 0..2usize).prop_map(|(decider, at)| Step::Write(decider, at)),
    ]
}

/// The API server, and everything that ever happened in it.
#[derive(Default)]
struct Server {
    pools: BTreeMap<String, Pool>,
    history: Vec<(String, Option<Pool>)>,
}

impl Server {
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Pool)) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let before = pool.clone();
        change(pool);
        if *pool == before {
            return;
        }
        pool.version = self.history.len() + 1;
        let pool = Some(pool.clone()).filter(|pool| !pool.going || !pool.pods.is_empty());
        if pool.is_none() {
            self.pools.remove(name);
        }
        self.history.push((name.to_owned(), pool));
    }

    /// Says whether the write was taken.
    fn write(&mut self, write: &Write) -> bool {
        let (Write::Refuse(name, version, _) | Write::Admit(name, version, _)) = write;
        if self.pools.get(name).is_none_or(|pool| pool.version != *version) {
            return false;
        }
        self.change(name, |pool| match write {
            Write::Refuse(_, _, why) => {
                pool.admitted = None;
                pool.refused = Some(why.clone());
            }
            Write::Admit(_, _, generation) => {
                pool.admitted = Some(*generation);
                pool.refused = None;
            }
        });
        true
    }

    fn live(&mut self, step: &Step) {
        match step {
            Step::Make(pool, offers) => {
                let name = format!("p{pool}");
                if !self.pools.contains_key(&name) {
                    let made = (self.history.len() / 32) as i64;
                    self.pools.insert(
                        name.clone(),
                        Pool {
                            made,
                            ..Pool::default()
                        },
                    );
                    self.change(&name, |pool| pool.offers.clone_from(offers));
                }
            }
            Step::Edit(pool, offers) => self.change(&format!("p{pool}"), |pool| {
                pool.offers.clone_from(offers);
                pool.generation += 1;
            }),
            Step::Delete(pool) => self.change(&format!("p{pool}"), |pool| {
                pool.going = true;
                pool.generation += 1;
            }),
            Step::Take(pool) => self.change(&format!("p{pool}"), |pool| {
                if pool.is_admitted() {
                    let free = pool.offers.difference(&pool.pods).next().copied();
                    pool.pods.extend(free);
                }
            }),
            Step::Free(pool) => self.change(&format!("p{pool}"), |pool| {
                pool.pods.pop_first();
            }),
            Step::Observe(..) | Step::Decide(..) | Step::Write(..) => {}
        }
    }

    fn taken_twice(&self) -> Option<u128> {
        let mut all = Addresses::new();
        let mut taken = self.pools.values().flat_map(|pool| &pool.pods);
        taken.find(|address| !all.insert(**address)).copied()
    }

    fn admitted_twice(&self) -> Option<u128> {
        let mut all = Addresses::new();
        let admitted = self.pools.values().filter(|pool| pool.is_admitted());
        let mut offered = admitted.flat_map(|pool| &pool.offers);
        offered.find(|address| !all.insert(**address)).copied()
    }
}

fn take(server: &mut Server, deciders: &mut [Decider], step: &Step) {
    match step {
        Step::Observe(decider, more) => deciders[*decider].observe(&server.history, *more),
        Step::Decide(decider, pool) => deciders[*decider].decide(&format!("p{pool}")),
        Step::Write(decider, at) => {
            let under_way = &mut deciders[*decider].writes;
            if *at < under_way.len() {
                let write = under_way[*at].remove(0);
                if !server.write(&write) || under_way[*at].is_empty() {
                    under_way.remove(*at);
                }
            }
        }
        live => server.live(live),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_in_two_admitted_pools_however_old_the_observations(steps in prop::collection::vec(step(), 1..200)) {
        let mut server = Server::default();
        let mut deciders = [Decider::default(), Decider::default()];
        for step in &steps {
            take(&mut server, &mut deciders, step);
            prop_assert_eq!(server.taken_twice(), None, "after {:?}", step);
            prop_assert_eq!(server.admitted_twice(), None, "after {:?}", step);
        }
        // In the end, with one decider who sees everything, the first of all rivals are admitted and the others know why not.
        let mut last = Decider::default();
        for _ in 0..20 {
            last.observe(&server.history, usize::MAX / 2);
            for pool in 0..3 {
                last.decide(&format!("p{pool}"));
            }
            for write in std::mem::take(&mut last.writes).into_iter().flatten() {
                server.write(&write);
            }
        }
        last.observe(&server.history, usize::MAX / 2);
        for (name, pool) in server.pools.iter().filter(|(_, pool)| !pool.going) {
            let contest = last.claims.contest(name).unwrap();
            prop_assert_eq!(pool.is_admitted(), contest.before.is_empty(), "{}", name);
            let [before, _] = told(&contest);
            prop_assert!(before.is_empty() || pool.refused == Some((pool.generation, before)), "{}", name);
        }
    }
}

#[test]
fn ten_thousand_pools_cost_a_look_at_one_no_more_than_its_rivals() {
    let mut claims = Claims::default();
    let range = |first: u128, last| Range::new(first, last).into_iter().collect::<RangeSet>();
    let claim = |ranges| Claim {
        family: Family::V6,
        ranges,
        standing: Standing::New,
        made: 0,
    };
    for n in 0..10_000u128 {
        assert!(
            claims
                .put(&format!("p{n}"), claim(range(n << 64, (n << 64) + 9)))
                .is_empty()
        );
    }
    let concerned = claims.put("late", claim(range((7 << 64) + 9, 9 << 64)));
    assert_eq!(
        concerned.into_iter().collect::<Vec<_>>(),
        ["p7".into(), "p8".into(), "p9".into()]
    );
    assert_eq!(claims.remove("late").len(), 3);
}
