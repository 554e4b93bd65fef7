//! The webhook's certificate: made, trusted, renewed and healed.
//!
//! The operator has a CA of its own for the webhook, and tells the API servers to trust it by the `caBundle` of the webhook
//! configurations. CA and certificate are replaced long before they end, in an order in which no request meets a certificate that
//! is not trusted yet or any more ([`decide`]). What people delete or damage is made again as soon as the watch tells.
//!
//! | module | what |
//! |---|---|
//! | [`decide`] | what is to be done, without IO and clock |
//! | [`policy`] | how long certificates live |
//! | [`make`] | keys and certificates |
//! | [`x509`] | certificates as text |
//! | [`objects`] | Secrets and webhook configurations |
//! | [`keeper`] | watches, decides, writes |

pub mod decide;
pub mod keeper;
pub mod make;
pub mod objects;
mod options;
pub mod policy;
pub mod x509;

pub use keeper::start;
pub use options::{Options, Settings};
