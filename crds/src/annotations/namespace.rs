//! The annotations of a namespace that name its default pools.

use super::{AnnotationError, Annotations, PoolRequest, json};
use crate::names::{ANNOTATION_DEFAULT_IPV4_IPPOOL, ANNOTATION_DEFAULT_IPV6_IPPOOL};

/// Reads `ipam.spidernet.io/default-ipv4-ippool` and `default-ipv6-ippool`; none when neither names a pool.
pub fn namespace_pools(annotations: &Annotations) -> Result<Option<PoolRequest>, AnnotationError> {
    let request = PoolRequest {
        ipv4: names(annotations, ANNOTATION_DEFAULT_IPV4_IPPOOL)?,
        ipv6: names(annotations, ANNOTATION_DEFAULT_IPV6_IPPOOL)?,
    };
    let empty = request.ipv4.is_empty() && request.ipv6.is_empty();
    Ok((!empty).then_some(request))
}

fn names(annotations: &Annotations, key: &'static str) -> Result<Vec<String>, AnnotationError> {
    // An annotation that was emptied means the same as one that was removed.
    let Some(text) = annotations.get(key).filter(|text| !text.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    let parsed = json::parse(text).and_then(|value| json::names(&value, "the value"));
    parsed.map_err(|problem| AnnotationError {
        key,
        text: text.clone(),
        problem: problem.into(),
        example: r#"["pool-a","pool-b"]"#,
    })
}
