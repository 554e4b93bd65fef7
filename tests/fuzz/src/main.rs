//! libFuzzer's program: tries texts for the target that the environment names.
#![no_main]

use std::sync::OnceLock;

use spiderpool_fuzz::{TARGETS, Target, check};

/// Which target.
const TARGET: &str = "FUZZ_TARGET";

fn target() -> &'static Target {
    static TARGET_NAMED: OnceLock<Target> = OnceLock::new();
    TARGET_NAMED.get_or_init(|| {
        let name = std::env::var(TARGET).unwrap_or_default();
        let named = TARGETS.into_iter().find(|target| target.name == name);
        #[allow(clippy::expect_used, reason = "without a target there is nothing to do")]
        named.expect("FUZZ_TARGET names one of the targets")
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(target(), data));
