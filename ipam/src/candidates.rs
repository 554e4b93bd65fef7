//! Which pools a NIC's request may use, in which order, and why each other pool may not serve it.
//!
//! One level decides: the first that is present of annotations, namespace defaults, CNI configuration and default pools
//! ([`deciding`]). Every pool that it names gets one [`Verdict`] per family ([`verdicts`]): chosen, or rejected with one
//! reason that ends up in the pod's Event. Whoever allocates, explains or predicts asks the same functions.
//!
//! | part | rule |
//! |---|---|
//! | `level` | what is asked for, and which level decides |
//! | `pattern` | names with wildcards |
//! | `facts`, `selector` | what is known of a pool and of a pod's NIC |
//! | `check` | may this pool serve this NIC? |
//! | `verdict` | every pool that is named, and the order of those that may serve |
//! | `rejection` | the reasons, as stable words and as text |

mod check;
mod facts;
mod level;
mod pattern;
mod rejection;
mod selector;
mod verdict;

pub use check::check;
pub use facts::{Master, PodFacts, PodRule, PoolFacts, Room};
pub use level::{Asked, Level, Unasked, deciding};
pub use pattern::{BadPattern, Pattern, is_pattern};
pub use rejection::{Rejection, Term};
pub use selector::{Expression, Selector};
pub use verdict::{Verdict, Verdicts, order, verdicts};
