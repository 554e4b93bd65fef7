use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::*;

fn queue() -> Queue<&'static str> {
    Queue::with_jitter("test", &QueueMetrics::default(), Box::new(|| 1.0))
}

/// Is the queue empty for now?
async fn is_idle(queue: &Queue<&'static str>) -> bool {
    tokio::select! {
        biased;
        _ = queue.next() => false,
        () = tokio::task::yield_now() => true,
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_added_many_times_is_handed_out_once() {
    let queue = queue();
    for _ in 0..3 {
        queue.add("a");
    }
    queue.add("b");
    assert_eq!(queue.depth(), 2);
    assert_eq!(queue.next().await, "a");
    assert_eq!(queue.next().await, "b");
    assert!(is_idle(&queue).await);
}

#[tokio::test(start_paused = true)]
async fn a_key_added_during_the_work_runs_again_after_it() {
    let queue = queue();
    queue.add("a");
    let key = queue.next().await;
    queue.add("a");
    queue.add("a");
    assert!(is_idle(&queue).await, "handed out twice at once");
    queue.finish(&key);
    assert_eq!(queue.next().await, "a");
    queue.finish(&"a");
    assert!(is_idle(&queue).await);
}

#[tokio::test(start_paused = true)]
async fn retries_grow_up_to_the_cap_and_start_over_after_a_success() {
    let queue = queue();
    let pauses: Vec<_> = (0..15).map(|_| queue.retry("a")).collect();
    assert_eq!(pauses[..3], [5, 10, 20].map(Duration::from_millis));
    assert_eq!(pauses[14], RETRY_CAP);
    queue.succeeded(&"a");
    assert_eq!(queue.retry("a"), RETRY_BASE);
    assert!(queue.state().failures.len() == 1 && queue.state().due.len() == 1);
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_dates_counts_and_both_are_one() {
    let queue = queue();
    let start = Instant::now();
    queue.add_after("a", Duration::from_secs(9));
    queue.add_after("a", Duration::from_secs(3));
    queue.add_after("a", Duration::from_secs(5));
    assert_eq!(queue.next().await, "a");
    assert_eq!(start.elapsed().as_secs(), 3);
    queue.finish(&"a");
    tokio::time::advance(Duration::from_secs(20)).await;
    assert!(is_idle(&queue).await);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_worker_hears_of_an_earlier_date() {
    let queue = queue();
    let start = Instant::now();
    queue.add_after("late", Duration::from_secs(60));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.next().await }
    });
    tokio::task::yield_now().await;
    queue.add_after("soon", Duration::from_secs(1));
    assert_eq!(waiting.await.unwrap(), "soon");
    assert_eq!(start.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn workers_share_the_keys_and_a_panic_is_a_retry() {
    let (queue, stop) = (queue(), CancellationToken::new());
    let (done, mut told) = mpsc::channel(16);
    let panics = Arc::new(AtomicUsize::new(0));
    let running = tokio::spawn({
        let (queue, stop, panics) = (queue.clone(), stop.clone(), panics.clone());
        async move {
            let handle = move |key: &'static str| {
                let (done, panics) = (done.clone(), panics.clone());
                async move {
                    assert!(
                        key != "bad" || panics.fetch_add(1, Ordering::SeqCst) > 1,
                        "no such luck"
                    );
                    done.send(key).await.unwrap();
                    Outcome::Done
                }
            };
            queue.run(3, stop, handle).await;
        }
    });
    for key in ["bad", "a", "b", "c", "d"] {
        queue.add(key);
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(told.recv().await.unwrap());
    }
    assert_eq!(seen.pop(), Some("bad"));
    assert_eq!(panics.load(Ordering::SeqCst), 3);
    stop.cancel();
    running.await.unwrap();
    assert!(queue.state().failures.is_empty(), "success forgets the failures");
}

#[tokio::test(start_paused = true)]
async fn the_stop_lets_the_work_at_hand_end() {
    let (queue, stop) = (queue(), CancellationToken::new());
    let (entered, mut was_entered) = mpsc::channel(1);
    let ended = Arc::new(AtomicUsize::new(0));
    let running = tokio::spawn({
        let (queue, stop, ended) = (queue.clone(), stop.clone(), ended.clone());
        async move {
            let handle = move |_| {
                let (entered, ended) = (entered.clone(), ended.clone());
                async move {
                    entered.send(()).await.unwrap();
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    ended.fetch_add(1, Ordering::SeqCst);
                    Outcome::After(Duration::from_secs(1))
                }
            };
            queue.run(1, stop, handle).await;
        }
    });
    queue.add("a");
    was_entered.recv().await.unwrap();
    stop.cancel();
    running.await.unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn each_work_on_a_key_is_timed() {
    let metrics = crate::metrics::Metrics::new();
    let queue = Queue::new("pools", &QueueMetrics::register(&metrics));
    let (stop, (done, mut ended)) = (CancellationToken::new(), mpsc::unbounded_channel());
    queue.add("a");
    queue.add("b");
    let workers = tokio::spawn({
        let (queue, stop) = (queue.clone(), stop.clone());
        async move {
            let handle = move |key: &str| {
                let (pause, done) = (Duration::from_secs(if key == "a" { 2 } else { 5 }), done.clone());
                async move {
                    tokio::time::sleep(pause).await;
                    done.send(()).unwrap();
                    Outcome::Done
                }
            };
            queue.run(1, stop, handle).await;
        }
    });
    for _ in 0..2 {
        ended.recv().await.unwrap();
    }
    stop.cancel();
    workers.await.unwrap();
    let mut text = String::new();
    metrics
        .register(|registry| prometheus_client::encoding::text::encode(&mut text, registry))
        .unwrap();
    for line in ["sum{queue=\"pools\"} 7.0", "count{queue=\"pools\"} 2"] {
        assert!(text.contains(&format!("spiderpool_reconcile_seconds_{line}")), "{text}");
    }
}
