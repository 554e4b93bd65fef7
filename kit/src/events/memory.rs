//! What was told of late, and so what the next telling needs.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::What;

const REMEMBERED: usize = 4096;
const REPEAT: Duration = Duration::from_secs(60);

/// What is to be written about a telling.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Write {
    Create,
    CountUp { name: String, count: i32 },
    Nothing,
}

#[derive(Debug)]
struct Told {
    name: String,
    count: i32,
    written_at: Instant,
}

/// The tellings of late.
#[derive(Debug, Default)]
pub(super) struct Memory {
    told: HashMap<What, Told>,
}

impl Memory {
    /// What a telling needs.
    pub(super) fn decide(&mut self, what: &What, now: Instant) -> Write {
        let Some(told) = self.told.get_mut(what) else {
            return Write::Create;
        };
        told.count = told.count.saturating_add(1);
        if now.saturating_duration_since(told.written_at) < REPEAT {
            return Write::Nothing;
        }
        told.written_at = now;
        Write::CountUp {
            name: told.name.clone(),
            count: told.count,
        }
    }

    /// Notes that a text is written under a name, or about to be.
    pub(super) fn remember(&mut self, what: What, name: String, now: Instant) {
        if self.told.len() >= REMEMBERED {
            // Rare, so a scan is cheap enough: forget the older half.
            let mut ages: Vec<Instant> = self.told.values().map(|told| told.written_at).collect();
            ages.sort_unstable();
            let middle = ages.get(ages.len() / 2).copied().unwrap_or(now);
            self.told.retain(|_, told| told.written_at > middle);
        }
        self.told.insert(
            what,
            Told {
                name,
                count: 1,
                written_at: now,
            },
        );
    }

    /// Notes that nothing is written under a name, so that the next telling of its text writes it.
    pub(super) fn forget(&mut self, what: &What, name: &str) {
        if self.told.get(what).is_some_and(|told| told.name == name) {
            self.told.remove(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(note: &str) -> What {
        What {
            uid: "u".to_owned(),
            reason: "PoolExhausted".to_owned(),
            note: note.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_text_is_written_once_a_minute_and_another_text_at_once() {
        let mut memory = Memory::default();
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Create);
        memory.remember(what("a"), "e1".to_owned(), Instant::now());
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Nothing);
        assert_eq!(memory.decide(&what("b"), Instant::now()), Write::Create);
        tokio::time::advance(REPEAT).await;
        assert_eq!(
            memory.decide(&what("a"), Instant::now()),
            Write::CountUp {
                name: "e1".to_owned(),
                count: 3
            }
        );
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Nothing);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..3 * REMEMBERED {
            memory.remember(what(&number.to_string()), "e".to_owned(), Instant::now());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(memory.told.len() <= REMEMBERED);
        assert_eq!(
            memory.decide(&what(&(3 * REMEMBERED - 1).to_string()), Instant::now()),
            Write::Nothing
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_written_is_written_when_it_is_told_again() {
        let mut memory = Memory::default();
        memory.remember(what("a"), "e1".to_owned(), Instant::now());
        memory.forget(&what("a"), "another");
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Nothing);
        memory.forget(&what("a"), "e1");
        assert_eq!(memory.decide(&what("a"), Instant::now()), Write::Create);
    }
}
