//! Whether a rolling update can go on in a pool that has no address to spare.
//!
//! A rolling update either takes an old pod away first, which frees an address, or makes a new one first, which needs one.
//! With a pool as large as the application and `maxUnavailable` of nothing, it may only do the latter, and waits for ever.

/// A number of pods as Kubernetes lets it be written: `2`, or `25%` of the wanted pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many pods.
    Count(u32),
    /// So many of each hundred.
    Percent(u32),
}

/// A text that is no [`Amount`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number of pods; write a number, for example 2, or a percentage, for example 25%")]
pub struct AmountError(pub String);

impl Amount {
    /// What both `maxSurge` and `maxUnavailable` of a Deployment are where it does not say.
    pub const DEFAULT: Self = Self::Percent(25);

    /// Reads `2` or `25%`.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let (digits, make): (&str, fn(u32) -> Self) = match text.strip_suffix('%') {
            Some(digits) => (digits, Self::Percent),
            None => (text, Self::Count),
        };
        // A sign is not part of such a number, though Rust would read one.
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = plain.then(|| digits.parse().ok()).flatten();
        number.map(make).ok_or_else(|| AmountError(text.to_owned()))
    }

    /// How many pods that is, a part of one counted as one.
    fn rounded_up(self, replicas: u32) -> u64 {
        match self {
            Self::Count(count) => count.into(),
            Self::Percent(percent) => (u64::from(percent) * u64::from(replicas)).div_ceil(100),
        }
    }

    /// How many pods that is, a part of one not counted.
    fn rounded_down(self, replicas: u32) -> u64 {
        match self {
            Self::Count(count) => count.into(),
            Self::Percent(percent) => u64::from(percent) * u64::from(replicas) / 100,
        }
    }
}

/// How a workload replaces its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolling {
    /// How many pods more than wanted there may be.
    pub max_surge: Amount,
    /// How many pods fewer than wanted may be available.
    pub max_unavailable: Amount,
}

impl Default for Rolling {
    fn default() -> Self {
        Self {
            max_surge: Amount::DEFAULT,
            max_unavailable: Amount::DEFAULT,
        }
    }
}

/// A rolling update that would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The smallest number to ask for beyond the pods, as in `+1`, with which it would.
    pub write: u32,
}

/// Whether a rolling update of so many pods gets stuck in a pool of so many addresses; none if it goes on.
///
/// One spare address is enough: the old pod that goes when its successor is ready leaves its address for the next.
pub fn stuck(addresses: u128, replicas: u32, rolling: Rolling) -> Option<Stuck> {
    let surge = rolling.max_surge.rounded_up(replicas);
    // Where both are nothing, a pod may be unavailable after all, or nothing could ever be replaced.
    let frees_first = surge == 0 || rolling.max_unavailable.rounded_down(replicas) > 0;
    let spare = addresses > u128::from(replicas);
    (replicas > 0 && !spare && !frees_first).then_some(Stuck { write: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolling(max_surge: Amount, max_unavailable: Amount) -> Rolling {
        Rolling {
            max_surge,
            max_unavailable,
        }
    }

    #[test]
    fn amounts_are_numbers_and_percentages() {
        assert_eq!(Amount::parse("2"), Ok(Amount::Count(2)));
        assert_eq!(Amount::parse("25%"), Ok(Amount::Percent(25)));
        assert_eq!(Amount::parse("150%"), Ok(Amount::Percent(150)));
        for text in ["", "%", "-1", "+1", "a", "1.5", "25 %", "25%%", "99999999999"] {
            let error = Amount::parse(text).unwrap_err();
            assert_eq!(error, AmountError(text.to_owned()));
        }
    }

    #[test]
    fn percentages_of_a_surge_round_up_and_of_the_unavailable_down() {
        let quarter = Amount::DEFAULT;
        assert_eq!((quarter.rounded_up(3), quarter.rounded_down(3)), (1, 0));
        assert_eq!((quarter.rounded_up(4), quarter.rounded_down(4)), (1, 1));
        assert_eq!((quarter.rounded_up(5), quarter.rounded_down(5)), (2, 1));
        let all = Amount::Percent(u32::MAX);
        assert_eq!(
            all.rounded_down(u32::MAX),
            u64::from(u32::MAX) * u64::from(u32::MAX) / 100
        );
    }

    #[test]
    fn with_the_defaults_up_to_three_pods_need_a_spare_address() {
        for replicas in 1..=3 {
            let same = u128::from(replicas);
            assert_eq!(stuck(same, replicas, Rolling::default()), Some(Stuck { write: 1 }));
            assert_eq!(stuck(same + 1, replicas, Rolling::default()), None);
        }
        for replicas in [0, 4, 5, 100] {
            let same = u128::from(replicas);
            assert_eq!(stuck(same, replicas, Rolling::default()), None, "{replicas}");
        }
    }

    #[test]
    fn fewer_addresses_than_pods_are_no_spare_either() {
        assert_eq!(stuck(0, 2, Rolling::default()), Some(Stuck { write: 1 }));
        assert_eq!(stuck(1, 2, Rolling::default()), Some(Stuck { write: 1 }));
    }

    #[test]
    fn an_update_that_takes_pods_away_first_goes_on() {
        let none = Amount::Count(0);
        assert_eq!(stuck(10, 10, rolling(Amount::Count(1), Amount::Count(1))), None);
        assert_eq!(stuck(10, 10, rolling(none, Amount::Count(1))), None);
        // Kubernetes counts both nothing as one unavailable.
        assert_eq!(stuck(10, 10, rolling(none, none)), None);
        assert_eq!(stuck(3, 3, rolling(Amount::Percent(0), Amount::Percent(10))), None);
        assert_eq!(
            stuck(10, 10, rolling(Amount::Percent(1), none)),
            Some(Stuck { write: 1 })
        );
    }
}
