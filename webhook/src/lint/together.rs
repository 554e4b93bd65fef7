//! What annotations, each of them right, come to together and with the rest of the workload.

use serde_json::Value;
use spiderpool_crds::annotations;
use spiderpool_crds::app::AppKey;
use spiderpool_crds::names::{
    ANNOTATION_IP, ANNOTATION_IP_NUMBER, ANNOTATION_IPPOOL, ANNOTATION_IPPOOLS, ANNOTATION_RECLAIM, ANNOTATION_SUBNET,
    ANNOTATION_SUBNETS,
};
use spiderpool_crds::native::{Workload, about_stuck, addresses};
use spiderpool_crds::owner;
use spiderpool_ipam::rollout;

use super::pods::Pods;
use super::{Annotations, mistakes};

/// What asks for addresses: the first of these decides alone.
const LEVELS: [&str; 4] = [
    ANNOTATION_SUBNETS,
    ANNOTATION_SUBNET,
    ANNOTATION_IPPOOLS,
    ANNOTATION_IPPOOL,
];

/// What has an effect only beside an annotation that asks for automatic pools.
const OF_AUTOMATIC: [&str; 2] = [ANNOTATION_IP_NUMBER, ANNOTATION_RECLAIM];

/// What the author of an object should look at.
pub(super) fn advice(pods: Pods, object: &Value, own: &Annotations) -> Vec<String> {
    let mut advice = Vec::new();
    let mut say = |key: &str, message: &str| advice.push(format!("{}[{key}]: {message}", pods.field()));
    for key in own.keys() {
        if let Some(message) = mistakes::without_effect(key) {
            say(key, message);
        }
    }
    let mut asked = LEVELS.into_iter().filter(|key| own.contains_key(*key));
    let first = asked.next();
    for key in asked {
        let first = first.unwrap_or_default();
        say(
            key,
            &format!("it is not read, as {first} goes first; leave one of them out"),
        );
    }
    let automatic = LEVELS.into_iter().take(2).find(|key| own.contains_key(*key));
    match automatic {
        None => {
            let lonely = OF_AUTOMATIC.into_iter().filter(|key| own.contains_key(*key));
            let message = format!("it has no effect without {ANNOTATION_SUBNET} or {ANNOTATION_SUBNETS}");
            lonely.for_each(|key| say(key, &message));
        }
        Some(key) if pods == Pods::Pod => {
            let pod = AppKey::new("v1", "Pod", "", "");
            owner::refusal(&pod).into_iter().for_each(|why| say(key, &why));
        }
        Some(_) => {}
    }
    if let Some(workload) = pods.workload(object) {
        of_workload(&workload, automatic.is_some(), &mut say);
    }
    advice
}

fn of_workload(workload: &Workload, automatic: bool, say: &mut impl FnMut(&str, &str)) {
    let replicas = workload.replicas;
    let exact = annotations::exact_addresses(&workload.annotations).unwrap_or_default();
    if !exact.is_empty() && replicas > 1 {
        let message = format!("all {replicas} pods ask for the same address, and one of them gets it");
        say(ANNOTATION_IP, &message);
    }
    // The default is the configuration's, and what comes of it is told by the operator.
    let number = annotations::ip_number(&workload.annotations).ok().flatten();
    let Some(number) = number.filter(|_| automatic) else {
        return;
    };
    let size = number.of(replicas);
    let stuck = workload
        .rolling
        .and_then(|rolling| rollout::stuck(size, u32::try_from(replicas).unwrap_or(u32::MAX), rolling));
    if size < replicas {
        let message = format!(
            "{replicas} pods are to share {}, so that some have none",
            addresses(size)
        );
        say(ANNOTATION_IP_NUMBER, &message);
    } else if let Some(stuck) = stuck {
        say(ANNOTATION_IP_NUMBER, &about_stuck(size, stuck));
    }
}
