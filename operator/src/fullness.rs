//! The conditions Exhausted and NearlyExhausted, of pools and of subnets.
//!
//! Pods come and go all the time. So that this does not become a write each time, messages have no number that moves with
//! pods, and what is nearly exhausted stays so until clearly more is free than where that began.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use spiderpool_crds::conditions::{self, EXHAUSTED, NEARLY_EXHAUSTED, find};

/// Nearly exhausted begins where one of this many addresses is free.
const BEGIN: u128 = 10;
/// Nearly exhausted ends where more than one of this many addresses is free.
const END: u128 = 5;

/// What the messages say.
pub struct Words {
    /// When no address is free.
    pub full: &'static str,
    /// When there are free addresses.
    pub free: &'static str,
    /// What an address is when it is not free, for instance `in use`.
    pub taken: &'static str,
    /// What to do before no address is free.
    pub remedy: &'static str,
}

/// Sets both conditions, for `free` of `usable` addresses.
pub fn set(
    conditions: &mut Option<Vec<Condition>>,
    (free, usable): (u128, u128),
    words: &Words,
    generation: Option<i64>,
    now: Timestamp,
) {
    let known = find(conditions.as_deref(), NEARLY_EXHAUSTED).map(|known| known.status == "True");
    let mut set = |type_, status, reason, message: &str| {
        conditions::set(conditions, type_, status, reason, message, generation, now);
    };
    if free == 0 {
        set(EXHAUSTED, true, "NoFreeAddress", words.full);
    } else {
        set(EXHAUSTED, false, "FreeAddresses", words.free);
    }
    let share = if known == Some(true) { END } else { BEGIN };
    if free > 0 && free <= usable / share {
        let message = format!(
            "nearly all of the {usable} addresses are {}; {}",
            words.taken, words.remedy
        );
        set(NEARLY_EXHAUSTED, true, "FewFreeAddresses", &message);
    } else if known.is_some() {
        let (reason, message) = match free {
            0 => ("NoFreeAddress", "no address is free, see the condition Exhausted"),
            _ => ("EnoughFreeAddresses", "enough addresses are free"),
        };
        set(NEARLY_EXHAUSTED, false, reason, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Words = Words {
        full: "full",
        free: "free",
        taken: "in use",
        remedy: "add some",
    };

    /// Both conditions after each of these numbers of free addresses.
    fn course(usable: u128, free: &[u128]) -> Vec<String> {
        let mut conditions = None;
        let mut course = Vec::new();
        for free in free {
            set(&mut conditions, (*free, usable), &WORDS, None, Timestamp::UNIX_EPOCH);
            let letter = |type_| match find(conditions.as_deref(), type_) {
                Some(known) if known.status == "True" => 'T',
                Some(_) => 'F',
                None => '-',
            };
            course.push([letter(EXHAUSTED), letter(NEARLY_EXHAUSTED)].iter().collect());
        }
        course
    }

    #[test]
    fn nearly_begins_at_a_tenth_and_ends_beyond_a_fifth() {
        let course = course(100, &[100, 11, 10, 20, 21, 11, 10, 0, 11, 10]);
        assert_eq!(course, ["F-", "F-", "FT", "FT", "FF", "FF", "FT", "TF", "FF", "FT"]);
    }

    #[test]
    fn few_addresses_are_never_nearly_exhausted() {
        assert_eq!(course(9, &[9, 1, 0, 1]), ["F-", "F-", "T-", "F-"]);
        assert_eq!(course(0, &[0]), ["T-"]);
        assert_eq!(course(u128::MAX, &[u128::MAX, 1]), ["F-", "FT"]);
    }

    #[test]
    fn messages_do_not_move_with_pods() {
        let mut conditions = None;
        let mut at = |free| {
            set(&mut conditions, (free, 1000), &WORDS, None, Timestamp::UNIX_EPOCH);
            conditions.clone()
        };
        let few = at(90);
        assert_eq!(few, at(3));
        let text = find(few.as_deref(), NEARLY_EXHAUSTED).unwrap().message.clone();
        assert_eq!(text, "nearly all of the 1000 addresses are in use; add some");
        assert_eq!(at(900), at(300));
    }
}
