//! Plans where the accounting may not become longer, or a pool not more ragged.

use spiderpool_ipam::accounting::{Entries, Entry, text_bytes};
use spiderpool_ipam::autopool::{Blocked, Facts, Limits, PoolFact, Verdict, Want, plan, room};
use spiderpool_ipam::text::{parse_ranges, print_ranges};
use spiderpool_ipam::{Family, RangeSet};

const POOL: &str = "auto4-shop-eth0-e07fc";
const SHOP: &str = "apps_v1_Deployment_retail_shop";

fn set(texts: &[&str]) -> RangeSet {
    parse_ranges(Family::V4, texts).unwrap_or_default()
}

fn want(size: u128) -> Want {
    Want {
        application: SHOP.to_owned(),
        pool: POOL.to_owned(),
        size,
    }
}

/// A subnet of these addresses, with a pool of those in `has`, and no more than so many ranges to a pool.
fn facts(total: &[&str], has: &[&str], used: &[&str], size: u128, ranges: usize) -> Facts {
    let mut facts = Facts {
        total: set(total),
        wants: vec![want(size)],
        limits: Limits {
            ranges,
            ..Limits::default()
        },
        ..Facts::default()
    };
    if !has.is_empty() {
        let application = Some(SHOP.to_owned());
        facts.pools.push(PoolFact {
            name: POOL.to_owned(),
            application: application.clone(),
            ranges: set(has),
            used: set(used),
            terminating: false,
        });
        let entry = Entry {
            ranges: set(has),
            application,
        };
        facts.entries.insert(POOL.to_owned(), entry);
    }
    facts
}

/// What the pool has after the plan.
fn after(facts: &Facts) -> Result<Vec<String>, Blocked> {
    match &plan(facts).verdicts[POOL] {
        Verdict::Create(ranges) | Verdict::Grow { ranges, .. } | Verdict::Shrink { ranges, .. } => {
            Ok(print_ranges(Family::V4, ranges))
        }
        Verdict::Nothing => Ok(Vec::new()),
        Verdict::Blocked(why) => Err(why.clone()),
    }
}

#[test]
fn a_new_pool_takes_the_longest_runs_only_if_it_must() {
    let total = ["10.0.0.1", "10.0.0.3-10.0.0.5", "10.0.0.7", "10.0.0.9-10.0.0.12"];
    let made = |size, ranges| after(&facts(&total, &[], &[], size, ranges));
    assert_eq!(made(4, 2), Ok(vec!["10.0.0.1".into(), "10.0.0.3-10.0.0.5".into()]));
    assert_eq!(made(4, 1), Ok(vec!["10.0.0.9-10.0.0.12".into()]));
    assert_eq!(
        made(6, 2),
        Ok(vec!["10.0.0.3-10.0.0.4".into(), "10.0.0.9-10.0.0.12".into()])
    );
    assert_eq!(made(8, 2), Err(Blocked::Fragmented { ranges: 3, limit: 2 }));
}

#[test]
fn growth_fills_gaps_and_extends_before_it_adds_ranges() {
    let total = ["10.0.0.1", "10.0.0.3", "10.0.0.10-10.0.0.20", "10.0.0.30-10.0.0.60"];
    let has = ["10.0.0.12-10.0.0.13", "10.0.0.15-10.0.0.16"];
    let grown = |size, ranges| after(&facts(&total, &has, &[], size, ranges));
    let three = ["10.0.0.1", "10.0.0.12-10.0.0.13", "10.0.0.15-10.0.0.16"];
    assert_eq!(grown(5, 3), Ok(three.map(String::from).into()));
    assert_eq!(grown(5, 2), Ok(vec!["10.0.0.12-10.0.0.16".into()]));
    // Four above, for that run is longer than the one below.
    assert_eq!(grown(9, 2), Ok(vec!["10.0.0.12-10.0.0.20".into()]));
    assert_eq!(grown(10, 2), Ok(vec!["10.0.0.11-10.0.0.20".into()]));
    let two = ["10.0.0.10-10.0.0.20", "10.0.0.30-10.0.0.31"];
    assert_eq!(grown(13, 2), Ok(two.map(String::from).into()));
    assert_eq!(grown(43, 2), Err(Blocked::Fragmented { ranges: 3, limit: 2 }));
}

#[test]
fn a_shrink_leaves_no_holes_that_are_too_many() {
    let total = ["10.0.0.1-10.0.0.20"];
    let has = ["10.0.0.1-10.0.0.10"];
    let used = ["10.0.0.3", "10.0.0.6", "10.0.0.10"];
    let shrunk = |size, ranges| after(&facts(&total, &has, &used, size, ranges));
    let highest = ["10.0.0.1-10.0.0.6", "10.0.0.10"];
    assert_eq!(shrunk(7, 2), Ok(highest.map(String::from).into()));
    // Only what is at an end may go.
    assert_eq!(shrunk(7, 1), Ok(vec!["10.0.0.3-10.0.0.10".into()]));
    assert_eq!(shrunk(9, 1), Ok(vec!["10.0.0.2-10.0.0.10".into()]));
    let holes = ["10.0.0.3-10.0.0.6", "10.0.0.10"];
    assert_eq!(shrunk(0, 2), Ok(holes.map(String::from).into()));
    let between = ["10.0.0.3", "10.0.0.10"];
    let stuck = facts(&total, &["10.0.0.3-10.0.0.10"], &between, 3, 1);
    assert_eq!(after(&stuck), Err(Blocked::InUse { pending: 5 }));
    let plan = plan(&facts(&total, &has, &used, 5, 1));
    let kept = set(&["10.0.0.3-10.0.0.10"]);
    assert_eq!(
        plan.verdicts[POOL],
        Verdict::Shrink {
            ranges: kept,
            pending: 3
        }
    );
}

#[test]
fn a_pool_that_is_too_ragged_already_may_become_less_so() {
    let total = ["10.0.0.1-10.0.0.20"];
    let has = ["10.0.0.1", "10.0.0.3", "10.0.0.5"];
    let grown = after(&facts(&total, &has, &[], 4, 1));
    assert_eq!(grown, Ok(vec!["10.0.0.1-10.0.0.3".into(), "10.0.0.5".into()]));
    let shrunk = after(&facts(&total, &has, &["10.0.0.3"], 2, 1));
    assert_eq!(shrunk, Ok(vec!["10.0.0.1".into(), "10.0.0.3".into()]));
}

#[test]
fn an_accounting_that_is_full_takes_nothing_more_and_leaves_what_is() {
    let mut full = facts(&["10.0.0.1-10.0.0.4", "10.0.0.8"], &["10.0.0.1"], &[], 5, 9);
    full.limits.accounting_bytes = text_bytes(&full.entries);
    let blocked = plan(&full);
    let Verdict::Blocked(Blocked::AccountingLimit { bytes, limit }) = blocked.verdicts[POOL] else {
        panic!("{blocked:?}");
    };
    assert!(bytes > limit && limit == full.limits.accounting_bytes);
    assert_eq!(blocked.entries, full.entries);
    full.limits.accounting_bytes = bytes;
    assert_eq!(after(&full), Ok(vec!["10.0.0.1-10.0.0.4".into(), "10.0.0.8".into()]));
}

#[test]
fn a_choice_of_fewer_ranges_may_fit_where_the_lowest_addresses_do_not() {
    let mut tight = facts(&["10.0.0.1", "10.0.0.3", "10.0.0.5-10.0.0.8"], &[], &[], 3, 9);
    let one_range = Entry {
        ranges: set(&["10.0.0.5-10.0.0.7"]),
        application: Some(SHOP.to_owned()),
    };
    tight.limits.accounting_bytes = text_bytes(&Entries::from([(POOL.to_owned(), one_range)]));
    assert_eq!(after(&tight), Ok(vec!["10.0.0.5-10.0.0.7".into()]));
}

#[test]
fn those_who_come_first_use_up_the_accounting() {
    let mut facts = facts(&["10.0.0.1-10.0.0.9"], &[], &[], 2, 9);
    let second = Want {
        pool: "auto4-till-eth0-12345".to_owned(),
        ..want(2)
    };
    facts.wants.push(second.clone());
    facts.limits.accounting_bytes = text_bytes(&plan(&facts).entries) - 1;
    let plan = plan(&facts);
    assert!(matches!(plan.verdicts[POOL], Verdict::Create(_)));
    assert!(matches!(
        plan.verdicts[&second.pool],
        Verdict::Blocked(Blocked::AccountingLimit { .. })
    ));
    assert!(!plan.entries.contains_key(&second.pool));
}

#[test]
fn the_room_of_a_subnet_is_what_a_plan_would_give() {
    let mut facts = facts(&["10.0.0.1", "10.0.0.3-10.0.0.5", "10.0.0.9"], &[], &[], 0, 2);
    facts.reserved = set(&["10.0.0.9"]);
    facts.wants.clear();
    assert_eq!(room(&facts, &want(4)), Ok(()));
    let exhausted = Blocked::Exhausted { wanted: 5, free: 4 };
    assert_eq!(room(&facts, &want(5)), Err(exhausted));
    facts.limits.ranges = 1;
    assert_eq!(room(&facts, &want(3)), Ok(()));
    let fragmented = Blocked::Fragmented { ranges: 2, limit: 1 };
    assert_eq!(room(&facts, &want(4)), Err(fragmented));
    facts.limits = Limits {
        accounting_bytes: 10,
        ..Limits::default()
    };
    assert!(matches!(room(&facts, &want(1)), Err(Blocked::AccountingLimit { .. })));
    facts.terminating = true;
    assert_eq!(room(&facts, &want(1)), Err(Blocked::SubnetTerminating));
}

#[test]
fn what_was_reserved_for_a_pool_is_room_for_it_and_for_no_other() {
    let mut facts = facts(&["10.0.0.1-10.0.0.4"], &[], &[], 0, 9);
    let reservation = Entry {
        ranges: set(&["10.0.0.1-10.0.0.3"]),
        application: Some(SHOP.to_owned()),
    };
    facts.entries.insert(POOL.to_owned(), reservation);
    assert_eq!(room(&facts, &want(4)), Ok(()));
    let other = Want {
        application: "apps_v1_Deployment_retail_till".to_owned(),
        ..want(4)
    };
    let exhausted = Blocked::Exhausted { wanted: 4, free: 1 };
    assert_eq!(room(&facts, &other), Err(exhausted));
}
