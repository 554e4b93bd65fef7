use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;

use super::record::{hold, release};
use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;

fn record(holder: &str, length: Option<u64>) -> Record {
    Record {
        holder: holder.to_owned(),
        length: length.map(S),
        transitions: 3,
        renewed: None,
    }
}

#[tokio::test(start_paused = true)]
async fn decisions() {
    let start = Instant::now();
    let at = |seconds| start + S(seconds);
    // (record, seen at, renewed at, now) -> decision, all in seconds since some moment
    type Row = (Option<Record>, u64, Option<u64>, u64, Decision);
    let table: &[Row] = &[
        // Nobody holds it.
        (None, 0, None, 0, Decision::Acquire),
        (Some(record("", Some(1))), 0, None, 0, Decision::Acquire),
        // Another one does: it expires by our own watch, whatever the record's clock says.
        (Some(record("b", Some(15))), 100, None, 100, Decision::Wait(S(2))),
        (Some(record("b", Some(15))), 100, None, 114, Decision::Wait(S(1))),
        (Some(record("b", Some(15))), 100, None, 115, Decision::Acquire),
        // Its own word on the length counts, ours only where it gave none.
        (Some(record("b", Some(60))), 100, None, 115, Decision::Wait(S(2))),
        (Some(record("b", None)), 100, None, 114, Decision::Wait(S(1))),
        (Some(record("b", None)), 100, None, 115, Decision::Acquire),
        // A clock that seems to run backwards makes nobody take over early.
        (Some(record("b", Some(15))), 200, None, 100, Decision::Wait(S(2))),
        // We hold it but do not lead: a write of ours whose answer was lost.
        (Some(record("a", Some(15))), 100, None, 100, Decision::Acquire),
        // We lead.
        (Some(record("a", Some(15))), 100, Some(100), 100, Decision::Wait(S(2))),
        (Some(record("a", Some(15))), 100, Some(100), 101, Decision::Wait(S(1))),
        (Some(record("a", Some(15))), 100, Some(100), 102, Decision::Renew),
        (Some(record("a", Some(15))), 100, Some(100), 109, Decision::Renew),
        (Some(record("a", Some(15))), 100, Some(100), 110, Decision::Lost),
        (Some(record("b", Some(15))), 101, Some(100), 101, Decision::Lost),
        (Some(record("", Some(1))), 101, Some(100), 101, Decision::Lost),
        (None, 101, Some(100), 101, Decision::Lost),
    ];
    for (record, seen, renewed, now, wanted) in table {
        let view = View {
            record: record.as_ref(),
            seen_at: at(*seen),
            renewed_at: renewed.map(at),
        };
        let decision = decide(view, "a", at(*now), Timing::default());
        assert_eq!(
            decision, *wanted,
            "{record:?} seen {seen} renewed {renewed:?} now {now}"
        );
    }
}

#[test]
fn times_that_let_two_lead_are_refused() {
    assert!(Timing::default().checked().is_ok());
    for (lease, renew, retry) in [(10, 10, 2), (15, 10, 10), (15, 10, 0), (0, 0, 0), (2, 10, 15)] {
        let timing = Timing {
            lease: S(lease),
            renew_deadline: S(renew),
            retry: S(retry),
        };
        assert!(timing.checked().is_err(), "{timing:?}");
    }
}

fn json(object: &LeaseObject) -> serde_json::Value {
    serde_json::to_value(object).unwrap()["spec"].take()
}

#[test]
fn records_are_written_as_other_controllers_read_them() {
    let [t1, t2, t3] = [1, 2, 3].map(|second| Timestamp::from_second(second).unwrap());
    let mut object = LeaseObject::default();
    hold(&mut object, "a", S(15), t1);
    let first = serde_json::json!({
        "holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "acquireTime": "1970-01-01T00:00:01.000000Z", "renewTime": "1970-01-01T00:00:01.000000Z",
    });
    assert_eq!(json(&object), first);
    hold(&mut object, "a", S(15), t2);
    assert_eq!(json(&object)["acquireTime"], "1970-01-01T00:00:01.000000Z");
    assert_eq!(json(&object)["renewTime"], "1970-01-01T00:00:02.000000Z");
    assert_eq!(json(&object)["leaseTransitions"], 0);
    hold(&mut object, "b", S(15), t3);
    assert_eq!(json(&object)["leaseTransitions"], 1);
    assert_eq!(json(&object)["acquireTime"], "1970-01-01T00:00:03.000000Z");
}

#[test]
fn a_lease_given_back_names_nobody_explicitly() {
    let mut object = LeaseObject::default();
    hold(&mut object, "a", S(15), Timestamp::UNIX_EPOCH);
    release(&mut object, Timestamp::UNIX_EPOCH);
    let bytes = serde_json::to_string(&object).unwrap();
    assert!(bytes.contains(r#""holderIdentity":"""#), "{bytes}");
    assert!(bytes.contains(r#""leaseDurationSeconds":1"#), "{bytes}");
    assert_eq!(Record::of(&object).holder(), None);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_slept_through_its_lease_does_not_write() {
    let (seat, leadership) = Leadership::new();
    assert!(leadership.write_permit().is_none());
    seat.take(Instant::now() + S(10));
    assert!(leadership.wait_until_leader().await && leadership.write_permit().is_some());
    tokio::time::advance(S(10)).await;
    assert!(!leadership.is_leader() && leadership.write_permit().is_none());
}

/// Whether a term has begun that was not told yet.
async fn begun(terms: &mut Terms) -> bool {
    tokio::time::timeout(Duration::from_millis(1), terms.next()).await == Ok(true)
}

#[tokio::test(start_paused = true)]
async fn each_term_is_told_once() {
    let (seat, leadership) = Leadership::new();
    let mut terms = leadership.terms();
    assert!(!begun(&mut terms).await);
    seat.take(Instant::now() + S(10));
    assert!(begun(&mut terms).await && !begun(&mut terms).await);
    assert!(begun(&mut leadership.terms()).await);
    // Renewed on time.
    tokio::time::advance(S(9)).await;
    seat.take(Instant::now() + S(10));
    assert!(!begun(&mut terms).await);
    // Lost and won again before anybody looked.
    seat.leave();
    seat.take(Instant::now() + S(10));
    assert!(begun(&mut terms).await && !begun(&mut terms).await);
    // Lost: the term that lasts no more is not told.
    seat.leave();
    assert!(!begun(&mut leadership.terms()).await);
    drop(seat);
    assert!(!terms.next().await);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_comes_late_begins_a_term() {
    let (seat, leadership) = Leadership::new();
    let mut terms = leadership.terms();
    seat.take(Instant::now() + S(10));
    assert!(begun(&mut terms).await);
    tokio::time::advance(S(11)).await;
    assert!(!leadership.is_leader() && !begun(&mut terms).await);
    seat.take(Instant::now() + S(8));
    assert!(leadership.is_leader() && begun(&mut terms).await);
}

#[tokio::test(start_paused = true)]
async fn the_lease_waits_for_writes_on_their_way() {
    let (seat, leadership) = Leadership::new();
    seat.take(Instant::now() + S(10));
    let permit = leadership.write_permit().unwrap();
    seat.leave();
    leadership.wait_until_follower().await;
    assert!(!seat.writers_done(S(1)).await);
    drop(permit);
    assert!(seat.writers_done(S(1)).await);
}

#[tokio::test]
async fn alone_is_leading() {
    let leadership = Leadership::alone();
    assert!(leadership.is_leader() && leadership.wait_until_leader().await);
}

#[tokio::test(start_paused = true)]
async fn alone_is_never_deposed() {
    let leadership = Leadership::alone();
    assert!(
        tokio::time::timeout(S(3600), leadership.wait_until_follower())
            .await
            .is_err()
    );
}
