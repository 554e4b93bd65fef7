//! What the command line says about the webhook's certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::policy::{Policy, lifetime};

/// Options about the webhook's certificate. Without a Secret's name nothing is made: somebody else provides it.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Secret for the webhook's certificate, which is made and renewed there; if absent, somebody else does.
    #[arg(long, value_name = "NAME", requires_all = ["certificate_authority_secret", "webhook_configurations", "certificate_names"])]
    pub certificate_secret: Option<String>,

    /// Secret for the CA of that certificate, with its key.
    #[arg(long, value_name = "NAME")]
    pub certificate_authority_secret: Option<String>,

    /// Name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration that are to trust the CA.
    #[arg(long, value_name = "NAME")]
    pub webhook_configurations: Option<String>,

    /// DNS names that the certificate is for.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub certificate_names: Vec<String>,

    /// IP addresses that the certificate is for.
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',')]
    pub certificate_addresses: Vec<IpAddr>,

    /// Life of the CA: days, or a number with s, m, h or d. At most 3650 days.
    #[arg(long, value_name = "TIME", default_value = "365", value_parser = lifetime)]
    pub certificate_authority_lifetime: Duration,

    /// Life of the certificate: days, or a number with s, m, h or d. At most 398 days and half of the CA's life.
    #[arg(long, value_name = "TIME", default_value = "90", value_parser = lifetime)]
    pub certificate_lifetime: Duration,
}

/// What is to be made, and where it is to be put.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the Secrets.
    pub namespace: String,
    /// Secret of the webhook.
    pub served: String,
    /// Secret of the CA.
    pub authority: String,
    /// Name of both webhook configurations.
    pub configurations: String,
    /// DNS names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Lifetimes.
    pub policy: Policy,
}

impl Options {
    /// What is to be made in a namespace; none if nothing is.
    pub fn settings(&self, namespace: &str) -> Option<Settings> {
        let settings = Settings {
            namespace: namespace.to_owned(),
            served: self.certificate_secret.clone()?,
            authority: self.certificate_authority_secret.clone()?,
            configurations: self.webhook_configurations.clone()?,
            names: self.certificate_names.clone(),
            addresses: self.certificate_addresses.clone(),
            policy: Policy::new(self.certificate_authority_lifetime, self.certificate_lifetime),
        };
        for (what, wished, given) in [
            ("CA", self.certificate_authority_lifetime, settings.policy.authority),
            ("certificate", self.certificate_lifetime, settings.policy.leaf),
        ] {
            if given.unsigned_abs() < wished {
                tracing::warn!(what, ?wished, given = ?given.unsigned_abs(), "lifetime is longer than allowed, shortened");
            }
        }
        Some(settings)
    }
}

impl Settings {
    /// Names and addresses as text, as they are read from a certificate: there an address has one spelling only.
    pub fn asked(&self) -> BTreeSet<String> {
        let spelt = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name.clone(),
        };
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        self.names.iter().map(spelt).chain(addresses).collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::certificates::make;
    use crate::certificates::policy::after;
    use crate::certificates::x509::Certificate;

    #[test]
    fn what_is_asked_for_is_what_is_read_whatever_its_spelling() {
        let settings = Settings {
            namespace: "kube-system".to_owned(),
            served: "a".to_owned(),
            authority: "b".to_owned(),
            configurations: "c".to_owned(),
            names: ["webhook.svc", "FD00::1", "fd00:0::2", "10.6.0.1"]
                .map(str::to_owned)
                .to_vec(),
            addresses: vec!["fd00::1".parse().unwrap()],
            policy: Policy::new(Duration::from_secs(60), Duration::from_secs(30)),
        };
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ends = after(now, settings.policy.authority);
        let authority = make::authority(now, ends).unwrap();
        let leaf = make::leaf(&authority, &settings.names, &settings.addresses, now, ends).unwrap();
        let read = Certificate::first(leaf.certificate.as_bytes()).unwrap();
        assert_eq!(read.names(), settings.asked());
    }
}
