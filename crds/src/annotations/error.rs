//! Why an annotation cannot be used.

use std::fmt;

/// Longest piece of an annotation that an error quotes; the rest would only hide the message in the Event.
const MAX_QUOTE: usize = 200;

/// An annotation that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {problem}; found {}, write for example {example}", Quote(.text))]
pub struct AnnotationError {
    /// Key of the annotation.
    pub key: &'static str,
    /// Its value.
    pub text: String,
    /// What is wrong with it.
    pub problem: Box<Problem>,
    /// A value that would be right.
    pub example: &'static str,
}

/// What is wrong with an annotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON at all.
    #[error("the value is not JSON: {0}")]
    Json(String),
    /// JSON, but of another shape.
    #[error("{place} must be {wanted}")]
    Shape {
        /// Where in the value.
        place: String,
        /// What belongs there.
        wanted: &'static str,
    },
    /// A list without items.
    #[error("the list has no items")]
    NoItems,
    /// Nothing is named for either family.
    #[error("{place} names no {what}, neither in ipv4 nor in ipv6")]
    NothingNamed {
        /// Where in the value.
        place: String,
        /// What should be named.
        what: &'static str,
    },
    /// An empty name.
    #[error("{place} contains an empty name")]
    EmptyName {
        /// Where in the value.
        place: String,
    },
    /// Several items, and one does not say for which interface it is.
    #[error("{place} names no interface, which only a single item may leave out")]
    NoInterface {
        /// Where in the value.
        place: String,
    },
    /// Several items for one interface.
    #[error("interface {0:?} is named by more than one item")]
    InterfaceTwice(String),
    /// Not a number, with or without a plus sign before it.
    #[error(
        "the value is not a number of addresses: it must be decimal digits, with at most one plus sign before them"
    )]
    Number,
    /// A negative number.
    #[error("the number of addresses cannot be negative")]
    Negative,
    /// A number beyond what any pool can hold.
    #[error("the number of addresses is above {}", u32::MAX)]
    TooLarge,
    /// Neither true nor false.
    #[error("the value is neither true nor false")]
    Bool,
    /// Several addresses of one family, of which an interface gets one.
    #[error("{place} names more than one {family} address, and an interface gets one of each IP version")]
    FamilyTwice {
        /// Where in the value.
        place: String,
        /// The family.
        family: spiderpool_ipam::Family,
    },
    /// A name with wildcards that cannot be read.
    #[error(transparent)]
    Pattern(spiderpool_ipam::candidates::BadPattern),
    /// An address that does not parse, or a route whose destination or next hop does not.
    #[error("{place}: {source}")]
    Address {
        /// Where in the value.
        place: String,
        /// What is wrong with it.
        source: spiderpool_ipam::TextError,
    },
}

/// Quotes a value, cut to a readable length.
struct Quote<'a>(&'a str);

impl fmt::Display for Quote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MAX_QUOTE) {
            Some((end, _)) => write!(f, "{:?}...", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}
