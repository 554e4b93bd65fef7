//! The annotations that hold one value.

use super::{AnnotationError, Annotations, Problem};
use crate::names::{ANNOTATION_IP_NUMBER, ANNOTATION_RECLAIM};

/// Size of an automatic pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpNumber {
    /// So many addresses, whatever the workload's size.
    Fixed(u32),
    /// So many addresses more than the workload has pods.
    Flexible(u32),
}

impl IpNumber {
    /// How many addresses a workload of so many pods is to have.
    pub fn of(self, pods: u128) -> u128 {
        match self {
            Self::Fixed(number) => number.into(),
            Self::Flexible(more) => pods.saturating_add(more.into()),
        }
    }
}

impl std::fmt::Display for IpNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(number) => write!(f, "{number}"),
            Self::Flexible(number) => write!(f, "+{number}"),
        }
    }
}

/// Reads `ipam.spidernet.io/ippool-ip-number`; none when it is not there, which means the configured default.
///
/// Unlike the peer, which throws away what stands before the plus sign, this refuses `1+2` and `abc+2`.
pub fn ip_number(annotations: &Annotations) -> Result<Option<IpNumber>, AnnotationError> {
    let key = ANNOTATION_IP_NUMBER;
    let Some(text) = annotations.get(key) else {
        return Ok(None);
    };
    let parsed = match text.strip_prefix('+') {
        Some(digits) => number(digits).map(IpNumber::Flexible),
        None => number(text).map(IpNumber::Fixed),
    };
    parsed.map(Some).map_err(|problem| AnnotationError {
        key,
        text: text.clone(),
        problem: problem.into(),
        example: r#""+1" for one address more than there are pods, or "5" for five addresses"#,
    })
}

fn number(digits: &str) -> Result<u32, Problem> {
    let decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.strip_prefix('-').is_some_and(decimal) {
        Err(Problem::Negative)
    } else if decimal(digits) {
        digits.parse().map_err(|_| Problem::TooLarge)
    } else {
        Err(Problem::Number)
    }
}

/// Reads `ipam.spidernet.io/ippool-reclaim`; true when it is not there.
pub fn reclaim(annotations: &Annotations) -> Result<bool, AnnotationError> {
    let key = ANNOTATION_RECLAIM;
    match annotations.get(key).map(String::as_str) {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(text) => Err(AnnotationError {
            key,
            text: text.to_owned(),
            problem: Problem::Bool.into(),
            example: r#""true" or "false""#,
        }),
    }
}
