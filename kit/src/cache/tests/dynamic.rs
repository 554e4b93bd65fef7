//! Kinds known only at run time, and the options that matter to them.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

use super::*;

fn clone_sets() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("apps.kruise.io", "v1alpha1", "CloneSet"))
}

fn clone_set(name: &str, uid: &str, revision: u64, replicas: u64) -> Value {
    json!({ "apiVersion": "apps.kruise.io/v1alpha1", "kind": "CloneSet",
            "metadata": { "namespace": "ns", "name": name, "uid": uid, "resourceVersion": revision.to_string(),
                          "labels": { "app": name } },
            "spec": { "replicas": replicas, "template": { "spec": "large" } } })
}

fn clone_set_list(revision: u64, items: &[Value]) -> Value {
    json!({ "kind": "CloneSetList", "apiVersion": "apps.kruise.io/v1alpha1",
            "metadata": { "resourceVersion": revision.to_string() }, "items": items })
}

fn by_replicas(object: &DynamicObject) -> Vec<String> {
    vec![
        object.data["spec"]["replicas"].to_string(),
        object.data["spec"]["template"].to_string(),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_kind_known_at_run_time_is_held_trimmed_and_indexed_until_it_is_stopped() {
    let dropped = "template".to_owned();
    let options = Options::default()
        .trim(move |object: &mut DynamicObject| object.data["spec"][&dropped] = Value::Null)
        .index(by_replicas)
        .page(20)
        .watch_timeout(Duration::from_secs(60));
    let stop = CancellationToken::new();
    let mut server =
        Server::serve(|process, client| Cache::start_dynamic(process, client, clone_sets(), options, stop.clone()));
    let mut changes = server.cache.subscribe();
    server.reply(Reply::Json(clone_set_list(7, &[clone_set("a", "u", 5, 3)])));
    let events = server.watch();
    server.cache.synced(soon()).await.unwrap();
    assert_eq!(server.cache.kind(), "CloneSet");
    assert_eq!(server.cache.indexed("3").len(), 1);
    assert!(server.cache.indexed("{\"spec\":\"large\"}").is_empty());
    let asked = server.asked().await;
    assert!(
        asked.starts_with("/apis/apps.kruise.io/v1alpha1/clonesets?") && asked.contains("limit=20"),
        "{asked}"
    );
    assert!(server.asked().await.contains("timeoutSeconds=60"));

    events.send(event("MODIFIED", &clone_set("a", "u", 8, 4))).unwrap();
    for _ in 0..2 {
        assert!(matches!(
            changes.next().await,
            Some(Change::Applied { .. } | Change::Resynced)
        ));
    }
    assert!(matches!(
        changes.next().await,
        Some(Change::Applied { old: Some(_), .. })
    ));
    assert_eq!(
        (server.cache.indexed("3").len(), server.cache.indexed("4").len()),
        (0, 1)
    );

    stop.cancel();
    assert!(changes.next().await.is_none());
    events.closed().await;
    assert!(!server.process.is_stopping(), "only this watch was to end");
    assert_eq!(server.cache.list().len(), 1);
    server.process.finish(DEADLINE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_learnt_is_in_the_index_at_once() {
    let cache = Cache::detached_dynamic(clone_sets(), Options::default().index(by_replicas));
    let object = |revision, replicas| serde_json::from_value(clone_set("a", "u", revision, replicas)).unwrap();
    cache.learn(object(3, 1));
    cache.learn(object(4, 2));
    assert_eq!((cache.indexed("1").len(), cache.indexed("2").len()), (0, 1));
    cache.forget(&object(4, 2));
    assert_eq!(cache.read(|store| store.index_keys().count()), 0);
}

#[tokio::test(start_paused = true)]
async fn the_watch_of_a_dynamic_kind_ends_with_the_process() {
    let server = Server::serve(|process, client| {
        Cache::start_dynamic(
            process,
            client,
            clone_sets(),
            Options::default(),
            CancellationToken::new(),
        )
    });
    let mut changes = server.cache.subscribe();
    server.process.finish(DEADLINE).await.unwrap();
    assert!(changes.next().await.is_none());
}
