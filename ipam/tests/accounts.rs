//! Worked examples of subnet accounting and of plans.

use std::collections::BTreeSet;

use spiderpool_ipam::accounting::{Entries, Entry, allocated, free, status_count, taken};
use spiderpool_ipam::autopool::{Blocked, Facts, Limits, Plan, PoolFact, Verdict, Want, plan};
use spiderpool_ipam::text::{parse_ranges, print_ranges};
use spiderpool_ipam::{Family, RangeSet};

const SHOP: &str = "apps_v1_Deployment_retail_shop";

const NAME: &str = "auto4-shop-eth0-e07fc";

fn set(texts: &[&str]) -> RangeSet {
    parse_ranges(Family::V4, texts).unwrap_or_default()
}

fn text(set: &RangeSet) -> Vec<String> {
    print_ranges(Family::V4, set)
}

fn entry(application: Option<&str>, texts: &[&str]) -> Entry {
    Entry {
        ranges: set(texts),
        application: application.map(str::to_owned),
    }
}

fn pool(name: &str, application: Option<&str>, ranges: &[&str], used: &[&str]) -> PoolFact {
    PoolFact {
        name: name.into(),
        application: application.map(str::to_owned),
        ranges: set(ranges),
        used: set(used),
        terminating: false,
    }
}

fn want(application: &str, pool: &str, size: u128) -> Want {
    Want {
        application: application.into(),
        pool: pool.into(),
        size,
    }
}

/// A subnet with the automatic pool of an application and a pool that a user made.
fn rack7() -> Facts {
    Facts {
        total: set(&["10.77.1.10-10.77.1.40"]).difference(&set(&["10.77.1.20"])),
        reserved: set(&["10.77.1.13-10.77.1.14", "10.77.1.40"]),
        entries: Entries::from([
            (NAME.into(), entry(Some(SHOP), &["10.77.1.10-10.77.1.12"])),
            ("db-static".into(), entry(None, &["10.77.1.30-10.77.1.31"])),
        ]),
        pools: vec![
            pool(NAME, Some(SHOP), &["10.77.1.10-10.77.1.12"], &["10.77.1.10-10.77.1.11"]),
            pool("db-static", None, &["10.77.1.30-10.77.1.31"], &[]),
        ],
        wants: vec![want(SHOP, NAME, 3)],
        terminating: false,
        unusable: false,
        kept_for: BTreeSet::new(),
        limits: Limits::default(),
    }
}

fn only(plan: &Plan) -> &Verdict {
    &plan.verdicts[NAME]
}

#[test]
fn the_free_list_leaves_out_what_is_excluded_given_or_reserved() {
    let total = set(&["10.0.0.1-10.0.0.10"]).difference(&set(&["10.0.0.4"]));
    let entries = Entries::from([
        ("a".into(), entry(None, &["10.0.0.1-10.0.0.2"])),
        ("b".into(), entry(None, &["10.0.0.9"])),
    ]);
    let free = free(&total, &entries, &set(&["10.0.0.3"]));
    assert_eq!(text(&free), ["10.0.0.5-10.0.0.8", "10.0.0.10"]);
    assert_eq!(text(&free.first_n(2)), ["10.0.0.5-10.0.0.6"]);
    assert_eq!(allocated(&entries), 3);
    assert_eq!(text(&taken(&entries, Some("a"))), ["10.0.0.9"]);
    assert_eq!(status_count(u128::MAX), i64::MAX);
}

#[test]
fn what_has_the_wanted_size_is_left_alone() {
    let facts = rack7();
    let plan = plan(&facts);
    assert_eq!(only(&plan), &Verdict::Nothing);
    assert_eq!(plan.entries, facts.entries);
    assert_eq!((facts.total.count(), allocated(&plan.entries)), (30, 5));
}

#[test]
fn growth_takes_the_lowest_free_address_that_is_not_reserved() {
    let mut facts = rack7();
    facts.wants[0].size = 4;
    let plan = plan(&facts);
    assert_eq!(
        text(&plan.entries[NAME].ranges),
        ["10.77.1.10-10.77.1.12", "10.77.1.15"]
    );
    let ranges = plan.entries[NAME].ranges.clone();
    assert_eq!(only(&plan), &Verdict::Grow { ranges, short: 0 });
}

#[test]
fn a_shrink_removes_the_highest_free_addresses_and_waits_for_the_rest() {
    let shrink = |size| {
        let mut facts = rack7();
        facts.pools[0] = pool(
            NAME,
            Some(SHOP),
            &["10.77.1.10-10.77.1.15"],
            &["10.77.1.12", "10.77.1.15"],
        );
        facts
            .entries
            .insert(NAME.into(), entry(Some(SHOP), &["10.77.1.10-10.77.1.15"]));
        facts.wants = vec![want(SHOP, NAME, size)];
        plan(&facts)
    };
    let kept = |texts: &[&str], pending| Verdict::Shrink {
        ranges: set(texts),
        pending,
    };
    let plan = shrink(3);
    assert_eq!(only(&plan), &kept(&["10.77.1.10", "10.77.1.12", "10.77.1.15"], 0));
    // The accounting keeps all until the pool was seen without them.
    assert_eq!(text(&plan.entries[NAME].ranges), ["10.77.1.10-10.77.1.15"]);
    assert_eq!(only(&shrink(1)), &kept(&["10.77.1.12", "10.77.1.15"], 1));
    let mut facts = rack7();
    facts.pools[0].used = facts.pools[0].ranges.clone();
    facts.wants[0].size = 2;
    let in_use = Verdict::Blocked(Blocked::InUse { pending: 1 });
    assert_eq!(only(&spiderpool_ipam::autopool::plan(&facts)), &in_use);
}

#[test]
fn entries_follow_the_pools() {
    let mut facts = rack7();
    // The pool of a deleted application stays accounted while it exists; what has no pool goes.
    facts.wants.clear();
    facts.entries.insert(
        "gone".into(),
        entry(Some("apps_v1_Deployment_retail_old"), &["10.77.1.16"]),
    );
    facts.entries.insert("user-gone".into(), entry(None, &["10.77.1.17"]));
    facts.entries.remove("db-static");
    let plan = plan(&facts);
    assert_eq!(plan.entries, rack7().entries);
    assert_eq!(plan.dropped, ["gone".into(), "user-gone".into()].into());
    assert_eq!(plan.released.keys().collect::<Vec<_>>(), ["gone", "user-gone"]);
}

#[test]
fn a_reservation_without_a_pool_is_used_again_whoever_comes_first() {
    let mut facts = rack7();
    facts
        .entries
        .insert("b".into(), entry(Some("B"), &["10.77.1.15-10.77.1.16"]));
    facts.wants = vec![want("A", "a", 2), want("B", "b", 2)];
    let plan = plan(&facts);
    assert_eq!(plan.verdicts["b"], Verdict::Create(set(&["10.77.1.15-10.77.1.16"])));
    assert_eq!(plan.verdicts["a"], Verdict::Create(set(&["10.77.1.17-10.77.1.18"])));
    assert_eq!(plan.released.len(), 0);
}

#[test]
fn first_come_first_served() {
    let mut facts = rack7();
    facts.wants = vec![
        want("A", "a", 20),
        want("B", "b", 4),
        want("C", "c", 3),
        want("D", "d", 0),
    ];
    let plan = plan(&facts);
    assert!(matches!(&plan.verdicts["a"], Verdict::Create(ranges) if ranges.count() == 20));
    assert_eq!(
        plan.verdicts["b"],
        Verdict::Blocked(Blocked::Exhausted { wanted: 4, free: 2 })
    );
    assert_eq!(
        plan.verdicts["c"],
        Verdict::Blocked(Blocked::Exhausted { wanted: 3, free: 2 })
    );
    assert_eq!(plan.verdicts["d"], Verdict::Create(RangeSet::new()));
}

#[test]
fn what_is_kept_for_who_waited_longer_is_not_given_to_others() {
    let mut facts = rack7();
    facts.wants = vec![
        want("A", "a", 20),
        want("B", "b", 4),
        want("C", "c", 2),
        want("D", "d", 0),
    ];
    facts.kept_for = ["a", "b"].map(str::to_owned).into();
    let plan = plan(&facts);
    assert!(matches!(&plan.verdicts["a"], Verdict::Create(_)));
    assert_eq!(
        plan.verdicts["b"],
        Verdict::Blocked(Blocked::Exhausted { wanted: 4, free: 2 })
    );
    let behind = Blocked::Behind { pool: "b".to_owned() };
    assert_eq!(plan.verdicts["c"], Verdict::Blocked(behind));
    assert_eq!(plan.verdicts["d"], Verdict::Create(RangeSet::new()));
}

#[test]
fn what_is_being_deleted_or_belongs_to_others_is_not_touched() {
    let mut facts = rack7();
    facts.pools[0].terminating = true;
    facts.wants[0].size = 5;
    assert_eq!(only(&plan(&facts)), &Verdict::Blocked(Blocked::PoolTerminating));
    for name in [NAME, "db-static"] {
        facts = rack7();
        facts.wants = vec![want("apps_v1_Deployment_other_shop", name, 5)];
        assert_eq!(plan(&facts).verdicts[name], Verdict::Blocked(Blocked::NameTaken));
        assert_eq!(plan(&facts).entries, facts.entries);
    }
    facts = rack7();
    facts.terminating = true;
    assert_eq!(only(&plan(&facts)), &Verdict::Nothing);
    facts.wants = vec![want(SHOP, NAME, 4), want("N", "new", 1)];
    for verdict in plan(&facts).verdicts.values() {
        assert_eq!(verdict, &Verdict::Blocked(Blocked::SubnetTerminating));
    }
}

#[test]
fn a_subnet_that_must_not_be_used_gives_nothing_and_takes_nothing_away() {
    let mut facts = rack7();
    facts.unusable = true;
    assert_eq!(only(&plan(&facts)), &Verdict::Nothing);
    assert_eq!(plan(&facts).entries, facts.entries);
    facts.wants = vec![want(SHOP, NAME, 4), want("N", "new", 0)];
    for verdict in plan(&facts).verdicts.values() {
        assert_eq!(verdict, &Verdict::Blocked(Blocked::SubnetUnusable));
    }
    facts.wants = vec![want(SHOP, NAME, 1)];
    assert!(matches!(
        only(&plan(&facts)),
        Verdict::Shrink { .. } | Verdict::Blocked(Blocked::InUse { .. })
    ));
    let new = want("N", "new", 1);
    assert_eq!(
        spiderpool_ipam::autopool::room(&facts, &new),
        Err(Blocked::SubnetUnusable)
    );
}

#[test]
fn what_an_old_observation_would_give_away_is_named() {
    // The pool was made with two addresses, but it was not observed yet, and by now one address is enough.
    let mut facts = rack7();
    facts.pools.clear();
    facts.wants = vec![want(SHOP, NAME, 1), want("N", "new", 1)];
    let plan = plan(&facts);
    assert_eq!(text(&plan.released[NAME]), ["10.77.1.11-10.77.1.12"]);
    // A pool that was observed with an address which meanwhile was accounted to another.
    let mut facts = rack7();
    facts.entries.insert("b".into(), entry(Some("B"), &["10.77.1.12"]));
    facts
        .entries
        .insert(NAME.into(), entry(Some(SHOP), &["10.77.1.10-10.77.1.11"]));
    facts.wants[0].size = 4;
    let plan = spiderpool_ipam::autopool::plan(&facts);
    assert_eq!(
        text(&plan.entries[NAME].ranges),
        ["10.77.1.10-10.77.1.11", "10.77.1.15"]
    );
}
