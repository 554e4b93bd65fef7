//! Which application an automatic pool belongs to, in the spellings that labels, affinities and status strings use.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::names::{
    AFFINITY_APP_GROUP, AFFINITY_APP_KIND, AFFINITY_APP_NAME, AFFINITY_APP_NAMESPACE, AFFINITY_APP_VERSION,
    LABEL_OWNER_APP_GV, LABEL_OWNER_APP_KIND, LABEL_OWNER_APP_NAME, LABEL_OWNER_APP_NAMESPACE,
};

/// An application: the top controller of its pods. Its text form is `group_version_Kind_namespace_name`, without the first
/// part for the core group; no part can contain an underscore.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppKey {
    /// API group, empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// A text that is not the key of an application.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not name an application; expected group_version_Kind_namespace_name or version_Kind_namespace_name"
)]
pub struct AppKeyError(pub String);

impl AppKey {
    /// The key of an object with this `apiVersion`, `apps/v1` or `v1` for example.
    pub fn new(api_version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The `apiVersion` of the application, `apps/v1` or `v1` for example.
    pub fn api_version(&self) -> String {
        join_group(&self.group, '/', &self.version)
    }

    /// Group and version as label value, `apps_v1` or `v1` for example.
    pub fn gv_label(&self) -> String {
        join_group(&self.group, '_', &self.version)
    }

    /// The application that the labels of an automatic pool name; none when one of them is missing or broken.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Option<Self> {
        let (group, version) = parse_gv_label(labels.get(LABEL_OWNER_APP_GV)?)?;
        Some(Self {
            group,
            version,
            kind: labels.get(LABEL_OWNER_APP_KIND)?.clone(),
            namespace: labels.get(LABEL_OWNER_APP_NAMESPACE)?.clone(),
            name: labels.get(LABEL_OWNER_APP_NAME)?.clone(),
        })
    }

    /// The `matchLabels` that make a pool the application's own.
    pub fn affinity(&self) -> BTreeMap<String, String> {
        self.affinity_pairs()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    /// Whether a pool with this podAffinity belongs to the application. All five keys must be there with its values; other
    /// keys and matchExpressions say nothing about an application and are not looked at.
    pub fn matches_selector(&self, selector: &LabelSelector) -> bool {
        let labels = selector.match_labels.as_ref();
        self.affinity_pairs().iter().all(|&(key, value)| {
            labels
                .and_then(|labels| labels.get(key))
                .is_some_and(|found| found == value)
        })
    }

    fn affinity_pairs(&self) -> [(&'static str, &str); 5] {
        [
            (AFFINITY_APP_GROUP, &self.group),
            (AFFINITY_APP_VERSION, &self.version),
            (AFFINITY_APP_KIND, &self.kind),
            (AFFINITY_APP_NAMESPACE, &self.namespace),
            (AFFINITY_APP_NAME, &self.name),
        ]
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}_{}", self.gv_label(), self.kind, self.namespace, self.name)
    }
}

impl FromStr for AppKey {
    type Err = AppKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('_').collect();
        let (group, version, kind, namespace, name) = match parts[..] {
            [version, kind, namespace, name] => ("", version, kind, namespace, name),
            [group, version, kind, namespace, name] => (group, version, kind, namespace, name),
            _ => return Err(AppKeyError(text.to_owned())),
        };
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// Group and version of a label value as [`AppKey::gv_label`] makes it.
pub fn parse_gv_label(value: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = value.split('_').collect();
    match parts[..] {
        [version] => Some((String::new(), version.to_owned())),
        [group, version] => Some((group.to_owned(), version.to_owned())),
        _ => None,
    }
}

fn join_group(group: &str, separator: char, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}{separator}{version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> AppKey {
        AppKey::new("apps/v1", "Deployment", "retail", "shop")
    }

    #[test]
    fn key_and_label_texts() {
        assert_eq!(shop().to_string(), "apps_v1_Deployment_retail_shop");
        assert_eq!(AppKey::new("v1", "Pod", "ns", "p").to_string(), "v1_Pod_ns_p");
        assert_eq!(shop().gv_label(), "apps_v1");
        assert_eq!(AppKey::new("v1", "Pod", "ns", "p").gv_label(), "v1");
        let clone_set = AppKey::new("apps.kruise.io/v1alpha1", "CloneSet", "retail", "web");
        assert_eq!(clone_set.gv_label(), "apps.kruise.io_v1alpha1");
        assert_eq!(clone_set.api_version(), "apps.kruise.io/v1alpha1");
        assert_eq!(parse_gv_label("a_b_c"), None);
        assert_eq!(parse_gv_label("apps_v1"), Some(("apps".to_owned(), "v1".to_owned())));
    }

    #[test]
    fn keys_round_trip_and_others_are_refused() {
        for key in [shop(), AppKey::new("v1", "Pod", "ns", "p")] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "a_b_c", "a_b_c_d_e_f"] {
            assert_eq!(text.parse::<AppKey>(), Err(AppKeyError(text.to_owned())));
        }
    }

    #[test]
    fn affinity_matches_only_its_own_application() {
        let selector = LabelSelector {
            match_labels: Some(shop().affinity()),
            ..LabelSelector::default()
        };
        assert!(shop().matches_selector(&selector));
        let replica_set = AppKey::new("apps/v1", "ReplicaSet", "retail", "shop");
        assert!(!replica_set.matches_selector(&selector));
        assert!(!shop().matches_selector(&LabelSelector::default()));
        assert_eq!(shop().affinity().len(), 5);
    }

    #[test]
    fn core_group_needs_the_empty_value() {
        let pod = AppKey::new("v1", "ReplicationController", "ns", "p");
        assert_eq!(pod.affinity()[AFFINITY_APP_GROUP], "");
        let selector = LabelSelector {
            match_labels: Some(pod.affinity()),
            ..LabelSelector::default()
        };
        assert!(pod.matches_selector(&selector));
    }
}
