//! What can be said of one annotation of a pod alone, by the parsers that decide what becomes of the pod.

use spiderpool_ipam::candidates::{Pattern, is_pattern};

use super::{
    AnnotationError, Annotations, PoolRequest, Problem, exact_addresses, ip_number, ippool, ippools, pools, reclaim,
    routes, subnet_request,
};
use crate::names::{
    ANNOTATION_DEFAULT_ROUTE_NIC, ANNOTATION_IP, ANNOTATION_IP_NUMBER, ANNOTATION_IPPOOL, ANNOTATION_IPPOOLS,
    ANNOTATION_RECLAIM, ANNOTATION_ROUTES, ANNOTATION_SUBNET, ANNOTATION_SUBNETS,
};

/// The annotations of ours that pods can have.
pub const POD_KEYS: [&str; 9] = [
    ANNOTATION_SUBNETS,
    ANNOTATION_SUBNET,
    ANNOTATION_IP_NUMBER,
    ANNOTATION_RECLAIM,
    ANNOTATION_IPPOOLS,
    ANNOTATION_IPPOOL,
    ANNOTATION_IP,
    ANNOTATION_ROUTES,
    ANNOTATION_DEFAULT_ROUTE_NIC,
];

/// What is wrong with the value of an annotation of a pod, if something is. Of other keys nothing is known.
pub fn fault(key: &str, text: &str) -> Option<AnnotationError> {
    let alone = Annotations::from([(key.to_owned(), text.to_owned())]);
    match key {
        ANNOTATION_SUBNETS | ANNOTATION_SUBNET => subnet_request(&alone).err(),
        ANNOTATION_IP_NUMBER => ip_number(&alone).err(),
        ANNOTATION_RECLAIM => reclaim(&alone).err(),
        ANNOTATION_IPPOOLS => match ippools(&alone) {
            Err(error) => Some(error),
            Ok(items) => {
                let requests = items.iter().flatten().map(|item| &item.pools);
                bad_pattern(requests).map(|problem| pools::wrong_list(text, problem))
            }
        },
        ANNOTATION_IPPOOL => match ippool(&alone) {
            Err(error) => Some(error),
            Ok(request) => bad_pattern(request.iter()).map(|problem| pools::wrong_object(text, problem)),
        },
        ANNOTATION_IP => exact_addresses(&alone).err(),
        ANNOTATION_ROUTES => routes(&alone).err(),
        _ => None,
    }
}

/// The first name that looks like a pattern and is none.
fn bad_pattern<'a>(requests: impl IntoIterator<Item = &'a PoolRequest>) -> Option<Problem> {
    let mut names = requests
        .into_iter()
        .flat_map(|request| request.ipv4.iter().chain(&request.ipv6));
    let bad = |name: &String| is_pattern(name).then(|| Pattern::parse(name).err()).flatten();
    names.find_map(bad).map(Problem::Pattern)
}
