//! An API server that is there and says no.

use super::*;

#[tokio::test(start_paused = true)]
async fn missing_rights_are_told_at_once_and_so_is_their_return() {
    let server = Server::start(Options::default());
    let mut health = server.cache.health_changes();
    server.reply(Reply::Status(403));
    health.changed().await.unwrap();
    let outage = health.borrow_and_update().clone().unwrap();
    assert_eq!(outage.refused, Some(403));
    assert!(outage.to_string().contains("the API server refuses"), "{outage}");
    assert!(!server.cache.is_synced());

    server.reply(Reply::Json(list(7, &[])));
    let _events = server.watch();
    health.changed().await.unwrap();
    assert!(health.borrow_and_update().is_none());
}

#[tokio::test(start_paused = true)]
async fn rights_withdrawn_under_a_watch_show_when_it_is_opened_again() {
    let mut server = Server::start(Options::default().watch_timeout(Duration::from_secs(60)));
    server.reply(Reply::Json(list(7, &[map("a", "u", 5)])));
    let events = server.watch();
    server.cache.synced(soon()).await.unwrap();
    let mut health = server.cache.health_changes();
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(events);
    server.reply(Reply::Status(403));
    health.changed().await.unwrap();
    assert_eq!(server.cache.outage().unwrap().refused, Some(403));
    assert!(server.cache.get("ns", "a").is_some(), "what was known stays readable");

    let _events = server.watch();
    health.changed().await.unwrap();
    assert!(server.cache.is_healthy());
    let mut last = String::new();
    while let Ok(asked) = server.asked.try_recv() {
        last = asked;
    }
    assert!(
        last.contains("resourceVersion=7"),
        "rights do not age a position: {last}"
    );
}

#[tokio::test(start_paused = true)]
async fn another_reason_for_an_outage_is_news_but_another_attempt_is_not() {
    let mut server = Server::start(Options::default());
    let mut health = server.cache.health_changes();
    server.asked().await;
    for (reply, refused, news) in [
        (Reply::Refuse, None, true),
        (Reply::Refuse, None, false),
        (Reply::Status(404), Some(404), true),
        (Reply::Status(404), Some(404), false),
        (Reply::Status(403), Some(403), true),
        (Reply::Status(500), None, true),
        (Reply::Status(429), None, false),
    ] {
        server.reply(reply);
        // The next request comes after the answer to this one was taken in.
        server.asked().await;
        assert_eq!(server.cache.outage().unwrap().refused, refused);
        assert_eq!(health.has_changed().unwrap(), news, "{refused:?}");
        health.mark_unchanged();
    }
}

/// How long the pauses between attempts become when all are answered alike.
async fn longest_pause(reply: fn() -> Reply) -> Duration {
    let mut server = Server::start(Options::default());
    let (mut longest, mut before) = (Duration::ZERO, Instant::now());
    for _ in 0..40 {
        server.asked().await;
        longest = longest.max(before.elapsed());
        before = Instant::now();
        server.reply(reply());
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_asked_for_less_often_than_who_is_away() {
    let refused = Duration::from_secs(7)..=Duration::from_secs(15);
    let away = Duration::from_secs(1)..=Duration::from_secs(3);
    for (reply, within) in [
        ((|| Reply::Status(403)) as fn() -> Reply, &refused),
        (|| Reply::Status(404), &refused),
        (|| Reply::Status(401), &away),
        (|| Reply::Status(500), &away),
        (|| Reply::Refuse, &away),
    ] {
        let longest = longest_pause(reply).await;
        // The clock of a test moves in whole milliseconds.
        assert!(
            within.contains(&longest.saturating_sub(Duration::from_millis(2))),
            "{longest:?}"
        );
    }
}
