//! Conditions in the status of subnets and pools.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Type of the condition that says whether an object can be used.
pub const READY: &str = "Ready";
/// Type of the condition that says whether an object has no address left.
pub const EXHAUSTED: &str = "Exhausted";
/// Type of the condition that says whether few addresses are left. Absent until that was so once.
pub const NEARLY_EXHAUSTED: &str = "NearlyExhausted";
/// Type of the condition that says whether addresses wait to be given up that pods use. Absent until that was so once.
pub const SHRINKING: &str = "Shrinking";
/// Type of the condition that says whether hosts use addresses of a pool that were not given them. Absent until that was so
/// once.
pub const FOREIGN_HOSTS: &str = "ForeignHosts";
/// Type of the condition that says who keeps a pool that was deleted from going. Absent as long as it was not.
pub const TERMINATING: &str = "Terminating";
/// Type of the condition that says whether a pool gives out nothing because the storage of the API server was restored. Absent until
/// that was so once.
pub const RESTORING: &str = "Restoring";
/// Type of the condition that says whether the operator may read the workloads that a subnet serves.
pub const WORKLOADS_READABLE: &str = "WorkloadsReadable";

/// Reason of the condition Ready of an object that must not be used, since something is wrong with itself.
pub const INVALID: &str = "Invalid";

/// Length up to which the API server takes a message.
const MAX_MESSAGE: usize = 32_768;

/// Sets one condition and says whether anything changed, so that a status is written only then.
///
/// The transition time moves only with `status`, as Kubernetes asks for.
pub fn set(
    conditions: &mut Option<Vec<Condition>>,
    type_: &str,
    status: bool,
    reason: &str,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let mut wanted = Condition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.chars().take(MAX_MESSAGE).collect(),
        observed_generation,
        last_transition_time: Time(now),
    };
    let conditions = conditions.get_or_insert_default();
    let Some(known) = conditions.iter_mut().find(|known| known.type_ == type_) else {
        conditions.push(wanted);
        return true;
    };
    if known.status == wanted.status {
        wanted.last_transition_time.clone_from(&known.last_transition_time);
    }
    let changed = *known != wanted;
    *known = wanted;
    changed
}

/// The condition of a type.
pub fn find<'a>(conditions: Option<&'a [Condition]>, type_: &str) -> Option<&'a Condition> {
    conditions?.iter().find(|condition| condition.type_ == type_)
}

/// What is wrong with an object, if that was not known before.
pub fn newly_invalid<'a>(old: Option<&[Condition]>, new: Option<&'a [Condition]>) -> Option<&'a str> {
    let now = fault(new)?;
    (fault(old) != Some(now)).then_some(now)
}

fn fault(conditions: Option<&[Condition]>) -> Option<&str> {
    let ready = find(conditions, READY).filter(|ready| ready.reason == INVALID);
    ready.map(|ready| ready.message.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_equal_condition_is_no_change_and_keeps_its_time() {
        let mut conditions = None;
        assert!(set(&mut conditions, READY, true, "Parsed", "fine", Some(1), at(10)));
        assert!(!set(&mut conditions, READY, true, "Parsed", "fine", Some(1), at(20)));
        let ready = find(conditions.as_deref(), READY).unwrap();
        assert_eq!(ready.last_transition_time, Time(at(10)));
    }

    #[test]
    fn the_time_moves_with_the_status_only() {
        let mut conditions = None;
        set(&mut conditions, READY, true, "Parsed", "fine", Some(1), at(10));
        assert!(set(
            &mut conditions,
            READY,
            true,
            "Parsed",
            "still fine",
            Some(2),
            at(20)
        ));
        assert_eq!(
            find(conditions.as_deref(), READY).unwrap().last_transition_time,
            Time(at(10))
        );
        assert!(set(&mut conditions, READY, false, "BadRange", "no", Some(3), at(30)));
        assert_eq!(
            find(conditions.as_deref(), READY).unwrap().last_transition_time,
            Time(at(30))
        );
    }

    #[test]
    fn conditions_of_other_types_stay() {
        let mut conditions = None;
        set(&mut conditions, READY, true, "Parsed", "", None, at(1));
        set(&mut conditions, EXHAUSTED, false, "Free", "", None, at(1));
        assert_eq!(conditions.unwrap().len(), 2);
    }

    #[test]
    fn a_fault_is_news_until_it_was_told() {
        let said = |reason, message, generation| {
            let mut conditions = None;
            set(
                &mut conditions,
                READY,
                reason == "Accepted",
                reason,
                message,
                Some(generation),
                at(1),
            );
            conditions
        };
        let invalid = said(INVALID, "a", 1);
        assert_eq!(newly_invalid(None, invalid.as_deref()), Some("a"));
        assert_eq!(
            newly_invalid(said("Accepted", "", 1).as_deref(), invalid.as_deref()),
            Some("a")
        );
        assert_eq!(
            newly_invalid(said(INVALID, "b", 1).as_deref(), invalid.as_deref()),
            Some("a")
        );
        assert_eq!(
            newly_invalid(invalid.as_deref(), said(INVALID, "a", 2).as_deref()),
            None
        );
        assert_eq!(
            newly_invalid(invalid.as_deref(), said("Accepted", "", 2).as_deref()),
            None
        );
    }

    #[test]
    fn a_message_longer_than_the_api_server_takes_is_cut() {
        let mut conditions = None;
        set(&mut conditions, READY, false, "Bad", &"ä".repeat(40_000), None, at(1));
        assert_eq!(conditions.unwrap()[0].message.chars().count(), MAX_MESSAGE);
    }
}
