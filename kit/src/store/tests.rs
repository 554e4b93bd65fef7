use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use proptest::prelude::*;

use super::*;

mod index;

fn object(name: &str, uid: &str, revision: u64) -> ConfigMap {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("ns".to_owned()),
        uid: Some(uid.to_owned()),
        resource_version: Some(revision.to_string()),
        ..ObjectMeta::default()
    };
    ConfigMap {
        metadata,
        ..ConfigMap::default()
    }
}

fn bad(name: &str, uid: &str, revision: u64) -> Decoded<ConfigMap> {
    let metadata = object(name, uid, revision).metadata;
    Err(Box::new(Malformed {
        key: Key::of_meta(&metadata),
        metadata,
        error: "no".to_owned(),
    }))
}

/// `+name/uid@rev` for an addition, `~` for a change, `-` for a deletion, `?` for malformed, `=` for resynced.
fn told(changes: &[Change<ConfigMap>]) -> Vec<String> {
    let show = |meta: &ObjectMeta| {
        format!(
            "{}/{}@{}",
            meta.name.as_deref().unwrap(),
            uid(meta),
            meta.resource_version.as_deref().unwrap()
        )
    };
    changes
        .iter()
        .map(|change| match change {
            Change::Applied { old: None, new } => format!("+{}", show(&new.metadata)),
            Change::Applied { old: Some(_), new } => format!("~{}", show(&new.metadata)),
            Change::Deleted(object) => format!("-{}", show(&object.metadata)),
            Change::Malformed(bad) => format!("?{}", show(&bad.metadata)),
            Change::Resynced => "=".to_owned(),
        })
        .collect()
}

fn listed(objects: &[(&str, &str, u64)], at: u64) -> Store<ConfigMap> {
    let mut store = Store::new();
    let start = store.begin_list();
    store.finish_list(
        start,
        at,
        objects
            .iter()
            .map(|(name, uid, revision)| Ok(object(name, uid, *revision)))
            .collect(),
        false,
    );
    store
}

fn held(store: &Store<ConfigMap>) -> BTreeMap<String, u64> {
    store
        .iter()
        .map(|object| (object.metadata.name.clone().unwrap(), revision(&object.metadata)))
        .collect()
}

#[test]
fn events_of_a_watch_are_told_in_order() {
    let mut store = listed(&[("a", "u", 5)], 7);
    assert_eq!(told(&store.applied(Ok(object("b", "v", 8)))), ["+b/v@8"]);
    assert_eq!(told(&store.applied(Ok(object("a", "u", 9)))), ["~a/u@9"]);
    assert_eq!(told(&store.deleted(&object("b", "v", 10).metadata)), ["-b/v@8"]);
    assert_eq!(store.len(), 1);
}

#[test]
fn an_event_older_than_our_own_write_is_ignored() {
    let mut store = listed(&[("a", "u", 5)], 5);
    assert_eq!(told(&store.learn(object("a", "u", 9))), ["~a/u@9"]);
    assert!(store.applied(Ok(object("a", "u", 8))).is_empty());
    assert!(
        store.applied(Ok(object("a", "u", 9))).is_empty(),
        "the echo of our own write is no change"
    );
    assert_eq!(held(&store)["a"], 9);
}

#[test]
fn an_answer_overtaken_by_the_watch_changes_nothing() {
    let mut store = listed(&[("a", "u", 5)], 5);
    store.applied(Ok(object("a", "u", 12)));
    assert!(store.learn(object("a", "u", 9)).is_empty());
    assert_eq!(held(&store)["a"], 12);
}

#[test]
fn an_answer_overtaken_by_the_deletion_makes_no_ghost() {
    let mut store = listed(&[("a", "u", 5)], 5);
    store.applied(Ok(object("a", "u", 9)));
    store.deleted(&object("a", "u", 12).metadata);
    assert!(store.learn(object("a", "u", 9)).is_empty());
    assert!(store.is_empty());
}

#[test]
fn a_list_begun_before_our_write_does_not_drop_it() {
    let mut store = listed(&[("a", "u", 5)], 7);
    let start = store.begin_list();
    store.learn(object("new", "n", 9));
    store.learn(object("a", "u", 10));
    let changes = store.finish_list(start, 8, vec![Ok(object("a", "u", 5))], false);
    assert_eq!(told(&changes), ["="]);
    assert_eq!(
        held(&store),
        BTreeMap::from([("a".to_owned(), 10), ("new".to_owned(), 9)])
    );
}

#[test]
fn a_list_begun_after_our_write_shows_what_was_deleted_since() {
    let mut store = listed(&[], 7);
    store.learn(object("new", "n", 9));
    let start = store.begin_list();
    assert_eq!(told(&store.finish_list(start, 11, vec![], false)), ["-new/n@9", "="]);
}

#[test]
fn a_learnt_object_deleted_before_the_watch_saw_it_goes() {
    let mut store = listed(&[], 7);
    store.learn(object("a", "u", 9));
    assert!(store.applied(Ok(object("a", "u", 9))).is_empty());
    assert_eq!(told(&store.deleted(&object("a", "u", 10).metadata)), ["-a/u@9"]);
}

#[test]
fn a_late_deletion_of_a_predecessor_leaves_the_successor() {
    let mut store = listed(&[("a", "old", 5)], 5);
    assert_eq!(told(&store.learn(object("a", "new", 9))), ["-a/old@5", "+a/new@9"]);
    assert!(store.deleted(&object("a", "old", 8).metadata).is_empty());
    assert_eq!(held(&store)["a"], 9);
}

#[test]
fn a_forgotten_object_stays_away_until_the_watch_has_seen_it_go() {
    let mut store = listed(&[("a", "u", 5)], 5);
    assert_eq!(told(&store.forget(&object("a", "u", 5).metadata)), ["-a/u@5"]);
    assert!(store.applied(Ok(object("a", "u", 6))).is_empty());
    let start = store.begin_list();
    assert_eq!(
        told(&store.finish_list(start, 6, vec![Ok(object("a", "u", 6))], false)),
        ["="]
    );
    assert!(store.deleted(&object("a", "u", 7).metadata).is_empty());
    assert!(store.forgotten.is_empty());
    assert_eq!(told(&store.applied(Ok(object("a", "w", 8)))), ["+a/w@8"]);
}

#[test]
fn forgetting_what_is_gone_or_replaced_leaves_no_mark() {
    let mut store = listed(&[("a", "new", 5)], 5);
    assert!(store.forget(&object("a", "old", 3).metadata).is_empty());
    assert!(store.forget(&object("b", "u", 3).metadata).is_empty());
    assert!(store.forgotten.is_empty() && store.len() == 1);
}

#[test]
fn forgetting_is_not_undone_by_late_news_of_a_predecessor() {
    let mut store = listed(&[], 1);
    store.learn(object("a", "second", 9));
    store.forget(&object("a", "second", 9).metadata);
    assert!(store.applied(Ok(object("a", "first", 3))).is_empty());
    assert!(store.deleted(&object("a", "first", 4).metadata).is_empty());
    assert!(store.applied(Ok(object("a", "second", 9))).is_empty());
    assert!(store.deleted(&object("a", "second", 10).metadata).is_empty());
    assert!(store.is_empty() && store.forgotten.is_empty());
}

#[test]
fn a_successor_ends_the_forgetting() {
    let mut store = listed(&[("a", "u", 5)], 5);
    store.forget(&object("a", "u", 5).metadata);
    assert_eq!(told(&store.learn(object("a", "w", 9))), ["+a/w@9"]);
    assert!(store.forgotten.is_empty());
    assert!(store.deleted(&object("a", "u", 8).metadata).is_empty());
}

#[test]
fn storage_restored_from_a_backup_replaces_everything() {
    let mut store = listed(&[("a", "u", 500), ("b", "v", 600)], 700);
    let start = store.begin_list();
    assert_eq!(store.older(start, 40, &[]), Some(Older::Snapshot { known: 700 }));
    let changes = store.finish_list(start, 40, vec![Ok(object("a", "u", 20))], true);
    assert_eq!(told(&changes), ["-b/v@600", "~a/u@20", "="]);
    assert_eq!(told(&store.applied(Ok(object("c", "w", 41)))), ["+c/w@41"]);
    assert_eq!(told(&store.learn(object("d", "x", 42))), ["+d/x@42"]);
}

#[test]
fn a_restore_that_moves_the_revision_on_is_seen_by_what_became_older() {
    let mut store = listed(&[("a", "u", 500), ("b", "v", 600)], 700);
    let start = store.begin_list();
    let items = vec![Ok(object("a", "u", 500)), Ok(object("b", "v", 90))];
    assert_eq!(store.older(start, 9000, &items), Some(Older::Object));
    assert_eq!(
        told(&store.finish_list(start, 9000, items, true)),
        ["~a/u@500", "~b/v@90", "="]
    );
    // What was learnt after the list is newer than it, and another object is no older version.
    store.learn(object("b", "v", 9100));
    let start = store.begin_list();
    let newer = [Ok(object("a", "w", 20)), Ok(object("b", "v", 9100))];
    assert_eq!(store.older(start, 9100, &newer), None);
    let early = ListStart { highest: 0, ..start };
    assert_eq!(store.older(early, 9050, &[Ok(object("b", "v", 90))]), None);
}

#[test]
fn a_list_that_only_came_late_takes_nothing_away_and_brings_nothing_back() {
    let mut store = listed(&[("a", "u", 500), ("b", "v", 600)], 700);
    store.deleted(&object("b", "v", 710).metadata);
    store.applied(Ok(object("c", "w", 720)));
    let start = store.begin_list();
    let late = vec![Ok(object("a", "u", 400)), Ok(object("b", "v", 600))];
    assert_eq!(told(&store.finish_list(start, 690, late, false)), ["="]);
    assert_eq!(
        held(&store),
        BTreeMap::from([("a".to_owned(), 500), ("c".to_owned(), 720)])
    );
    // The watch goes on where the list was.
    assert!(store.deleted(&object("b", "v", 710).metadata).is_empty());
    assert!(store.applied(Ok(object("c", "w", 720))).is_empty());
    assert_eq!(told(&store.applied(Ok(object("b", "x", 730)))), ["+b/x@730"]);
}

#[test]
fn a_store_that_is_not_trusted_is_replaced_once() {
    let mut store = listed(&[("a", "u", 500), ("b", "v", 600)], 700);
    let early = store.begin_list();
    store.distrust();
    let items = vec![Ok(object("a", "u", 500)), Ok(object("b", "v", 600))];
    store.finish_list(early, 800, items, false);
    assert!(store.is_distrusted(), "that list began before");
    let start = store.begin_list();
    assert_eq!(
        told(&store.finish_list(start, 900, vec![Ok(object("b", "v", 90))], false)),
        ["-a/u@500", "~b/v@90", "="]
    );
    assert!(!store.is_distrusted() && !store.begin_list().is_distrusted());
}

#[test]
fn a_revision_that_comes_again_after_a_restore_is_another_one() {
    let mut store = listed(&[("a", "u", 500), ("b", "v", 600)], 700);
    let mut other = object("a", "u", 500);
    other.data = Some([("k".to_owned(), "v".to_owned())].into());
    let start = store.begin_list();
    store.finish_list(start, 550, vec![Ok(other.clone())], true);
    assert_eq!(store.get(&Key::new("ns", "a")).map(|held| &**held), Some(&other));
}

#[test]
fn a_malformed_version_hides_the_object_without_deleting_it() {
    let mut store = listed(&[("a", "u", 5)], 5);
    assert_eq!(told(&store.applied(bad("a", "u", 6))), ["?a/u@6"]);
    let key = Key::new("ns", "a");
    assert!(store.get(&key).is_none() && store.malformed(&key).is_some() && store.is_empty());
    assert_eq!(told(&store.applied(Ok(object("a", "u", 7)))), ["~a/u@7"]);
    store.applied(bad("a", "u", 8));
    assert_eq!(told(&store.deleted(&object("a", "u", 9).metadata)), ["-a/u@7"]);
    store.applied(bad("b", "v", 10));
    assert!(
        store.deleted(&object("b", "v", 11).metadata).is_empty(),
        "never seen, so its end is no news"
    );
}

/// A writer, its API server and a cache of ours between them, all at their own pace.
#[derive(Debug, Clone)]
enum Step {
    /// Somebody else writes or makes this name.
    Write(usize),
    /// Somebody else deletes this name.
    Delete(usize),
    /// We write; the answer arrives after this many further steps.
    OwnWrite(usize, usize),
    /// We delete; the acknowledgement arrives after this many further steps.
    OwnDelete(usize, usize),
    /// The watch delivers so many events.
    Deliver(usize),
    /// The server takes a list's snapshot; it arrives after this many further steps. The watch goes on from there.
    List(usize),
    /// The same with a snapshot of so many changes ago.
    Late(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (name, delay) = (0..3usize, 0..6usize);
    let step = prop_oneof![
        4 => name.clone().prop_map(Step::Write),
        2 => name.clone().prop_map(Step::Delete),
        4 => (name.clone(), delay.clone()).prop_map(|(name, delay)| Step::OwnWrite(name, delay)),
        2 => (name, delay.clone()).prop_map(|(name, delay)| Step::OwnDelete(name, delay)),
        4 => (1..5usize).prop_map(Step::Deliver),
        1 => delay.clone().prop_map(Step::List),
        1 => (1..9usize, delay).prop_map(|(back, delay)| Step::Late(back, delay)),
    ];
    proptest::collection::vec(step, 1..80)
}

/// The truth: what the server holds and the log its watches read from.
#[derive(Default)]
struct Server {
    revision: u64,
    uids: u64,
    objects: BTreeMap<String, ConfigMap>,
    log: Vec<(bool, ConfigMap)>,
}

impl Server {
    fn write(&mut self, name: &str) -> ConfigMap {
        self.revision += 1;
        let uid = match self.objects.get(name) {
            Some(before) => before.metadata.uid.clone().unwrap(),
            None => {
                self.uids += 1;
                self.uids.to_string()
            }
        };
        let written = object(name, &uid, self.revision);
        self.objects.insert(name.to_owned(), written.clone());
        self.log.push((true, written.clone()));
        written
    }

    fn delete(&mut self, name: &str) -> Option<ConfigMap> {
        let mut gone = self.objects.remove(name)?;
        let before = gone.clone();
        self.revision += 1;
        gone.metadata.resource_version = Some(self.revision.to_string());
        self.log.push((false, gone));
        Some(before)
    }

    /// What there was after so many changes, and the revision of that.
    fn then(&self, changes: usize) -> (u64, Vec<ConfigMap>) {
        let mut objects = BTreeMap::new();
        for (exists, object) in &self.log[..changes] {
            let name = object.metadata.name.clone().unwrap();
            if *exists {
                objects.insert(name, object.clone());
            } else {
                objects.remove(&name);
            }
        }
        let at = changes
            .checked_sub(1)
            .map_or(0, |last| revision(&self.log[last].1.metadata));
        (at, objects.into_values().collect())
    }
}

/// An answer under way.
enum Answer {
    Written(ConfigMap),
    Deleted(ConfigMap),
    Listed(ListStart, u64, Vec<ConfigMap>),
}

proptest! {
    /// However answers, events and lists overtake each other: our own acknowledged writes stay visible until something newer
    /// is, the feed describes the content exactly, and in the end the cache holds what the server holds.
    #[test]
    fn the_cache_follows_the_server(steps in steps()) {
        let (mut server, mut store) = (Server::default(), Store::new());
        let mut position = 0usize;
        let mut under_way: Vec<(usize, Answer)> = Vec::new();
        let mut mirror: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        let start = store.begin_list();
        let mut changes = store.finish_list(start, 0, vec![], false);
        let quiet = [Step::Deliver(1000), Step::Deliver(1000), Step::Deliver(1000), Step::Deliver(1000),
            Step::Deliver(1000), Step::Deliver(1000), Step::Deliver(1000)];
        for step in steps.into_iter().chain(quiet) {
            let listing = under_way.iter().any(|(_, answer)| matches!(answer, Answer::Listed(..)));
            let name = |number: usize| ["a", "b", "c"][number];
            match step {
                Step::Write(number) => { server.write(name(number)); }
                Step::Delete(number) => { server.delete(name(number)); }
                Step::OwnWrite(number, delay) => {
                    let answer = Answer::Written(server.write(name(number)));
                    under_way.push((delay, answer));
                }
                Step::OwnDelete(number, delay) => {
                    if let Some(gone) = server.delete(name(number)) {
                        under_way.push((delay, Answer::Deleted(gone)));
                    }
                }
                // A cache either lists or watches.
                Step::Deliver(count) if !listing => for _ in 0..count {
                    let Some((exists, object)) = server.log.get(position).cloned() else { break };
                    position += 1;
                    changes.extend(if exists { store.applied(Ok(object)) } else { store.deleted(&object.metadata) });
                },
                Step::List(delay) if !listing => {
                    let items = server.objects.values().cloned().collect();
                    let answer = Answer::Listed(store.begin_list(), server.revision, items);
                    position = server.log.len();
                    under_way.push((delay, answer));
                }
                Step::Late(back, delay) if !listing => {
                    position = position.min(server.log.len().saturating_sub(back));
                    let (at, items) = server.then(position);
                    under_way.push((delay, Answer::Listed(store.begin_list(), at, items)));
                }
                Step::Deliver(_) | Step::List(_) | Step::Late(..) => {}
            }
            let mut later = Vec::new();
            for (delay, answer) in under_way {
                match answer {
                    answer if delay > 0 => later.push((delay - 1, answer)),
                    Answer::Written(object) => {
                        seen.insert(object.metadata.name.clone().unwrap(), revision(&object.metadata));
                        changes.extend(store.learn(object));
                    }
                    Answer::Deleted(object) => changes.extend(store.forget(&object.metadata)),
                    Answer::Listed(start, at, items) => {
                        changes.extend(store.finish_list(start, at, items.into_iter().map(Ok).collect(), false));
                    }
                }
            }
            under_way = later;
            for change in changes.drain(..) {
                match change {
                    Change::Applied { old, new } => {
                        let name = new.metadata.name.clone().unwrap();
                        prop_assert_eq!(old.map(|old| revision(&old.metadata)), mirror.get(&name).copied());
                        mirror.insert(name, revision(&new.metadata));
                    }
                    Change::Deleted(gone) => {
                        let held = mirror.remove(gone.metadata.name.as_deref().unwrap());
                        prop_assert_eq!(held, Some(revision(&gone.metadata)));
                    }
                    Change::Malformed(_) => prop_assert!(false, "nothing here is malformed"),
                    Change::Resynced => {}
                }
            }
            prop_assert_eq!(&mirror, &held(&store));
            for (name, at) in &held(&store) {
                prop_assert!(seen.get(name).is_none_or(|acknowledged| acknowledged <= at), "lost our own write of {}", name);
            }
        }
        let truth: BTreeMap<_, _> = server.objects.iter().map(|(name, object)| (name.clone(), revision(&object.metadata))).collect();
        prop_assert_eq!(held(&store), truth);
        prop_assert!(store.forgotten.is_empty());
    }
}
