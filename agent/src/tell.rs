//! Events on a pod that gets no address: who asks `kubectl describe pod` is told why.
//!
//! The plugin's error reaches the pod as well, through the kubelet, but in one line with what the runtime adds, and with each
//! sandbox's ID. Here the same reason is the same text, one line for each pool, so the recorder writes it once however often
//! the kubelet tries.

use crate::context::Context;
use crate::error::RequestError;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use spiderpool_crds::{NicDetail, Route, names};
use spiderpool_kit::events::Severity;

/// Reason of the Event on a pod whose ADD failed.
pub const FAILED: &str = "IPAllocationFailed";

/// Reason of the Event on a pod that waits for its application's pool.
pub const WAITING: &str = "WaitingForIPPool";

/// Reason of the Event on a pod whose annotation asks for routes that cannot be set up.
pub const UNREACHED: &str = "RouteUnreachable";

/// Reason of the Event on a pod whose address another one has on record, or that cannot be put back on record.
pub const LOST: &str = "AddressLost";

const ACTION: &str = "AllocateIP";

/// What the text of a failure begins with; other software looks for it.
const PREFIX: &str = "spiderpool IP allocation error: ";

/// Longest text of an Event that the API server accepts, in bytes.
const LONGEST: usize = 1024;

/// Room for the line that counts what did not fit.
const REST: usize = 16;

/// Tells a pod why its ADD failed.
pub fn failed(context: &Context, pod: &Pod, error: &RequestError) {
    if let Some(note) = note(error) {
        let about = pod.object_ref(&());
        context.recorder.tell(about, Severity::Warning, FAILED, ACTION, &note);
    }
}

/// Tells a pod what it waits for, and why it may wait for long.
pub fn waiting(context: &Context, pod: &Pod, error: &RequestError) {
    let about = pod.object_ref(&());
    let note = lines("still waiting: ", error);
    context.recorder.tell(about, Severity::Normal, WAITING, ACTION, &note);
}

/// Tells a pod which routes of its annotation are not set up, as no NIC has an address from which the gateway can be reached.
pub fn unreached(context: &Context, pod: &Pod, nics: &[NicDetail], routes: &[&Route]) {
    let (about, note) = (pod.object_ref(&()), unreached_note(nics, routes));
    context
        .recorder
        .tell(about, Severity::Warning, UNREACHED, ACTION, &note);
}

/// Tells a pod that the address it uses is not its own any more.
pub fn lost(context: &Context, pod: &Pod, note: &str) {
    let note: String = note.chars().take(LONGEST).collect();
    let about = pod.object_ref(&());
    context.recorder.tell(about, Severity::Warning, LOST, ACTION, &note);
}

/// The text of the Event about routes, which is cut where it is too long.
pub fn unreached_note(nics: &[NicDetail], routes: &[&Route]) -> String {
    let own = nics.iter().flat_map(|item| {
        let addresses = [&item.ipv4, &item.ipv6].into_iter().flatten();
        addresses.map(|address| format!("{} {address}", item.interface))
    });
    let own: Vec<String> = own.collect();
    let routes: Vec<String> = routes
        .iter()
        .map(|route| format!("{} via {}", route.dst, route.gw))
        .collect();
    let note = format!(
        "routes of annotation {} are not set up: {}; none of the pod's addresses is in a subnet with that gateway: {}",
        names::ANNOTATION_ROUTES,
        routes.join(", "),
        own.join(", ")
    );
    note.chars().take(LONGEST).collect()
}

/// The text of the Event of a failure; none where there is no pod to tell or no Event can be made, or where it is the agent's own matter.
pub fn note(error: &RequestError) -> Option<String> {
    match error {
        RequestError::UnknownPod { .. }
        | RequestError::OtherNode { .. }
        | RequestError::DeadPod { .. }
        | RequestError::NamespaceEnds { .. }
        | RequestError::Cancelled { .. }
        | RequestError::Busy { .. }
        | RequestError::Overtaken { .. }
        | RequestError::NotReady { .. } => None,
        RequestError::Annotation { .. }
        | RequestError::NamespaceAnnotation { .. }
        | RequestError::Unfit { .. }
        | RequestError::Owner { .. }
        | RequestError::NoPool { .. }
        | RequestError::Pool(_)
        | RequestError::Api { .. } => Some(lines(PREFIX, error)),
    }
}

/// The error with a line for each reason, as many as fit.
fn lines(prefix: &str, error: &RequestError) -> String {
    let RequestError::NoPool { reasons, .. } = error else {
        return format!("{prefix}{error}");
    };
    let mut text = format!("{prefix}{}:", error.headline());
    for (at, reason) in reasons.iter().enumerate() {
        let left = reasons.len() - at;
        // The last line needs no room for the count of those after it.
        let rest = if left == 1 { 0 } else { REST };
        if at > 0 && text.len() + 1 + reason.len() + rest > LONGEST {
            return format!("{text}\nand {left} more");
        }
        text.push('\n');
        text.push_str(reason);
    }
    text
}

#[cfg(test)]
mod tests;
