//! Which level decides, and every pool that it asks for judged once.

use proptest::prelude::*;
use spiderpool_ipam::candidates::{
    Asked, BadPattern, Level, Pattern, PodFacts, PodRule, PoolFacts, Rejection, Room, Selector, Unasked, Verdicts,
    check, deciding, is_pattern, verdicts,
};
use spiderpool_ipam::{Cidr, Family};
use std::collections::BTreeSet;

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn asked(level: Level, ipv4: &[&str], ipv6: &[&str]) -> Asked {
    Asked::new(level, names(ipv4), names(ipv6), false)
}

fn pool(name: &str) -> PoolFacts {
    let subnet = if name.ends_with("-v6") {
        "fd77::/64"
    } else {
        "10.77.0.0/20"
    };
    PoolFacts {
        name: name.to_owned(),
        subnet: Cidr::parse(subnet).ok(),
        ready: true,
        ..PoolFacts::default()
    }
}

fn told(verdicts: &Verdicts) -> (Vec<&str>, Vec<String>) {
    let chosen = verdicts.chosen.iter().map(String::as_str).collect();
    let rejected = verdicts.rejected.iter();
    let rejected = rejected.map(|verdict| format!("{} {}", verdict.rejection.head(), verdict.pool));
    (chosen, rejected.collect())
}

#[test]
fn the_strongest_level_that_is_present_decides() {
    let levels = [
        asked(Level::Subnets, &["lan"], &[]),
        asked(Level::IPPools, &["a"], &[]),
        asked(Level::IPPool, &["b"], &[]),
        asked(Level::Namespace, &["c"], &[]),
        asked(Level::Network, &["d"], &[]),
        Asked::defaults(Family::ALL, false),
    ];
    for from in 0..levels.len() {
        let mut present = levels[from..].to_vec();
        present.reverse();
        // A level without names is not there.
        present.push(asked(Level::Subnets, &[], &[]));
        assert_eq!(deciding(present, &Family::ALL).unwrap(), levels[from]);
    }
    assert_eq!(deciding(Vec::new(), &Family::ALL), Err(Unasked::NoLevel));
    assert_eq!(
        deciding([Asked::defaults([], false)], &Family::ALL),
        Err(Unasked::NoLevel)
    );
}

#[test]
fn families_that_are_switched_off_are_dropped_and_never_replaced_by_another_level() {
    let both = asked(Level::IPPool, &["a"], &["b"]);
    let only = deciding([both, Asked::defaults(Family::ALL, false)], &[Family::V6]).unwrap();
    assert_eq!(only, asked(Level::IPPool, &[], &["b"]));
    let v4 = asked(Level::IPPool, &["a"], &[]);
    let refused = deciding([v4, Asked::defaults(Family::ALL, false)], &[Family::V6]);
    assert_eq!(refused, Err(Unasked::Families(Level::IPPool)));
}

#[test]
fn names_and_patterns_keep_their_places_and_no_pool_is_tried_twice() {
    let pools = ["z", "spare-b", "spare-a", "spare-c-v6", "a"].map(pool);
    let wish = asked(
        Level::Network,
        &["spare-c-v6", "spare-?*", "absent", "z", "[a-z]", "none-*", "x["],
        &[],
    );
    let verdicts = verdicts(&wish, Family::V4, &PodFacts::default(), &pools);
    let expected = [
        "WrongVersion spare-c-v6",
        "NotFound absent",
        "NotFound none-*",
        "NotFound x[",
    ];
    assert_eq!(
        told(&verdicts),
        (
            vec!["spare-a", "spare-b", "z", "a"],
            expected.map(str::to_owned).to_vec()
        )
    );
    let lines: Vec<String> = verdicts.rejected.iter().map(|verdict| verdict.line()).collect();
    assert_eq!(lines[1], "NotFound: IPPool absent does not exist");
    assert_eq!(
        lines[2],
        "NotFound: no IPPool of this IP version has a name that matches \"none-*\""
    );
}

#[test]
fn a_pattern_that_cannot_be_read_says_so() {
    let verdicts = verdicts(
        &asked(Level::IPPool, &["a*["], &[]),
        Family::V4,
        &PodFacts::default(),
        &[pool("a")],
    );
    assert_eq!(
        verdicts.rejected[0].line(),
        "WrongPattern: \"a*[\" is neither a name nor a pattern of names: a bracket is not closed"
    );
}

#[test]
fn default_pools_are_those_of_the_family_by_name() {
    let default = |name| PoolFacts {
        default: true,
        ..pool(name)
    };
    let mut full = default("c");
    full.room = Room::None(Rejection::Exhausted {
        used: 3,
        total: 3,
        held: 0,
    });
    let pools = [default("b"), full, default("a"), default("a-v6"), pool("d")];
    let wish = Asked::defaults(Family::ALL, false);
    let v4 = verdicts(&wish, Family::V4, &PodFacts::default(), &pools);
    assert_eq!(told(&v4), (vec!["a", "b"], vec!["PoolExhausted 3/3 c".to_owned()]));
    let v6 = verdicts(&wish, Family::V6, &PodFacts::default(), &pools);
    assert_eq!(told(&v6), (vec!["a-v6"], Vec::new()));
}

#[test]
fn the_pools_of_an_application_keep_the_order_they_are_given_in() {
    let mut narrow = pool("b");
    narrow.namespaces = Some(Selector::default());
    let pools = [pool("c"), narrow, pool("a")];
    let pod = PodFacts {
        namespace_labels: Some(Default::default()),
        ..PodFacts::default()
    };
    let verdicts = verdicts(&asked(Level::Subnets, &["lan"], &[]), Family::V4, &pod, &pools);
    assert_eq!(verdicts.chosen, ["c", "b", "a"]);
}

#[test]
fn who_looks_pools_up_knows_whether_names_are_enough() {
    let plain = asked(Level::IPPool, &["b", "a"], &["c"]);
    let found: Vec<&String> = plain.plain_names().unwrap().collect();
    assert_eq!(found, ["b", "a", "c"]);
    assert!(plain.concerned()("a", false) && !plain.concerned()("d", true));
    let pattern = asked(Level::IPPool, &["b*"], &[]);
    assert!(pattern.plain_names().is_none());
    assert!(pattern.concerned()("bank", false) && !pattern.concerned()("a", false));
    assert!(Asked::defaults(Family::ALL, false).plain_names().is_none());
    assert!(
        Asked::defaults(Family::ALL, false).concerned()("a", true)
            && !Asked::defaults(Family::ALL, false).concerned()("a", false)
    );
}

/// What a pattern means, written as plainly as possible and with no regard to time.
fn naive(pattern: &[char], name: &[char]) -> bool {
    let Some((&first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    let one = |rest: &[char]| naive(rest, &name[1..]);
    match first {
        '*' => (0..=name.len()).any(|taken| naive(rest, &name[taken..])),
        _ if name.is_empty() => false,
        '?' => one(rest),
        '\\' => rest[0] == name[0] && one(&rest[1..]),
        '[' => {
            let Some(end) = rest.iter().position(|c| *c == ']') else {
                return false;
            };
            let (negated, members) = match rest[..end].split_first() {
                Some(('^', members)) => (true, members),
                _ => (false, &rest[..end]),
            };
            let mut members = members.to_vec();
            let mut within = false;
            while !members.is_empty() {
                let first = members.remove(0);
                let mut last = first;
                if members.first() == Some(&'-') {
                    last = members[1];
                    members.drain(..2);
                }
                within |= first <= name[0] && name[0] <= last;
            }
            within != negated && one(&rest[end + 1..])
        }
        c => c == name[0] && one(rest),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    Pattern::parse(pattern).is_ok_and(|pattern| pattern.matches(name))
}

#[test]
fn patterns_match_as_file_names_do() {
    for (pattern, yes, no) in [
        ("rack7-*", &["rack7-", "rack7-v4"][..], &["rack7", "rack8-v4"][..]),
        (
            "spare-?-v4",
            &["spare-1-v4", "spare-ä-v4"],
            &["spare--v4", "spare-12-v4"],
        ),
        ("r[0-3a]", &["r0", "r3", "ra"], &["r4", "r", "r[", "rb"]),
        ("r[^0-3]", &["r4", "ra"], &["r0", "r"]),
        ("*a*b", &["ab", "xaxbxb"], &["abx", "ba"]),
        ("\\*", &["*"], &["a", ""]),
        ("**", &["", "a"], &[]),
        ("[a]]", &["a]"], &["a", "]"]),
    ] {
        for name in yes {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for name in no {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
    for text in ["[", "[]", "[]a]", "[a", "[^]", "[a-]", "[-a]", "[a-", "a\\", "[\\"] {
        let BadPattern { text: quoted, .. } = Pattern::parse(text).unwrap_err();
        assert_eq!(quoted, text);
    }
}

#[test]
fn a_name_is_a_pattern_if_it_has_a_wildcard() {
    for (name, pattern) in [
        ("a", false),
        ("a*", true),
        ("?", true),
        ("[a]", true),
        ("a[", false),
        ("a]", false),
    ] {
        assert_eq!(is_pattern(name), pattern, "{name}");
    }
}

fn pattern_text() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        4 => "[abc-]",
        2 => Just("*".to_owned()),
        1 => Just("?".to_owned()),
        1 => "\\[\\^?[abc]{1,2}\\]",
        1 => "\\[\\^?[ab]-[bc]\\]",
        1 => "\\\\[abc*?\\[]",
    ];
    prop::collection::vec(token, 0..8).prop_map(|tokens| tokens.concat())
}

/// What is judged of a generated pool.
fn any_pool(name: String) -> impl Strategy<Value = PoolFacts> {
    let rule = prop_oneof![
        2 => Just(PodRule::Any),
        1 => Just(PodRule::Labels(Selector::default())),
        1 => Just(PodRule::Application("other".to_owned())),
    ];
    let room = prop_oneof![
        3 => Just(Room::Unknown),
        1 => Just(Room::None(Rejection::RecordLimit { records: 1 })),
    ];
    let flags = prop::collection::vec(prop::bool::weighted(0.2), 6);
    (flags, rule, room, 0..3_u8).prop_map(move |(flags, pods, room, family)| PoolFacts {
        name: name.clone(),
        subnet: match family {
            0 => None,
            1 => Cidr::parse("fd77::/64").ok(),
            _ => Cidr::parse("10.77.0.0/20").ok(),
        },
        terminating: flags[0],
        disabled: flags[1],
        ready: !flags[2],
        default: !flags[3],
        node_names: if flags[4] { vec!["n".to_owned()] } else { Vec::new() },
        namespaces: flags[5].then(Selector::default),
        pods,
        room,
        ..PoolFacts::default()
    })
}

fn world() -> impl Strategy<Value = (Vec<PoolFacts>, Vec<String>, Level)> {
    let pools = ["aa", "ab", "ba", "bb", "c", "ca"].map(|name| any_pool(name.to_owned()));
    let name = prop_oneof![2 => "[abc]{1,2}", 1 => pattern_text().prop_filter("empty", |text| !text.is_empty())];
    let level = prop_oneof![Just(Level::Subnets), Just(Level::IPPool), Just(Level::Default)];
    (
        pools.prop_map(Vec::from).prop_shuffle(),
        prop::collection::vec(name, 1..6),
        level,
    )
}

proptest! {
    #[test]
    fn patterns_agree_with_the_naive_matcher(pattern in pattern_text(), name in "[abc*-]{0,8}") {
        prop_assert!(Pattern::parse(&pattern).is_ok());
        let chars = |text: &str| text.chars().collect::<Vec<char>>();
        prop_assert_eq!(matches(&pattern, &name), naive(&chars(&pattern), &chars(&name)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ab\\[\\]^*?\\\\-]{0,10}", name in "[ab\\]-]{0,6}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            let chars = |text: &str| text.chars().collect::<Vec<char>>();
            // The naive matcher does not know escapes within brackets.
            if !(text.contains('[') && text.contains('\\')) {
                prop_assert_eq!(pattern.matches(&name), naive(&chars(&text), &chars(&name)));
            }
        }
    }

    #[test]
    fn every_pool_that_is_asked_for_is_chosen_or_rejected_once((pools, names, level) in world()) {
        let asked = match level {
            Level::Default => Asked::defaults(Family::ALL, false),
            level => Asked::new(level, names.clone(), Vec::new(), false),
        };
        let pod = PodFacts { node: "m".to_owned(), ..PodFacts::default() };
        let found = verdicts(&asked, Family::V4, &pod, &pools);
        let mut judged: Vec<&str> = found.chosen.iter().map(String::as_str).collect();
        judged.extend(found.rejected.iter().map(|verdict| verdict.pool.as_str()));
        let once: BTreeSet<&str> = judged.iter().copied().collect();
        prop_assert_eq!(once.len(), judged.len());
        // A family that cannot be told is anybody's where no name was written.
        let fits = |pool: &&PoolFacts| pool.family() == Some(Family::V4);
        let may_fit = |pool: &&PoolFacts| pool.family() != Some(Family::V6);
        let expected: BTreeSet<&str> = match level {
            Level::Subnets => pools.iter().map(|pool| pool.name.as_str()).collect(),
            Level::Default => pools.iter().filter(may_fit).filter(|pool| pool.default).map(|pool| pool.name.as_str()).collect(),
            _ => names.iter().flat_map(|name| {
                let found: Vec<&str> = match Pattern::parse(name).ok().filter(|_| is_pattern(name)) {
                    Some(pattern) => {
                        let matching = pools.iter().filter(fits).filter(|pool| pattern.matches(&pool.name));
                        matching.map(|pool| pool.name.as_str()).collect()
                    }
                    None => Vec::new(),
                };
                if found.is_empty() { vec![name.as_str()] } else { found }
            }).collect(),
        };
        prop_assert_eq!(once, expected);
        for name in &found.chosen {
            let pool = pools.iter().find(|pool| pool.name == *name).unwrap();
            prop_assert_eq!(check(pool, Family::V4, &pod), Ok(()));
        }
    }

    #[test]
    fn the_order_depends_on_the_users_list_and_not_on_the_order_of_the_cache((pools, names, _) in world()) {
        let asked = Asked::new(Level::IPPool, names, Vec::new(), false);
        let pod = PodFacts { node: "n".to_owned(), ..PodFacts::default() };
        let found = verdicts(&asked, Family::V4, &pod, &pools);
        let mut turned = pools.clone();
        turned.reverse();
        prop_assert_eq!(&found, &verdicts(&asked, Family::V4, &pod, &turned));
        // Without what makes pools narrow, the list alone decides, and narrowness only moves pools up in it.
        let wide: Vec<PoolFacts> = pools.iter().map(|pool| PoolFacts {
            pods: PodRule::Any, node_names: Vec::new(), namespaces: None, ..pool.clone()
        }).collect();
        let listed = verdicts(&asked, Family::V4, &pod, &wide).chosen;
        let key = |name: &String| {
            let pool = pools.iter().find(|pool| pool.name == *name).unwrap();
            let place = listed.iter().position(|other| other == name);
            (pool.pods == PodRule::Any, pool.node_names.is_empty(), pool.namespaces.is_none(), place)
        };
        let keys: Vec<_> = found.chosen.iter().map(key).collect();
        prop_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", keys);
    }
}
