//! Pauses between tries of a write that other writers beat.

use spiderpool_kit::backoff::Backoff;
use std::time::Duration;

/// The first pause: about a round trip to the API server.
const FIRST: Duration = Duration::from_millis(5);

/// The longest pause. A writer that lost often still tries several times a second, since its caller waits.
const LONGEST: Duration = Duration::from_millis(250);

/// Jittered pauses. They do not end by themselves: whoever pauses looks at its deadline.
pub fn pauses() -> Backoff {
    Backoff::new(FIRST, LONGEST)
}

/// Makes the next pause.
pub async fn pause(pauses: &mut Backoff) {
    tokio::time::sleep(pauses.next().unwrap_or(LONGEST)).await;
}
