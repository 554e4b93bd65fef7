//! By what the container runtime knows a pod, and what its object says of its end.

mod told;

pub use told::{Container, Told, seen};

use crate::names::{ANNOTATION_CONFIG_HASH, ANNOTATION_CONFIG_MIRROR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The UID by which the kubelet and the container runtime know a pod, which is what CNI plugins are given. It is that of the
/// object, but for static pods: the kubelet makes these of files and shows them to the API server as mirrors, whose own UID
/// the runtime has never heard of.
pub fn runtime_uid(meta: &ObjectMeta) -> Option<&str> {
    let annotation = |key: &str| {
        let text = meta.annotations.as_ref()?.get(key)?;
        Some(text.as_str()).filter(|text| !text.is_empty())
    };
    match annotation(ANNOTATION_CONFIG_MIRROR) {
        None => meta.uid.as_deref(),
        Some(mirrored) => annotation(ANNOTATION_CONFIG_HASH).or(Some(mirrored)),
    }
}

/// Whether an annotation is needed to tell the UID.
pub fn tells_runtime_uid(key: &str) -> bool {
    key == ANNOTATION_CONFIG_MIRROR || key == ANNOTATION_CONFIG_HASH
}

/// Whether a UID has the form that the API server gives it, eight digits, three times four, twelve. The kubelet starts a static
/// pod without waiting for its mirror, and gives it a hash.
pub fn is_from_api_server(uid: &str) -> bool {
    let parts: Vec<&str> = uid.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const OBJECT: &str = "3f0c8d2e-6c51-4a0e-9d9b-2f5f7a1c9e11";
    const HASH: &str = "0d3f0f5e5f0e4a4b9a360f5d6f4e2a10";

    #[test]
    fn the_runtime_knows_a_static_pod_by_the_hash_of_its_file() {
        for (annotations, expected) in [
            (json!({}), OBJECT),
            (
                json!({ANNOTATION_CONFIG_MIRROR: HASH, ANNOTATION_CONFIG_HASH: HASH}),
                HASH,
            ),
            (json!({ANNOTATION_CONFIG_MIRROR: HASH}), HASH),
            // Who is no mirror says nothing about itself with this.
            (json!({ANNOTATION_CONFIG_HASH: HASH}), OBJECT),
            (
                json!({ANNOTATION_CONFIG_MIRROR: "", ANNOTATION_CONFIG_HASH: HASH}),
                OBJECT,
            ),
            (Value::Null, OBJECT),
        ] {
            let meta: ObjectMeta = serde_json::from_value(json!({"uid": OBJECT, "annotations": annotations})).unwrap();
            assert_eq!(runtime_uid(&meta), Some(expected), "{annotations}");
        }
        assert_eq!(runtime_uid(&ObjectMeta::default()), None);
    }

    #[test]
    fn the_api_server_gives_uids_a_form() {
        assert!(is_from_api_server(OBJECT));
        for other in [
            "",
            "u",
            HASH,
            "3f0c8d2e-6c51-4a0e-9d9b",
            "zf0c8d2e-6c51-4a0e-9d9b-2f5f7a1c9e11",
        ] {
            assert!(!is_from_api_server(other), "{other}");
        }
    }
}
