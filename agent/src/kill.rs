//! Named points of the work at which a test lets the process die as a crash would: between any two steps of an ADD or DEL.
//!
//! Only a build with the feature `kill-points` can do so. In every other build [`point`] is nothing, and so is this module.

/// A point of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// An ADD came in and has its turn.
    AddAccepted,
    /// Its pod is known.
    AddPodFound,
    /// The pools that may serve it are chosen.
    AddChosen,
    /// A claim waits for the pool's writer.
    ClaimQueued,
    /// A pool's next records are planned.
    WritePlanned,
    /// They are about to be sent.
    WriteBefore,
    /// They are on their way, and nobody knows how far.
    WriteUnderWay,
    /// They are written, and nobody who waits was told.
    WriteAcknowledged,
    /// All families have an address.
    AddClaimed,
    /// What the endpoint is to say is known.
    EndpointPlanned,
    /// The endpoint is about to be written.
    EndpointBefore,
    /// The endpoint is written.
    EndpointWritten,
    /// An ADD is about to be answered.
    AddAnswered,
    /// A failed ADD is about to give back what it took.
    GiveBackBefore,
    /// It did so.
    GiveBackDone,
    /// A DEL came in and has its turn.
    DelAccepted,
    /// What became of its pod is known.
    DelPodFound,
    /// A release waits for the pool's writer.
    ReleaseQueued,
    /// The pools have no record of the NIC any more.
    DelReleased,
    /// The endpoint has no finalizer any more and still exists.
    EndpointLetGo,
    /// The endpoint is gone.
    EndpointDeleted,
    /// A DEL is about to be answered.
    DelAnswered,
}

/// Passes a point.
#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub const fn point(_: Point) {}

/// Passes a point from which on the process may die within the next moment, beside what goes on.
#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub const fn point_soon(_: Point) {}

/// Nothing to get ready for.
#[cfg(not(feature = "kill-points"))]
pub const fn arm() -> Result<(), std::convert::Infallible> {
    Ok(())
}

#[cfg(feature = "kill-points")]
pub use armed::{arm, point, point_soon};

#[cfg(feature = "kill-points")]
mod armed {
    use super::Point;
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// `POINT:COUNT`: the process dies when it passes the point that many times.
    const VARIABLE: &str = "SPIDERPOOL_KILL_AT";

    const NAMES: [(&str, Point); 22] = [
        ("add-accepted", Point::AddAccepted),
        ("add-pod-found", Point::AddPodFound),
        ("add-chosen", Point::AddChosen),
        ("claim-queued", Point::ClaimQueued),
        ("write-planned", Point::WritePlanned),
        ("write-before", Point::WriteBefore),
        ("write-under-way", Point::WriteUnderWay),
        ("write-acknowledged", Point::WriteAcknowledged),
        ("add-claimed", Point::AddClaimed),
        ("endpoint-planned", Point::EndpointPlanned),
        ("endpoint-before", Point::EndpointBefore),
        ("endpoint-written", Point::EndpointWritten),
        ("add-answered", Point::AddAnswered),
        ("give-back-before", Point::GiveBackBefore),
        ("give-back-done", Point::GiveBackDone),
        ("del-accepted", Point::DelAccepted),
        ("del-pod-found", Point::DelPodFound),
        ("release-queued", Point::ReleaseQueued),
        ("del-released", Point::DelReleased),
        ("endpoint-let-go", Point::EndpointLetGo),
        ("endpoint-deleted", Point::EndpointDeleted),
        ("del-answered", Point::DelAnswered),
    ];

    /// How long after a [`point_soon`] the process dies: about as long as a write takes, so before, while and after it is committed.
    const SOON: [Duration; 4] = [
        Duration::from_micros(200),
        Duration::from_millis(1),
        Duration::from_millis(3),
        Duration::from_millis(8),
    ];

    static ORDER: OnceLock<Order> = OnceLock::new();

    struct Order {
        at: Point,
        count: u32,
        passed: AtomicU32,
    }

    /// What the environment asks for cannot be done.
    #[derive(Debug, thiserror::Error)]
    #[error("{VARIABLE}={0:?} is not POINT:COUNT with a point of agent/src/kill.rs and a count from 1")]
    pub struct Unknown(String);

    /// Reads what the environment asks for.
    pub fn arm() -> Result<(), Unknown> {
        let Ok(text) = std::env::var(VARIABLE) else {
            return Ok(());
        };
        let order = parse(&text).ok_or(Unknown(text))?;
        drop(ORDER.set(order));
        Ok(())
    }

    fn parse(text: &str) -> Option<Order> {
        let (name, count) = text.split_once(':')?;
        let (_, at) = NAMES.into_iter().find(|(known, _)| *known == name)?;
        let count = count.parse().ok().filter(|count| *count > 0)?;
        Some(Order {
            at,
            count,
            passed: AtomicU32::new(0),
        })
    }

    /// Whether this passing is the one to die at.
    fn is_last(point: Point) -> Option<u32> {
        let order = ORDER.get().filter(|order| order.at == point)?;
        let passed = order.passed.fetch_add(1, Ordering::SeqCst) + 1;
        (passed == order.count).then_some(passed)
    }

    /// Passes a point.
    pub fn point(point: Point) {
        if is_last(point).is_some() {
            die(point);
        }
    }

    /// Passes a point from which on the process may die within the next moment, beside what goes on.
    pub fn point_soon(point: Point) {
        if let Some(passed) = is_last(point) {
            let after = SOON[passed as usize % SOON.len()];
            std::thread::spawn(move || {
                std::thread::sleep(after);
                die(point)
            });
        }
    }

    fn die(point: Point) -> ! {
        tracing::warn!(?point, "killed by order of a test");
        // A process may always signal itself, and this signal waits for nobody.
        let _ = kill_process(getpid(), Signal::KILL);
        loop {
            std::thread::park();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn orders_are_points_with_counts() {
            let order = parse("write-acknowledged:3").unwrap();
            assert_eq!((order.at, order.count), (Point::WriteAcknowledged, 3));
            for bad in ["write-acknowledged", "write-acknowledged:0", "nowhere:1", ""] {
                assert!(parse(bad).is_none(), "{bad}");
            }
        }
    }
}
