//! Claims of pools against a naive model, and the promise that no address gets into two admitted pools, whoever decides and
//! however old what they observed is.

use proptest::prelude::*;
use spiderpool_ipam::claims::{Claim, Claims, Contest, Rival, Standing};
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
    use Standing::{Accounted, Admitted, Automatic, Going, InUse, New};
    prop::sample::select(vec![Automatic, Admitted, Accounted, Going, InUse, New])
}

fn claim() -> impl Strategy<Value = Claim> {
    let held = prop_oneof![Just(Addresses::new()), addresses()];
    (any::<bool>(), addresses(), held, standing(), 0..3i64).prop_map(|(v4, offered, held, standing, made)| Claim {
        family: if v4 { Family::V4 } else { Family::V6 },
        offered: set(&offered),
        held: set(&held),
        standing,
        made,
    })
}

type Model = BTreeMap<String, Claim>;

fn both(a: &RangeSet, b: &RangeSet) -> Addresses {
    members(a).intersection(&members(b)).copied().collect()
}

fn serves(claim: &Claim) -> bool {
    matches!(claim.standing, Standing::Automatic | Standing::Admitted)
}

/// A rival: its name, what both offer, and what of this the pods of the first have.
type Told = (String, Addresses, Addresses);

/// What makes one pool stand back for another.
fn ahead(first: (&String, &Claim), second: (&String, &Claim)) -> Option<(Addresses, Addresses)> {
    let ((a, first), (b, second)) = (first, second);
    if first.family != second.family {
        return None;
    }
    let common = both(&first.offered, &second.offered);
    let (held, other) = (both(&first.held, &second.offered), both(&second.held, &first.offered));
    let order = (!serves(first), held.is_empty(), first.standing, first.made, a)
        < (!serves(second), other.is_empty(), second.standing, second.made, b);
    (!held.is_empty() || !common.is_empty() && order).then_some((common, held))
}

/// The rivals that a pool stands back for, and those that stand back for it, by looking at all.
fn rivals(model: &Model, name: &str) -> [Vec<Told>; 2] {
    let own = (&name.to_owned(), &model[name]);
    let mut others: Vec<_> = model.iter().filter(|(other, _)| *other != name).collect();
    others.sort_by_key(|(other, claim)| (claim.standing, claim.made, *other));
    let [mut before, mut after] = [Vec::new(), Vec::new()];
    for other in others {
        before.extend(ahead(other, own).map(|(common, held)| (other.0.clone(), common, held)));
        after.extend(ahead(own, other).map(|(common, held)| (other.0.clone(), common, held)));
    }
    [before, after]
}

fn told(contest: &Contest) -> [Vec<Told>; 2] {
    [&contest.before, &contest.after].map(|rivals| {
        let told = |rival: &Rival| {
            (
                rival.rank.name.to_string(),
                members(&rival.common),
                members(&rival.held),
            )
        };
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
            let inside: Addresses = members(&claim.offered.union(&claim.held)).intersection(&asked).copied().collect();
            if !inside.is_empty() {
                expected.insert(format!("p{n}"), inside);
            }
        }
        let found: BTreeMap<String, Addresses> = found.iter().map(|(name, all)| (name.to_string(), members(all))).collect();
        prop_assert_eq!(found, expected);
    }
}

type Why = (u32, Vec<Told>);

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
    refused: Option<Why>,
    /// Changed by whoever makes sure that an admission under way fails.
    fence: usize,
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
        let held = match standing {
            Standing::Admitted => self.pods.difference(&self.offers).copied().collect(),
            _ => self.pods.clone(),
        };
        Claim {
            family: Family::V4,
            offered: set(&self.offers),
            held: set(&held),
            standing,
            made: self.made,
        }
    }
}

/// One write of somebody who decides, against the version that was observed.
#[derive(Clone, Debug)]
enum Write {
    /// It stands back for these. With a fence, the write changes the pool in any case.
    Refuse(String, usize, Why, bool),
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

    fn refusal(&self, name: &str, fence: bool) -> Write {
        let pool = &self.pools[name];
        let contest = self.claims.contest(name).unwrap_or_default();
        let [before, _] = told(&contest);
        Write::Refuse(name.to_owned(), pool.version, (pool.generation, before), fence)
    }

    fn decide(&mut self, name: &str) {
        let Some(pool) = self.pools.get(name).filter(|pool| !pool.going) else {
            return;
        };
        let contest = self.claims.contest(name).unwrap_or_default();
        if !contest.before.is_empty() {
            self.writes.push(vec![self.refusal(name, false)]);
        } else if !pool.is_admitted() {
            let losers = contest.after.iter().map(|rival| self.refusal(&rival.rank.name, true));
            let unaware = losers.filter(|write| {
                let Write::Refuse(name, version, why, _) = write else {
                    return true;
                };
                self.pools[name].refused.as_ref() != Some(why) || *version < pool.version
            });
            let admit = Write::Admit(name.to_owned(), pool.version, pool.generation);
            self.writes.push(unaware.chain([admit]).collect());
        }
    }

    /// Observes everything, decides on every pool, and writes what was decided.
    fn settle(&mut self, server: &mut Server) {
        self.observe(&server.history, usize::MAX / 2);
        for name in server.pools.keys() {
            self.decide(name);
        }
        for writes in std::mem::take(&mut self.writes) {
            for write in &writes {
                if !server.write(write) {
                    break;
                }
            }
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
    Settle(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let pool = 0..3u8;
    prop_oneof![
        4 => (pool.clone(), addresses()).prop_map(|(pool, offers)| Step::Make(pool, offers)),
        3 => (pool.clone(), addresses()).prop_map(|(pool, offers)| Step::Edit(pool, offers)),
        1 => pool.clone().prop_map(Step::Delete),
        4 => pool.clone().prop_map(Step::Take),
        2 => pool.clone().prop_map(Step::Free),
        6 => (0..2usize, 1..4usize).prop_map(|(decider, more)| Step::Observe(decider, more)),
        6 => (0..2usize, pool).prop_map(|(decider, pool)| Step::Decide(decider, pool)),
        6 => (0..2usize, 0..2usize).prop_map(|(decider, at)| Step::Write(decider, at)),
        2 => (0..2usize).prop_map(Step::Settle),
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
        let (Write::Refuse(name, version, ..) | Write::Admit(name, version, _)) = write;
        if self.pools.get(name).is_none_or(|pool| pool.version != *version) {
            return false;
        }
        let now = self.history.len();
        self.change(name, |pool| match write {
            Write::Refuse(_, _, why, fence) => {
                if *fence {
                    pool.fence = now;
                }
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
            Step::Observe(..) | Step::Decide(..) | Step::Write(..) | Step::Settle(_) => {}
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
        Step::Settle(decider) => deciders[*decider].settle(server),
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
        // In the end, with one decider who sees everything, all are admitted but those that stand back, and these know why.
        let mut last = Decider::default();
        for _ in 0..20 {
            last.settle(&mut server);
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

fn run(server: &mut Server, deciders: &mut [Decider], steps: &[Step]) {
    for step in steps {
        take(server, deciders, step);
        assert_eq!(
            (server.taken_twice(), server.admitted_twice()),
            (None, None),
            "after {step:?}"
        );
    }
}

fn some(addresses: &[u128]) -> Addresses {
    addresses.iter().copied().collect()
}

#[test]
fn an_address_that_a_pod_has_is_its_pools_after_an_edit_of_that_and_whoever_is_older() {
    use Step::{Edit, Free, Make, Settle, Take};
    let (mut server, mut deciders) = (Server::default(), [Decider::default(), Decider::default()]);
    let (old, new) = (0, 1);
    let begin = [
        Make(old, some(&[5, 6])),
        Make(new, some(&[1, 2])),
        Settle(0),
        Take(old),
        Take(new),
        Edit(old, some(&[1, 5, 6])),
        Settle(0),
        // What the older one was told is to be done, and then something else.
        Edit(new, some(&[2])),
        Settle(0),
        Settle(0),
        Take(old),
    ];
    run(&mut server, &mut deciders, &begin);
    let admitted = |server: &Server| ["p0", "p1"].map(|name| server.pools[name].is_admitted());
    assert_eq!(admitted(&server), [false, true]);
    let held = [("p1".to_owned(), Addresses::new(), some(&[1]))];
    assert_eq!(server.pools["p0"].refused, Some((1, held.to_vec())));
    run(&mut server, &mut deciders, &[Free(new), Settle(0), Take(old)]);
    assert_eq!(admitted(&server), [true, true]);
    assert_eq!(server.pools["p0"].pods, some(&[1, 5]));

    // An edit that leaves a pool what its pod has stops it no more than it makes room for the other.
    let (mut server, mut deciders) = (Server::default(), [Decider::default(), Decider::default()]);
    run(&mut server, &mut deciders, &begin[..7]);
    run(
        &mut server,
        &mut deciders,
        &[Edit(new, some(&[1, 2, 3])), Settle(1), Settle(1)],
    );
    assert_eq!(admitted(&server), [false, true]);
}

#[test]
fn an_admission_under_way_fails_though_its_pool_was_told_to_stand_back_before() {
    use Step::{Decide, Edit, Make, Observe, Settle, Write};
    let (mut server, mut deciders) = (Server::default(), [Decider::default(), Decider::default()]);
    let everything = usize::MAX / 2;
    let steps = [
        Make(0, some(&[1])),
        Settle(1),
        Make(1, some(&[1, 2])),
        Edit(0, some(&[1, 3])),
        Settle(1),
        Settle(1),
        // The younger one is about to be admitted while the older one does not have what both had.
        Edit(0, some(&[3])),
        Observe(0, everything),
        Decide(0, 1),
        Edit(0, some(&[1, 3])),
        Settle(1),
        Write(0, 0),
    ];
    run(&mut server, &mut deciders, &steps);
    let admitted = ["p0", "p1"].map(|name| server.pools[name].is_admitted());
    assert_eq!(admitted, [true, false]);
}

#[test]
fn ten_thousand_pools_cost_a_look_at_one_no_more_than_its_rivals() {
    let mut claims = Claims::default();
    let range = |first: u128, last| Range::new(first, last).into_iter().collect::<RangeSet>();
    let claim = |offered| Claim {
        family: Family::V6,
        offered,
        held: RangeSet::new(),
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
