//! What an installation and its pools say of reclaim. Names of environment variables are those that charts and users know.

use std::time::Duration;

use clap::{Args, ValueEnum};
use spiderpool_crds::IPPoolSpec;
use spiderpool_ipam::reclaim::{OnNodeLost, Policy};

/// Options about addresses of pods that nobody gives back.
#[derive(Clone, Debug, Args)]
pub struct Gc {
    /// Whether addresses of pods that are gone are freed where no agent does it.
    #[arg(
        long = "gc", env = "SPIDERPOOL_GC_IP_ENABLED", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, default_missing_value = "true"
    )]
    pub enabled: bool,

    /// Seconds between two checks of everything.
    #[arg(
        long = "gc-interval-seconds", env = "SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION", default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub interval_seconds: u64,

    /// Seconds to wait after the grace of a pod.
    #[arg(
        long = "gc-delay-seconds",
        env = "SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY",
        default_value_t = 0
    )]
    pub delay_seconds: u64,

    /// What becomes of the addresses of pods whose node is lost, where a pool does not say otherwise.
    #[arg(long = "gc-on-node-lost", env = "SPIDERPOOL_GC_ON_NODE_LOST", value_enum, default_value_t = Lost::OutOfService)]
    pub on_node_lost: Lost,

    /// Seconds after which a node counts as lost for good, where the policy is After.
    #[arg(
        long = "gc-on-node-lost-after-seconds",
        env = "SPIDERPOOL_GC_ON_NODE_LOST_AFTER",
        default_value_t = 300
    )]
    pub on_node_lost_after_seconds: u64,

    /// Older word for the policy: true frees when the grace of a pod is over, false keeps. If set, it comes first.
    #[arg(
        long = "gc-on-not-ready-node", env = "SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_NOT_READY_NODE_ENABLED",
        action = clap::ArgAction::Set
    )]
    pub on_not_ready_node: Option<bool>,

    /// Whether pods that finished or are being deleted may lose their addresses on a Ready node before their objects are gone.
    #[arg(
        long = "gc-on-ready-node", env = "SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON_READY_NODE_ENABLED",
        default_value_t = true, action = clap::ArgAction::Set
    )]
    pub on_ready_node: bool,

    /// Whether running pods lose their addresses when their status has none.
    #[arg(
        long = "gc-without-addresses", env = "SPIDERPOOL_GC_ENABLE_STATELESS_RUNNING_POD_ON_EMPTY_POD_STATUS_IPS",
        default_value_t = false, action = clap::ArgAction::Set
    )]
    pub without_addresses: bool,
}

/// The words for policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Lost {
    /// Keep them until the node is back.
    Keep,
    /// Free them when the node has been lost for a time.
    After,
    /// Free them when the Node was deleted or is tainted out-of-service.
    OutOfService,
}

/// How this installation reclaims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What holds where a pool says nothing.
    pub policy: Policy,
    /// The time of a pool that says After and no time.
    pub after: Duration,
    /// Time between two checks of everything.
    pub every: Duration,
}

impl From<&Gc> for Settings {
    fn from(gc: &Gc) -> Self {
        let after = Duration::from_secs(gc.on_node_lost_after_seconds);
        let on_node_lost = match (gc.on_not_ready_node, gc.on_node_lost) {
            (Some(true), _) => OnNodeLost::After(Duration::ZERO),
            (Some(false), _) | (None, Lost::Keep) => OnNodeLost::Keep,
            (None, Lost::After) => OnNodeLost::After(after),
            (None, Lost::OutOfService) => OnNodeLost::OutOfService,
        };
        Self {
            policy: Policy {
                enabled: gc.enabled,
                on_node_lost,
                on_ready_node: gc.on_ready_node,
                without_addresses: gc.without_addresses,
                delay: Duration::from_secs(gc.delay_seconds),
            },
            after,
            every: Duration::from_secs(gc.interval_seconds.max(1)),
        }
    }
}

impl Settings {
    /// What holds for a pool. A word that nobody knows is of a later version, and keeps.
    pub fn on_node_lost(&self, pool: &IPPoolSpec) -> OnNodeLost {
        let Some(word) = pool.on_node_lost.as_deref() else {
            return self.policy.on_node_lost;
        };
        let time = pool
            .on_node_lost_after_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        OnNodeLost::parse(word, time.map_or(self.after, Duration::from_secs)).unwrap_or(OnNodeLost::Keep)
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

    fn settings(words: &[&str]) -> Settings {
        let words = ["gc"].iter().chain(words);
        Settings::from(&Options::try_parse_from(words).unwrap().gc)
    }

    #[test]
    fn without_a_word_nodes_have_to_be_off_for_certain() {
        let expected = Settings {
            policy: Policy::default(),
            after: Duration::from_secs(300),
            every: Duration::from_secs(600),
        };
        assert_eq!(settings(&[]), expected);
    }

    #[test]
    fn the_older_switch_comes_first_if_it_is_set() {
        let lost = |words: &[&str]| settings(words).policy.on_node_lost;
        assert_eq!(
            lost(&["--gc-on-node-lost=After"]),
            OnNodeLost::After(Duration::from_secs(300))
        );
        assert_eq!(lost(&["--gc-on-node-lost=Keep"]), OnNodeLost::Keep);
        let both = |switch| lost(&["--gc-on-node-lost=OutOfService", switch]);
        assert_eq!(both("--gc-on-not-ready-node=true"), OnNodeLost::After(Duration::ZERO));
        assert_eq!(both("--gc-on-not-ready-node=false"), OnNodeLost::Keep);
    }

    #[test]
    fn a_pool_says_otherwise() {
        let settings = settings(&["--gc-on-not-ready-node=false", "--gc-on-node-lost-after-seconds=60"]);
        let of = |word: Option<&str>, seconds| {
            settings.on_node_lost(&IPPoolSpec {
                on_node_lost: word.map(str::to_owned),
                on_node_lost_after_seconds: seconds,
                ..IPPoolSpec::default()
            })
        };
        assert_eq!(of(None, Some(5)), OnNodeLost::Keep);
        assert_eq!(of(Some("OutOfService"), None), OnNodeLost::OutOfService);
        assert_eq!(of(Some("After"), None), OnNodeLost::After(Duration::from_secs(60)));
        assert_eq!(of(Some("After"), Some(5)), OnNodeLost::After(Duration::from_secs(5)));
        assert_eq!(of(Some("Soon"), Some(5)), OnNodeLost::Keep);
    }
}
