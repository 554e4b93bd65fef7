//! The settings of the installation that concern admission, out of `conf.yml` of the ConfigMap `spiderpool-conf`.

use std::path::Path;

use anyhow::Context;
use spiderpool_crds::admission::Settings;
use spiderpool_crds::conf::{AnnotationPolicy, Conf, unknown_variables};

/// What the webhook needs of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the rules depend on.
    pub settings: Settings,
    /// What becomes of a workload whose annotations are wrong.
    pub annotations: AnnotationPolicy,
}

impl From<Conf> for Config {
    fn from(conf: Conf) -> Self {
        Self {
            settings: Settings {
                ipv4: conf.ipv4,
                ipv6: conf.ipv6,
                subnets: conf.subnets,
                protect_used: conf.protect_used,
            },
            annotations: conf.annotation_policy,
        }
    }
}

impl Config {
    /// Reads the file, and says in the log which settings nobody knows. Without a file all is as the chart has it by default.
    pub fn load(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Conf::parse("")?.into());
        };
        let text = std::fs::read_to_string(path).with_context(|| {
            format!(
                "failed to read the configuration {}; mount the ConfigMap spiderpool-conf there or pass --config-path",
                path.display()
            )
        })?;
        let conf = Conf::parse(&text).with_context(|| {
            format!(
                "failed to use the configuration {}; correct key conf.yml of the ConfigMap spiderpool-conf",
                path.display()
            )
        })?;
        for key in &conf.unknown {
            tracing::warn!(key, path = %path.display(), "nobody knows this key of the configuration: is it misspelt?");
        }
        let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for variable in unknown_variables(set) {
            tracing::warn!(variable, "nobody knows this environment variable: is it misspelt?");
        }
        Ok(conf.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_the_file_and_what_is_wrong_is_told_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yml");
        let missing = format!("{:#}", Config::load(Some(&path)).unwrap_err());
        assert!(
            missing.contains("conf.yml") && missing.contains("--config-path"),
            "{missing}"
        );
        let text = "enableIPv6: false\nenableValidatingResourcesDeletedWebhook: true\nsurplus: 1";
        std::fs::write(&path, text).unwrap();
        let settings = Config::load(Some(&path)).unwrap().settings;
        let expected = Settings {
            ipv4: true,
            ipv6: false,
            subnets: true,
            protect_used: true,
        };
        assert_eq!(settings, expected);
        std::fs::write(&path, "enableSpiderSubnet: on please").unwrap();
        let wrong = format!("{:#}", Config::load(Some(&path)).unwrap_err());
        assert!(
            wrong.contains("conf.yml") && wrong.contains("key enableSpiderSubnet"),
            "{wrong}"
        );
        assert!(!Config::load(None).unwrap().settings.protect_used);
    }
}
