//! The index against the naive model: ask every object anew.

use std::collections::BTreeSet;

use super::*;

/// Keys that change with each version, one that does not, and one named twice.
fn keys(object: &ConfigMap) -> Vec<String> {
    let meta = &object.metadata;
    let part = format!("revision {}", revision(meta) % 3);
    vec![part.clone(), format!("uid {}", uid(meta)), part]
}

fn indexed(store: &Store<ConfigMap>) -> BTreeMap<String, BTreeSet<(String, u64)>> {
    let shown = |object: &Arc<ConfigMap>| (object.metadata.name.clone().unwrap(), revision(&object.metadata));
    store
        .index_keys()
        .map(|key| (key.to_owned(), store.indexed(key).map(shown).collect()))
        .collect()
}

fn naive(store: &Store<ConfigMap>) -> BTreeMap<String, BTreeSet<(String, u64)>> {
    let mut all = BTreeMap::<String, BTreeSet<_>>::new();
    for object in store.iter() {
        for key in keys(object) {
            let shown = (object.metadata.name.clone().unwrap(), revision(&object.metadata));
            all.entry(key).or_default().insert(shown);
        }
    }
    all
}

#[derive(Debug, Clone)]
enum Step {
    Applied(&'static str, &'static str, u64),
    Malformed(&'static str, &'static str, u64),
    Deleted(&'static str, &'static str, u64),
    Learn(&'static str, &'static str, u64),
    Forget(&'static str, &'static str, u64),
    List(u64, Vec<(&'static str, &'static str, u64, bool)>),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let uid = || prop::sample::select(vec!["u", "v"]);
    let one = || (name(), uid(), 0u64..40);
    let listed = (name(), uid(), 0u64..40, any::<bool>());
    prop_oneof![
        one().prop_map(|(name, uid, at)| Step::Applied(name, uid, at)),
        one().prop_map(|(name, uid, at)| Step::Malformed(name, uid, at)),
        one().prop_map(|(name, uid, at)| Step::Deleted(name, uid, at)),
        one().prop_map(|(name, uid, at)| Step::Learn(name, uid, at)),
        one().prop_map(|(name, uid, at)| Step::Forget(name, uid, at)),
        (0u64..40, prop::collection::vec(listed, 0..4)).prop_map(|(at, items)| Step::List(at, items)),
    ]
}

proptest! {
    #[test]
    fn the_index_has_what_the_store_has(steps in prop::collection::vec(step(), 0..40)) {
        let mut store = Store::indexed_by(Some(Arc::new(keys)));
        for step in steps {
            match step {
                Step::Applied(name, uid, at) => store.applied(Ok(object(name, uid, at))),
                Step::Malformed(name, uid, at) => store.applied(bad(name, uid, at)),
                Step::Deleted(name, uid, at) => store.deleted(&object(name, uid, at).metadata),
                Step::Learn(name, uid, at) => store.learn(object(name, uid, at)),
                Step::Forget(name, uid, at) => store.forget(&object(name, uid, at).metadata),
                Step::List(at, items) => {
                    let start = store.begin_list();
                    let item = |(name, uid, at, good)| if good { Ok(object(name, uid, at)) } else { bad(name, uid, at) };
                    let rewound = store.older(start, at, &[]).is_some();
                    store.finish_list(start, at, items.into_iter().map(item).collect(), rewound)
                }
            };
            prop_assert_eq!(indexed(&store), naive(&store));
        }
    }
}

#[test]
fn our_own_write_is_found_under_its_new_keys_only() {
    let mut store = Store::indexed_by(Some(Arc::new(keys)));
    store.learn(object("a", "u", 4));
    store.learn(object("a", "u", 5));
    assert_eq!(store.indexed("revision 1").count(), 0);
    assert_eq!(store.indexed("revision 2").count(), 1);
    store.forget(&object("a", "u", 5).metadata);
    assert_eq!(store.index_keys().count(), 0);
}

#[test]
fn what_cannot_be_read_is_in_no_index() {
    let mut store = Store::indexed_by(Some(Arc::new(keys)));
    store.applied(Ok(object("a", "u", 4)));
    store.applied(bad("a", "u", 5));
    assert_eq!(store.index_keys().count(), 0);
    store.applied(Ok(object("a", "u", 6)));
    assert_eq!(store.indexed("uid u").count(), 1);
}

#[test]
fn without_an_index_nothing_is_found() {
    let store = listed(&[("a", "u", 5)], 7);
    assert_eq!((store.indexed("uid u").count(), store.index_keys().count()), (0, 0));
}

#[test]
fn keys_are_found_by_their_beginning() {
    let mut store = Store::indexed_by(Some(Arc::new(keys)));
    for (name, uid, at) in [("a", "u", 4), ("b", "v", 5), ("c", "w", 6)] {
        store.learn(object(name, uid, at));
    }
    let from = |beginning: &str| store.index_keys_from(beginning).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(from("uid "), ["uid u", "uid v", "uid w"]);
    assert_eq!(from("uid v"), ["uid v"]);
    assert_eq!(from("").len(), store.index_keys().count());
    assert!(from("uid x").is_empty());
}
