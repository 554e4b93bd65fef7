//! Automatic-pool plans as a simulated system: applications come and go, pods take addresses, the operator dies between
//! writes and sees old pools. Whatever happens, no address may be in two pools, and in the end everybody has what is due.

mod world;

use proptest::prelude::*;
use spiderpool_ipam::Range;
use spiderpool_ipam::autopool::{Blocked, Limits, PoolFact, Verdict};
use std::cmp::Reverse;
use world::{Step, World, no_end_is_idle};

fn app() -> impl Strategy<Value = u8> {
    0..4u8
}

fn step() -> impl Strategy<Value = Step> {
    let old = || prop::collection::vec(prop_oneof![3 => Just(0usize), 1 => 1..4usize], 6);
    prop_oneof![
        4 => (app(), 0..9u128).prop_map(|(app, size)| Step::Want(app, size)),
        1 => app().prop_map(Step::Forget),
        4 => app().prop_map(Step::Take),
        3 => (app(), 0..8usize).prop_map(|(app, at)| Step::GiveBack(app, at)),
        1 => (0..40u128, 0..6u128).prop_map(|(at, len)| Step::Reserve(at, len)),
        1 => (20..40u128, 20..40u128).prop_map(|(a, b)| Step::Subnet(a, b)),
        1 => (0..40u128, 0..3u128).prop_map(|(at, len)| Step::UserPool(at, len)),
        1 => Just(Step::DropUserPool),
        6 => (old(), 0..2usize, prop_oneof![1 => 0..5usize, 2 => Just(usize::MAX)])
            .prop_map(|(old_pools, old_subnet, dies_after)| Step::Pass { old_pools, old_subnet, dies_after }),
    ]
}

/// Half of the worlds have limits that their few addresses reach.
fn limits() -> impl Strategy<Value = Limits> {
    let accounting_bytes = prop_oneof![Just(usize::MAX), 80..400usize];
    let ranges = prop_oneof![Just(usize::MAX), 1..4usize];
    let narrow = (accounting_bytes, ranges).prop_map(|(accounting_bytes, ranges)| Limits {
        accounting_bytes,
        ranges,
    });
    prop_oneof![Just(Limits::default()), narrow]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_gives_an_address_twice(limits in limits(), steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(limits);
        for step in steps {
            world.act(step);
            world.check()?;
        }
        // Without further faults a few passes settle everything.
        for _ in 0..4 {
            world.pass(&[], 0, usize::MAX);
            world.check()?;
        }
        let facts = world.observe(&[], 0);
        let plan = spiderpool_ipam::autopool::plan(&facts);
        prop_assert_eq!(&plan.entries, &facts.entries);
        prop_assert!(plan.dropped.is_empty() && plan.released.is_empty());
        let free = spiderpool_ipam::accounting::free(&facts.total, &facts.entries, &facts.reserved);
        for want in &facts.wants {
            let pool = facts.pools.iter().find(|pool| pool.name == want.pool);
            let have = pool.map(|pool| pool.ranges.count());
            match &plan.verdicts[&want.pool] {
                Verdict::Nothing => prop_assert_eq!(have, Some(want.size)),
                Verdict::Blocked(Blocked::Exhausted { wanted, free: said }) => {
                    prop_assert_eq!(*said, free.count());
                    prop_assert_eq!(*wanted, want.size - have.unwrap_or(0));
                    let too_few = free.is_empty() || (pool.is_none() && free.count() < want.size);
                    prop_assert!(too_few);
                }
                Verdict::Blocked(Blocked::Behind { .. }) => prop_assert!(false, "nothing is kept for anybody here"),
                Verdict::Blocked(Blocked::InUse { pending }) => {
                    prop_assert_eq!(have, Some(want.size + pending));
                    let stuck = |pool: &PoolFact| {
                        pool.ranges.is_subset_of(&pool.used)
                            || (limits != Limits::default() && no_end_is_idle(&pool.ranges, &pool.used))
                    };
                    prop_assert!(pool.is_some_and(stuck));
                }
                Verdict::Blocked(Blocked::AccountingLimit { bytes, limit }) => {
                    prop_assert_eq!(*limit, limits.accounting_bytes);
                    prop_assert!(bytes > limit);
                }
                Verdict::Blocked(Blocked::Fragmented { ranges, limit }) => {
                    prop_assert_eq!(*limit, limits.ranges);
                    prop_assert!(ranges > limit);
                    let mut runs: Vec<u128> = free.ranges().iter().map(Range::count).collect();
                    runs.sort_by_key(|count| Reverse(*count));
                    let largest: u128 = runs.iter().take(limits.ranges).sum();
                    prop_assert!(pool.is_some() || largest < want.size, "there was a choice");
                }
                Verdict::Blocked(Blocked::PoolTerminating) => {
                    prop_assert!(pool.is_some_and(|pool| pool.terminating && !pool.used.is_empty()));
                }
                verdict => prop_assert!(false, "not settled: {verdict:?}"),
            }
        }
    }
}
