//! Kinds that nobody configured, found through their pods.
//!
//! A pod that asks for a pool names its controller. That the controller really exists is checked live, with its UID: anybody
//! who may make pods can write any reference into one.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::Api;
use kube::core::DynamicObject;
use spiderpool_crds::owner;
use spiderpool_kit::deadline::within;
use spiderpool_kit::queue::Outcome;

use super::owner::Led;
use super::{FOUND_MAX, KindId, rights};
use crate::context::Context;
use crate::events::{Reason, tell};
use crate::triggers::workloads;
use crate::write::DEADLINE;

/// Pause before a kind is tried again that we may not read. Whoever grants the right does not tell us.
const AFTER_REFUSAL: Duration = Duration::from_secs(15);

/// Looks at an application of a kind that is not watched, and has the kind watched if it may have pools.
pub async fn consider(context: &Context, candidate: &Led) -> Outcome {
    let key = &candidate.key;
    let id = KindId::new(&*key.group, &*key.kind);
    if owner::is_core(&key.group) || owner::is_native(&key.group, &key.kind) || context.kinds.is_wanted(&id) {
        return Outcome::Done;
    }
    if let Some(why) = context.kinds.unsupported(&id) {
        return unsupported(context, candidate, &why);
    }
    if let Some(text) = context.kinds.refusals.text_since(&id, AFTER_REFUSAL) {
        rights::also(context, &id, &subnets(context, candidate), candidate, &text);
        return Outcome::After(AFTER_REFUSAL);
    }
    let asking = workloads::pods_of(context, &candidate.uid);
    if asking.is_empty() {
        return Outcome::Done;
    }
    // A definition that comes later brings its pods back here.
    let Some(facts) = context.kinds.facts(&id) else {
        return unsupported(
            context,
            candidate,
            &format!("the cluster has no CustomResourceDefinition of {id}"),
        );
    };
    if !facts.namespaced {
        return unsupported(
            context,
            candidate,
            &format!("objects of {id} live outside of namespaces"),
        );
    }
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &key.namespace, &facts.resource);
    let what = format!("reading {} {}/{}", key.kind, key.namespace, key.name);
    let object = match within(DEADLINE, what, api.get_opt(&key.name)).await {
        Ok(object) => object,
        Err(failure) if failure.is_forbidden() => {
            let said = failure
                .status()
                .map_or_else(|| failure.to_string(), |status| status.message.clone());
            let text = rights::refused(context, &id, &said, subnets(context, candidate));
            rights::told(context, candidate.reference(), &text);
            return Outcome::After(AFTER_REFUSAL);
        }
        Err(failure) => return Outcome::retry(failure),
    };
    rights::granted(context, &id);
    let Some(object) = object.filter(|object| object.metadata.uid.as_ref() == Some(&candidate.uid)) else {
        return Outcome::Done;
    };
    let templated = object
        .data
        .pointer("/spec/template")
        .is_some_and(serde_json::Value::is_object);
    if facts.replicas_path.is_none() && !templated {
        return unsupported(
            context,
            candidate,
            &format!("{id} has neither a scale subresource nor spec.template"),
        );
    }
    if !context.kinds.want(id) {
        let why = format!("{FOUND_MAX} kinds are watched already; list this one in the chart's workloadKinds");
        return unsupported(context, candidate, &why);
    }
    Outcome::Done
}

/// The subnets that an application's pods name.
fn subnets(context: &Context, candidate: &Led) -> BTreeSet<String> {
    let asking = workloads::pods_of(context, &candidate.uid);
    asking.iter().flat_map(|pod| pod.subnets()).collect()
}

fn unsupported(context: &Context, candidate: &Led, why: &str) -> Outcome {
    let key = &candidate.key;
    context
        .kinds
        .set_unsupported(KindId::new(&*key.group, &*key.kind), why.to_owned());
    if context.leadership.is_leader() {
        let note = format!("no automatic pool: {why}");
        tell(&context.recorder, candidate.reference(), Reason::KindUnsupported, &note);
    }
    Outcome::Done
}
