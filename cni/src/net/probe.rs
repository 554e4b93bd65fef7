//! When to ask the network, and what its answers mean. No IO: the caller says what time it is and what it heard.

use std::{collections::BTreeSet, time::Duration};

use super::mac::Mac;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What to do next. Times are since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<V> {
    /// Ask.
    Send,
    /// Listen until then.
    Listen(Duration),
    /// Nothing more.
    Done(V),
}

/// A question put to the network.
pub(super) trait Probe {
    type Verdict;

    fn step(&mut self, now: Duration) -> Step<Self::Verdict>;

    /// Somebody answered.
    fn hear(&mut self, now: Duration, mac: Mac);
}

/// Asks whether somebody else has an address.
///
/// Whoever had it last may still answer while its NIC is being taken down, so one answer is not enough: it is asked again a second
/// later, and who then answers as before is there to stay. A second without an answer means that the address is free.
#[derive(Debug, Default)]
pub(super) struct Conflict {
    round: u32,
    sent: usize,
    before: BTreeSet<Mac>,
    heard: BTreeSet<Mac>,
}

impl Conflict {
    /// When it is asked within a round: twice, as one frame may be lost.
    const SENDS: [Duration; 2] = [ms(0), ms(80)];
    /// How long answers are waited for. A neighbour answers from its kernel.
    const LISTEN: Duration = ms(200);
    const ROUND: Duration = ms(1000);
    /// Rounds in which always another one answers. Then there are many of them, and the address is none to use.
    const ROUNDS: u32 = 4;
}

impl Probe for Conflict {
    /// Who has the address.
    type Verdict = Option<Mac>;

    fn step(&mut self, now: Duration) -> Step<Option<Mac>> {
        if let Some(mac) = self.heard.intersection(&self.before).next() {
            return Step::Done(Some(*mac));
        }
        let start = Self::ROUND * self.round;
        if let Some(at) = Self::SENDS.get(self.sent) {
            if now < start + *at {
                return Step::Listen(start + *at);
            }
            self.sent += 1;
            return Step::Send;
        }
        if now < start + Self::LISTEN {
            return Step::Listen(start + Self::LISTEN);
        }
        let Some(last) = self.heard.first().copied() else {
            return Step::Done(None);
        };
        self.round += 1;
        if self.round == Self::ROUNDS {
            return Step::Done(Some(last));
        }
        self.before.append(&mut self.heard);
        self.sent = 0;
        Step::Listen(Self::ROUND * self.round)
    }

    fn hear(&mut self, now: Duration, mac: Mac) {
        // Between two rounds nothing was asked; what is said then is said again.
        if now >= Self::ROUND * self.round {
            self.heard.insert(mac);
        }
    }
}

/// Asks whether a gateway is there.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    sent: usize,
    answered: bool,
}

impl Gateway {
    /// A router may be busy, or its port just coming up.
    const SENDS: [Duration; 4] = [ms(0), ms(100), ms(300), ms(600)];
    const LISTEN: Duration = ms(1000);
}

impl Probe for Gateway {
    /// Whether it is.
    type Verdict = bool;

    fn step(&mut self, now: Duration) -> Step<bool> {
        if self.answered {
            return Step::Done(true);
        }
        match Self::SENDS.get(self.sent) {
            Some(at) if now < *at => Step::Listen(*at),
            Some(_) => {
                self.sent += 1;
                Step::Send
            }
            None if now < Self::LISTEN => Step::Listen(Self::LISTEN),
            None => Step::Done(false),
        }
    }

    fn hear(&mut self, _: Duration, _: Mac) {
        self.answered = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

    /// Runs a probe against somebody who answers each question; gives the verdict, when it fell, and how often it was asked.
    fn run<P: Probe>(mut probe: P, answer: impl Fn(Duration) -> Option<Mac>) -> (P::Verdict, Duration, usize) {
        let (mut now, mut asked) = (Duration::ZERO, 0);
        loop {
            match probe.step(now) {
                Step::Send => {
                    asked += 1;
                    if let Some(mac) = answer(now) {
                        now += ms(1);
                        probe.hear(now, mac);
                    }
                }
                Step::Listen(until) => {
                    assert!(until > now);
                    now = until;
                }
                Step::Done(verdict) => return (verdict, now, asked),
            }
        }
    }

    #[test]
    fn an_address_nobody_answers_for_is_free_soon() {
        assert_eq!(run(Conflict::default(), |_| None), (None, ms(200), 2));
    }

    #[test]
    fn a_conflict_is_the_same_answer_a_second_later() {
        assert_eq!(run(Conflict::default(), |_| Some(A)), (Some(A), ms(1001), 3));
        let lost = |now| (now != ms(0) && now != ms(1000)).then_some(A);
        assert_eq!(run(Conflict::default(), lost), (Some(A), ms(1081), 4));
    }

    #[test]
    fn whoever_falls_silent_has_the_address_no_more() {
        let leaving = |now| (now < ms(500)).then_some(A);
        assert_eq!(run(Conflict::default(), leaving), (None, ms(1200), 4));
    }

    #[test]
    fn another_answer_is_asked_about_again() {
        let changing = |now| Some(if now < ms(500) { A } else { B });
        assert_eq!(run(Conflict::default(), changing), (Some(B), ms(2001), 5));
        let handed_on = |now| (now < ms(1500)).then_some(if now < ms(500) { A } else { B });
        assert_eq!(run(Conflict::default(), handed_on).0, None);
        let crowd = |now: Duration| Some(Mac([2, 0, 0, 0, 0, (now.as_millis() / 1000) as u8]));
        let (verdict, when, _) = run(Conflict::default(), crowd);
        assert!(verdict.is_some() && when < ms(4000));
    }

    #[test]
    fn what_is_said_between_two_rounds_does_not_count() {
        let mut probe = Conflict::default();
        assert_eq!(probe.step(ms(0)), Step::Send);
        assert_eq!(probe.step(ms(80)), Step::Send);
        probe.hear(ms(100), A);
        assert_eq!(probe.step(ms(200)), Step::Listen(ms(1000)));
        probe.hear(ms(700), A);
        assert_eq!(probe.step(ms(1000)), Step::Send);
    }

    #[test]
    fn a_gateway_may_miss_all_questions_but_one() {
        assert_eq!(run(Gateway::default(), |_| Some(A)), (true, ms(1), 1));
        let late = |now| (now >= ms(600)).then_some(A);
        assert_eq!(run(Gateway::default(), late), (true, ms(601), 4));
        assert_eq!(run(Gateway::default(), |_| None), (false, ms(1000), 4));
    }
}
