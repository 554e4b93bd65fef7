//! ADDs that nobody waits for any more.

use super::agent::{Agent, POD, args, del_args, pool};
use super::api::{Fault, POOLS};
use axum::body::Body;
use serde_json::json;
use spiderpool_agent::cancel::{Cancel, Reason};
use spiderpool_agent::del::Released;
use spiderpool_agent::{add, server, tell};
use spiderpool_crds::names;
use spiderpool_wire::IpamAddArgs;
use std::time::Duration;
use tokio::time::Instant;
use tower::ServiceExt;

/// A pod that waits for a pool of its application, which nobody makes.
fn waiting() -> Agent {
    let asks = json!({names::ANNOTATION_SUBNET: r#"{"ipv4":["lan"]}"#});
    Agent::start(&[], &asks)
}

/// What was said by whoever comes after so long.
async fn after<T>(time: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::sleep(time).await;
    work.await
}

#[tokio::test(start_paused = true)]
async fn a_del_ends_the_add_of_its_attachment_that_waits_for_a_pool() {
    let agent = waiting();
    let started = Instant::now();
    let deleting = after(Duration::from_secs(1), agent.del("eth0", "c"));
    let (added, deleted) = tokio::join!(agent.add("eth0", &[]), deleting);
    let error = added.unwrap_err();
    assert!(
        error.starts_with("the ADD of Pod retail/shop NIC eth0 was cancelled by DEL"),
        "{error}"
    );
    assert_eq!(deleted.unwrap(), Released::PodAlive);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(agent.context.turns.is_empty() && agent.context.turns.adds().is_empty());
    // Nobody needs to know.
    assert_eq!(agent.events().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_del_of_another_sandbox_or_nic_lets_the_add_wait() {
    let agent = waiting();
    let adding = agent.add("eth0", &[]);
    let others = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let others = [del_args("eth0", "older"), del_args("net1", "c")];
        let network = spiderpool_wire::IpamDelArgs {
            network_name: "other".to_owned(),
            ..del_args("eth0", "c")
        };
        for args in others.iter().chain([&network]) {
            agent.context.turns.adds().cancel(args);
        }
    };
    let (added, ()) = tokio::join!(adding, others);
    assert!(added.unwrap_err().starts_with("no IPPool available"));
    let reasons: Vec<String> = agent
        .events()
        .await
        .unwrap()
        .into_iter()
        .map(|(reason, _)| reason)
        .collect();
    assert!(reasons.contains(&tell::FAILED.to_owned()), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn an_add_that_waits_for_its_turn_or_for_its_pod_ends_as_well() {
    let agent = waiting();
    let other = IpamAddArgs {
        container_id: "older".to_owned(),
        ..args("eth0", &[])
    };
    let first = Cancel::default();
    let older = add::add(&agent.context, &other, &first);
    let rest = async {
        let queued = after(Duration::from_secs(1), agent.add("eth0", &[]));
        let cancelling = after(Duration::from_secs(2), async {
            agent.context.turns.adds().cancel(&del_args("eth0", "c"))
        });
        let (queued, ()) = tokio::join!(queued, cancelling);
        assert!(queued.unwrap_err().contains("cancelled by DEL"));
        // The one that has its turn goes on.
        assert_eq!(first.reason(), None);
        first.cancel(Reason::ClientGone);
    };
    let (older, ()) = tokio::join!(Box::pin(older), rest);
    assert!(older.unwrap_err().to_string().contains("closed its connection"));
    assert!(agent.context.turns.is_empty());

    agent.server.remove(POD);
    let started = Instant::now();
    let deleting = after(Duration::from_secs(1), agent.del("eth0", "c"));
    let (added, _) = tokio::join!(agent.add("eth0", &[]), deleting);
    assert!(added.unwrap_err().contains("cancelled by DEL"));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_add_gives_back_what_it_took() {
    let mut unchecked = pool("b", "10.77.2.1-10.77.2.9", &json!({}));
    unchecked["status"] = json!({});
    let items = json!({names::ANNOTATION_IPPOOLS: r#"[{"ipv4":["a"]},{"ipv4":["b"]}]"#});
    let agent = Agent::start(&[pool("a", "10.77.1.1-10.77.1.9", &json!({})), unchecked], &items);
    let deleting = after(Duration::from_secs(1), async {
        assert_eq!(agent.records("a"), ["10.77.1.1 eth0"]);
        agent.del("eth0", "c").await
    });
    let (added, _) = tokio::join!(agent.add("eth0", &[]), deleting);
    assert!(added.unwrap_err().contains("cancelled by DEL"));
    assert_eq!(agent.records("a"), Vec::<String>::new());
    let writes = agent.server.history(&format!("{POOLS}/a")).len();
    assert_eq!((writes, agent.nics()), (3, None));
}

#[tokio::test(start_paused = true)]
async fn an_add_whose_endpoint_is_not_taken_ends_between_two_tries() {
    let agent = Agent::start(
        &[pool("a", "10.77.1.1-10.77.1.9", &json!({}))],
        &json!({names::ANNOTATION_IPPOOL: r#"{"ipv4":["a"]}"#}),
    );
    let create = "POST /apis/spiderpool.spidernet.io/v2beta1/namespaces/retail/spiderendpoints";
    agent.server.meet(create, Fault::Refuse(429, "busy", 9), usize::MAX);
    let started = Instant::now();
    let deleting = after(Duration::from_secs(1), async {
        assert_eq!(agent.records("a"), ["10.77.1.1 eth0"]);
        agent.del("eth0", "c").await
    });
    let (added, _) = tokio::join!(agent.add("eth0", &[]), deleting);
    assert!(added.unwrap_err().contains("cancelled by DEL"));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(agent.records("a"), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_went_away_is_not_worked_for() {
    let agent = waiting();
    let body = serde_json::to_vec(&args("eth0", &[])).unwrap();
    let request = http::Request::post("/v1/ipam/ip").body(Body::from(body)).unwrap();
    let asking = server::router(agent.context.clone()).oneshot(request);
    assert!(tokio::time::timeout(Duration::from_secs(1), asking).await.is_err());
    let started = Instant::now();
    // The next request of the pod gets its turn at once.
    let _turn = agent.context.turns.take("u").await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(agent.context.turns.adds().is_empty());
}
