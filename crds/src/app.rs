//! Which application an automatic pool belongs to, in the spellings that labels, affinities and status strings use.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::label::{label_value, whole};
use crate::names::{
    AFFINITY_APP_GROUP, AFFINITY_APP_KIND, AFFINITY_APP_NAME, AFFINITY_APP_NAMESPACE, AFFINITY_APP_VERSION,
    LABEL_OWNER_APP_GV, LABEL_OWNER_APP_KIND, LABEL_OWNER_APP_NAME, LABEL_OWNER_APP_NAMESPACE,
};
use crate::types::SpiderIPPool;

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

    /// Group and version as they stand in a label, `apps_v1` or `v1` for example, whole.
    pub fn gv_label(&self) -> String {
        join_group(&self.group, '_', &self.version)
    }

    /// The application that an automatic pool is labelled with; none when a label is missing or broken.
    ///
    /// A label that was cut is completed from the annotation of the same key or, should that be lost, from the podAffinity.
    pub(crate) fn of_pool(pool: &SpiderIPPool) -> Option<Self> {
        let labels = pool.metadata.labels.as_ref()?;
        let annotations = pool.metadata.annotations.as_ref();
        let affinity = pool
            .spec
            .pod_affinity
            .as_ref()
            .and_then(|all| all.match_labels.as_ref());
        let affine = |key: &str| affinity.and_then(|all| all.get(key)).map(String::as_str);
        let whole = |key: &str, affine: Option<&str>| {
            let annotated = annotations.and_then(|all| all.get(key)).map(String::as_str);
            Some(whole(labels.get(key)?, annotated.into_iter().chain(affine)).to_owned())
        };
        let group_version = affine(AFFINITY_APP_GROUP)
            .zip(affine(AFFINITY_APP_VERSION))
            .map(|(group, version)| join_group(group, '_', version));
        let (group, version) = parse_gv_label(&whole(LABEL_OWNER_APP_GV, group_version.as_deref())?)?;
        Some(Self {
            group,
            version,
            kind: whole(LABEL_OWNER_APP_KIND, affine(AFFINITY_APP_KIND))?,
            namespace: whole(LABEL_OWNER_APP_NAMESPACE, affine(AFFINITY_APP_NAMESPACE))?,
            name: whole(LABEL_OWNER_APP_NAME, affine(AFFINITY_APP_NAME))?,
        })
    }

    /// The labels that say whose an automatic pool is.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let pairs = self.label_pairs().into_iter();
        pairs
            .map(|(key, name)| (key.to_owned(), label_value(&name).into_owned()))
            .collect()
    }

    /// The annotations that say what [`Self::labels`] had to cut; usually none.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let pairs = self.label_pairs().into_iter();
        pairs
            .filter(|(_, name)| label_value(name) != *name)
            .map(|(key, name)| (key.to_owned(), name))
            .collect()
    }

    fn label_pairs(&self) -> [(&'static str, String); 4] {
        [
            (LABEL_OWNER_APP_GV, self.gv_label()),
            (LABEL_OWNER_APP_KIND, self.kind.clone()),
            (LABEL_OWNER_APP_NAMESPACE, self.namespace.clone()),
            (LABEL_OWNER_APP_NAME, self.name.clone()),
        ]
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

    fn pool_of(app: &AppKey) -> SpiderIPPool {
        let mut pool = SpiderIPPool::default();
        pool.metadata.labels = Some(app.labels());
        pool.metadata.annotations = Some(app.annotations());
        pool.spec.pod_affinity = Some(LabelSelector {
            match_labels: Some(app.affinity()),
            ..LabelSelector::default()
        });
        pool
    }

    #[test]
    fn a_pool_says_its_application_however_long_its_name() {
        let group = format!("{}.example.org/v1", "g".repeat(60));
        let long = AppKey::new(&group, "Set", "retail", &"n".repeat(253));
        assert_eq!(long.annotations().len(), 2);
        assert!(long.labels().values().all(|value| value.len() <= 63));
        assert_eq!(pool_of(&long).app_key(), Some(long));
        assert!(shop().annotations().is_empty());
        assert_eq!(pool_of(&shop()).app_key(), Some(shop()));
    }

    #[test]
    fn a_lost_annotation_is_replaced_by_the_affinity_and_a_wrong_one_is_not_believed() {
        let long = AppKey::new("apps/v1", "Deployment", "retail", &"n".repeat(100));
        let mut pool = pool_of(&long);
        pool.metadata.annotations = None;
        assert_eq!(pool.app_key(), Some(long.clone()));
        let wrong = (LABEL_OWNER_APP_NAME.to_owned(), "o".repeat(100));
        pool.metadata.annotations = Some([wrong].into());
        assert_eq!(pool.app_key(), Some(long.clone()));
        pool.spec.pod_affinity = None;
        assert_eq!(pool.app_key().unwrap().name, long.labels()[LABEL_OWNER_APP_NAME]);
        pool.metadata.labels = None;
        assert_eq!(pool.app_key(), None);
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
