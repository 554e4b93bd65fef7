//! CNI versions this plugin speaks, and what differs between them.

use serde::Serialize;

use crate::error::{Code, Failure};

/// A version of the CNI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0, the first with CHECK
    V0_4_0,
    /// 1.0.0, the first whose addresses carry no `version` member
    V1_0_0,
    /// 1.1.0, the first with GC and STATUS
    V1_1_0,
}

impl Version {
    /// All supported versions, oldest first.
    pub const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest supported version.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The version as the specification writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The supported version of that name. The match is exact: a version unknown here may mean another form of result.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| Failure {
                code: Code::IncompatibleVersion,
                msg: format!("network configuration asks for cniVersion {text:?}, which this plugin does not speak"),
                details: format!("supported versions: {}", names().join(", ")),
            })
    }

    /// Whether a result names the family of each address.
    pub fn names_family(self) -> bool {
        self < Self::V1_0_0
    }
}

/// Names of all supported versions, oldest first.
pub fn names() -> Vec<&'static str> {
    Version::ALL.map(Version::as_str).to_vec()
}

/// What the VERSION command prints.
pub fn report() -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Report {
        cni_version: &'static str,
        supported_versions: Vec<&'static str>,
    }
    let report = Report {
        cni_version: Version::NEWEST.as_str(),
        supported_versions: names(),
    };
    let mut text = serde_json::to_string(&report).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_matched_exactly() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()).ok(), Some(version));
        }
        for text in ["", "0.1.0", "0.2.0", "0.3", "1.0", "1.1.1", "v1.0.0", " 1.0.0"] {
            let failure = Version::parse(text).unwrap_err();
            assert_eq!(failure.code, Code::IncompatibleVersion, "{text:?}");
            assert_eq!(failure.details, "supported versions: 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
        }
    }
}
