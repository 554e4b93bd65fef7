use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use tokio::sync::Semaphore;

use super::*;

/// How long the API server takes for a request.
const SLOW: Duration = Duration::from_millis(500);

/// What a slow API server was asked, in order.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<(Method, String)>>>);

impl Asked {
    fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }

    fn methods(&self) -> Vec<Method> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(method, _)| method.clone())
            .collect()
    }
}

/// A recorder and its API server, which answers with what `status` makes of the method; 200 is for success.
fn recorder(process: &Process, asked: &Asked, answered: &Arc<Semaphore>, status: fn(&Method) -> u16) -> Recorder {
    let (asked, answered) = (asked.clone(), answered.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        let (asked, answered) = (asked.clone(), answered.clone());
        async move {
            let method = request.method().clone();
            let body = request.into_body().collect_bytes().await.unwrap();
            let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let text = event["note"].as_str().unwrap_or_default().to_owned();
            tokio::time::sleep(SLOW).await;
            asked.0.lock().unwrap().push((method.clone(), text));
            answered.add_permits(1);
            let code = status(&method);
            let body = match code {
                200 => event,
                _ => {
                    json!({"kind": "Status", "status": "Failure", "code": code, "reason": "NotFound", "message": "gone"})
                }
            };
            let response = Response::builder()
                .status(code)
                .body(Body::from(body.to_string().into_bytes()));
            Ok::<_, std::io::Error>(response.unwrap())
        }
    });
    Recorder::start(process, Client::new(service, "ns"), "spiderpool-agent", "n1")
}

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        name: Some(name.to_owned()),
        namespace: Some("shop".to_owned()),
        uid: Some(format!("uid-of-{name}")),
        ..ObjectReference::default()
    }
}

fn tell(recorder: &Recorder, pod_name: &str, note: &str) {
    recorder.tell(
        pod(pod_name),
        Severity::Warning,
        "IPAllocationFailed",
        "AllocateIP",
        note,
    );
}

async fn wait(answered: &Semaphore, requests: u32) {
    answered.acquire_many(requests).await.unwrap().forget();
}

#[tokio::test(start_paused = true)]
async fn many_pods_are_told_soon_by_a_slow_api_server() {
    let (process, asked, answered) = (Process::new(), Asked::default(), Arc::new(Semaphore::new(0)));
    let recorder = recorder(&process, &asked, &answered, |_| 200);
    for number in 0..16 {
        tell(&recorder, &format!("shop-{number}"), "no pool");
    }
    let start = Instant::now();
    wait(&answered, 16).await;
    assert!(start.elapsed() <= 2 * SLOW, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_on_its_way_is_not_sent_again() {
    let (process, asked, answered) = (Process::new(), Asked::default(), Arc::new(Semaphore::new(0)));
    let recorder = recorder(&process, &asked, &answered, |_| 200);
    for note in ["a", "a", "b", "a"] {
        tell(&recorder, "shop-1", note);
    }
    wait(&answered, 2).await;
    tokio::time::sleep(4 * SLOW).await;
    assert_eq!(asked.texts(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_expired_is_made_again() {
    let (process, asked, answered) = (Process::new(), Asked::default(), Arc::new(Semaphore::new(0)));
    let recorder = recorder(&process, &asked, &answered, |method| {
        if method == Method::PATCH { 404 } else { 200 }
    });
    tell(&recorder, "shop-1", "a");
    wait(&answered, 1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    tell(&recorder, "shop-1", "a");
    wait(&answered, 2).await;
    assert_eq!(asked.methods(), [Method::POST, Method::PATCH, Method::POST]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_refused_is_lost_and_tried_when_it_is_told_again() {
    let (process, asked, answered) = (Process::new(), Asked::default(), Arc::new(Semaphore::new(0)));
    let recorder = recorder(&process, &asked, &answered, |_| 404);
    tell(&recorder, "shop-1", "a");
    wait(&answered, 1).await;
    tokio::time::sleep(4 * SLOW).await;
    assert_eq!(asked.texts(), ["a"]);
    tell(&recorder, "shop-1", "a");
    wait(&answered, 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_told_last_is_written_before_the_process_ends() {
    let (process, asked, answered) = (Process::new(), Asked::default(), Arc::new(Semaphore::new(0)));
    let recorder = recorder(&process, &asked, &answered, |_| 200);
    for number in 0..20 {
        tell(&recorder, "shop-1", &number.to_string());
    }
    process.stop();
    process.finish(Duration::from_secs(10)).await.unwrap();
    assert_eq!(asked.texts().len(), 20);
}

#[test]
fn long_notes_are_cut_between_characters() {
    assert_eq!(cut("aé", 2), "a");
    assert_eq!(cut(&"x".repeat(5000), LONGEST_NOTE).len(), LONGEST_NOTE);
}

#[tokio::test]
async fn telling_nobody_neither_fails_nor_waits() {
    for _ in 0..10 {
        Recorder::silent().tell(ObjectReference::default(), Severity::Normal, "Reason", "Act", "note");
    }
}
