//! What an installation says of addresses that nobody gives back. Names of environment variables are those that charts and users
//! know.

use clap::Args;
use spiderpool_ipam::reclaim::Policy;
use std::time::Duration;

/// Options about addresses of pods of this node that no DEL freed.
#[derive(Clone, Debug, Args)]
pub struct Gc {
    /// Whether addresses are freed for what the node's sandboxes show. Without, only what a DEL told counts
    #[arg(
        long = "gc", env = "SPIDERPOOL_GC_IP_ENABLED", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, default_missing_value = "true"
    )]
    pub enabled: bool,

    /// Seconds between two checks of everything
    #[arg(
        long = "gc-interval-seconds", env = "SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION", default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub interval_seconds: u64,

    /// Seconds to wait after the grace of a pod
    #[arg(
        long = "gc-delay-seconds",
        env = "SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY",
        default_value_t = 0
    )]
    pub delay_seconds: u64,

    /// Whether pods that are being deleted may lose their addresses before their objects are gone
    #[arg(
        long = "gc-on-ready-node", env = "SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_READY_NODE_ENABLED",
        default_value_t = true, action = clap::ArgAction::Set
    )]
    pub on_ready_node: bool,

    /// Whether running pods lose their addresses when their status has none
    #[arg(
        long = "gc-without-addresses", env = "SPIDERPOOL_GC_ENABLE_STATELESS_RUNNING_POD_ON_EMPTY_POD_STATUS_IPS",
        default_value_t = false, action = clap::ArgAction::Set
    )]
    pub without_addresses: bool,
}

/// How this agent reclaims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// The switches and times. It is never switched off as a whole: what a DEL told is no guess.
    pub policy: Policy,
    /// Whether what the host shows counts.
    pub by_host: bool,
    /// Time between two checks of everything.
    pub every: Duration,
}

impl Default for Reclaim {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            by_host: true,
            every: Duration::from_secs(600),
        }
    }
}

impl From<&Gc> for Reclaim {
    fn from(gc: &Gc) -> Self {
        Self {
            policy: Policy {
                on_ready_node: gc.on_ready_node,
                without_addresses: gc.without_addresses && gc.enabled,
                delay: Duration::from_secs(gc.delay_seconds),
                ..Policy::default()
            },
            by_host: gc.enabled,
            every: Duration::from_secs(gc.interval_seconds.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        gc: Gc,
    }

    fn reclaim(words: &[&str]) -> Reclaim {
        let words = ["gc"].iter().chain(words);
        Reclaim::from(&Options::try_parse_from(words).unwrap().gc)
    }

    #[test]
    fn switched_off_only_what_dels_told_counts() {
        assert_eq!(reclaim(&[]), Reclaim::default());
        let off = reclaim(&["--gc=false", "--gc-without-addresses=true"]);
        assert!(off.policy.enabled && !off.by_host && !off.policy.without_addresses);
        let words = [
            "--gc-on-ready-node=false",
            "--gc-delay-seconds=7",
            "--gc-without-addresses=true",
        ];
        let policy = reclaim(&words).policy;
        assert!(!policy.on_ready_node && policy.without_addresses);
        assert_eq!(policy.delay, Duration::from_secs(7));
    }
}
