//! The one rule of whom a pod belongs to, so that the agent asks for the very pool that the operator makes.
//!
//! A ReplicaSet or Job is often just how another controller makes its pods: then the other is the application. A controller
//! that is more than that (a Deployment, a StatefulSet, a DaemonSet, any kind that is not native) is the application
//! whoever made it, since its owner need not know how many pods there are. So a climb goes on only from a ReplicaSet or Job.

use crate::app::AppKey;

const APPS: &str = "apps";
const BATCH: &str = "batch";
const REPLICA_SET: (&str, &str) = (APPS, "ReplicaSet");
const JOB: (&str, &str) = (BATCH, "Job");

/// Kinds that the operator watches in every cluster.
const NATIVE: [(&str, &str); 6] = [
    (APPS, "Deployment"),
    REPLICA_SET,
    (APPS, "StatefulSet"),
    (APPS, "DaemonSet"),
    JOB,
    (BATCH, "CronJob"),
];

/// Those that have a scale subresource, in every version of Kubernetes.
const SCALING: [(&str, &str); 3] = [(APPS, "Deployment"), REPLICA_SET, (APPS, "StatefulSet")];

/// How many steps a climb has at most. References that anybody may write can lead in a circle.
pub const MAX_STEPS: usize = 4;

/// Who the application is: a pod's controller, or the controller above that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Above {
    /// The owner.
    Owner,
    /// The child, whoever owns it.
    Itself,
    /// The owner if any served version of its kind has a scale subresource or the configuration lists it, else the child.
    ///
    /// Agents learn that by discovery and the operator from CustomResourceDefinitions. So where an extension API server
    /// serves the owner's kind, its ReplicaSets and Jobs cannot have automatic pools.
    IfItScales,
}

/// Whether the pods of a controller belong to it or to its own controller. Each is an API group, empty for the core group,
/// and a kind. An owner that is a ReplicaSet or Job itself is then asked about as a child, up to [`MAX_STEPS`] times.
pub fn above(child: (&str, &str), owner: (&str, &str)) -> Above {
    match (child, owner) {
        (JOB, (BATCH, "CronJob")) => Above::Owner,
        (REPLICA_SET | JOB, owner) if SCALING.contains(&owner) => Above::Owner,
        (REPLICA_SET | JOB, (group, kind)) if !is_core(group) && !is_native(group, kind) => Above::IfItScales,
        _ => Above::Itself,
    }
}

/// Whether a kind is one of those that every cluster has and that can have pools.
pub fn is_native(group: &str, kind: &str) -> bool {
    NATIVE.contains(&(group, kind))
}

/// Whether a group is the core group, whose kinds (Pod, ReplicationController) have no automatic pools.
pub const fn is_core(group: &str) -> bool {
    group.is_empty()
}

/// Why an application cannot have pools of its own, if it cannot.
pub fn refusal(app: &AppKey) -> Option<String> {
    if !is_core(&app.group) {
        return None;
    }
    Some(if app.kind == "Pod" {
        "a no-controller Pod cannot have a pool of its own; remove the subnet annotation or create it through a Deployment or \
         another workload"
            .to_owned()
    } else {
        format!(
            "the pods of a {} cannot have a pool of their own, since kinds of the core group have none; remove the subnet \
             annotation or create them through a Deployment or another workload",
            app.kind
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_sets_and_jobs_belong_to_what_makes_them() {
        for owner in ["Deployment", "ReplicaSet", "StatefulSet"] {
            assert_eq!(above(REPLICA_SET, ("apps", owner)), Above::Owner, "{owner}");
            assert_eq!(above(JOB, ("apps", owner)), Above::Owner, "{owner}");
        }
        assert_eq!(above(JOB, ("batch", "CronJob")), Above::Owner);
        for owner in [("apps", "DaemonSet"), ("batch", "Job")] {
            assert_eq!(above(REPLICA_SET, owner), Above::Itself, "{owner:?}");
            assert_eq!(above(JOB, owner), Above::Itself, "{owner:?}");
        }
        assert_eq!(above(REPLICA_SET, ("batch", "CronJob")), Above::Itself);
        for owner in [
            ("argoproj.io", "Rollout"),
            ("apps.kruise.io", "AdvancedCronJob"),
            ("apps.kruise.io", "StatefulSet"),
            ("example.org", "Deployment"),
        ] {
            assert_eq!(above(REPLICA_SET, owner), Above::IfItScales, "{owner:?}");
            assert_eq!(above(JOB, owner), Above::IfItScales, "{owner:?}");
        }
    }

    #[test]
    fn other_controllers_are_applications_whoever_owns_them() {
        for child in [
            ("apps", "Deployment"),
            ("apps", "StatefulSet"),
            ("apps", "DaemonSet"),
            ("batch", "CronJob"),
            ("apps.kruise.io", "CloneSet"),
            ("example.org", "ReplicaSet"),
        ] {
            assert_eq!(above(child, ("argoproj.io", "Rollout")), Above::Itself, "{child:?}");
            assert_eq!(above(child, ("apps", "Deployment")), Above::Itself, "{child:?}");
        }
    }

    #[test]
    fn core_kinds_are_never_applications() {
        assert_eq!(above(REPLICA_SET, ("", "ReplicationController")), Above::Itself);
        assert_eq!(above(JOB, ("", "Node")), Above::Itself);
        assert!(is_core("") && !is_core("apps"));
        assert!(!is_native("", "Pod") && !is_native("", "Deployment"));
    }

    #[test]
    fn native_kinds_are_told_by_group_and_kind() {
        for (group, kind) in NATIVE {
            assert!(is_native(group, kind));
        }
        assert!(!is_native("apps.kruise.io", "StatefulSet"));
        assert!(!is_native("apps", "ControllerRevision"));
    }

    #[test]
    fn kinds_of_the_core_group_have_no_pools() {
        let refused = |api_version: &str, kind: &str| refusal(&AppKey::new(api_version, kind, "retail", "shop"));
        assert!(refused("v1", "Pod").unwrap().contains("a no-controller Pod"));
        for kind in ["ReplicationController", "Node"] {
            assert!(
                refused("v1", kind)
                    .unwrap()
                    .contains(&format!("the pods of a {kind} cannot have a pool"))
            );
        }
        assert_eq!(refused("apps/v1", "Deployment"), None);
        assert_eq!(refused("argoproj.io/v1alpha1", "Rollout"), None);
    }
}
