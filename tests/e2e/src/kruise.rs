//! What serves OpenKruise's kinds in the test cluster: its real manager, or our stand-in for CloneSets only.
//!
//! `cargo xtask test e2e` starts one of them once the product runs, so the kinds are always newer than the operator.

/// Says which one.
const VARIABLE: &str = "SPIDERPOOL_E2E_KRUISE";

/// Whether the real manager serves all of its kinds. Without it there are CloneSets only.
pub fn is_real() -> bool {
    std::env::var(VARIABLE).is_ok_and(|word| word == "manager")
}
