//! CA and certificate as objects of the API: two Secrets and the `caBundle` of two webhook configurations.
//!
//! | Secret | key | holds |
//! |---|---|---|
//! | of the webhook | `tls.crt`, `tls.key` | what it serves with |
//! | | `ca.crt` | the CA that signed it |
//! | of the CA | `tls.crt`, `tls.key` | the CA that signs |
//! | | `next.crt`, `next.key` | the one that will |
//! | | `old.crt` | those that did; their keys are gone |
//!
//! The webhook can read its own Secret only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;

use super::decide::{Authorities, Bundle, Cert, Id, Leaf, View};
use super::make::Pair;
use super::x509::Certificate;

/// Says until when the CAs of `old.crt` stay trusted.
pub const OLD_UNTIL: &str = "spiderpool.spidernet.io/old-until";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const OLD: &str = "old.crt";

/// A CA with its key.
#[derive(Clone)]
pub struct Signer {
    /// As PEM.
    pub pair: Pair,
    /// The certificate, read.
    pub certificate: Certificate,
}

impl Signer {
    /// None if key and certificate do not belong together.
    pub fn of(pair: Pair) -> Option<Self> {
        let certificate = Certificate::first(pair.certificate.as_bytes())?;
        let fits = certificate.is_authority() && certificate.has_key(&pair.key);
        fits.then_some(Self { pair, certificate })
    }
}

/// What the Secret of the CA holds.
#[derive(Clone)]
pub struct Keys {
    /// Signs.
    pub signing: Signer,
    /// Will sign.
    pub next: Option<Signer>,
    /// Signed.
    pub old: Vec<Certificate>,
    /// Until when these stay trusted.
    pub old_until: Option<Timestamp>,
}

impl Keys {
    /// Reads the Secret; none if there is no CA to sign with.
    pub fn read(secret: &Secret) -> Option<Self> {
        let signer = |certificate, key| {
            Signer::of(Pair {
                certificate: text(secret, certificate)?,
                key: text(secret, key)?,
            })
        };
        let marks = secret.metadata.annotations.as_ref();
        Some(Self {
            signing: signer(CERTIFICATE, KEY)?,
            next: signer(NEXT_CERTIFICATE, NEXT_KEY),
            old: bytes(secret, OLD).and_then(Certificate::all).unwrap_or_default(),
            old_until: marks.and_then(|marks| marks.get(OLD_UNTIL)?.parse().ok()),
        })
    }

    /// Writes all of it into the Secret, whatever stood there.
    pub fn write(&self, secret: &mut Secret) {
        let mut data = BTreeMap::new();
        put(&mut data, CERTIFICATE, &self.signing.pair.certificate);
        put(&mut data, KEY, &self.signing.pair.key);
        if let Some(next) = &self.next {
            put(&mut data, NEXT_CERTIFICATE, &next.pair.certificate);
            put(&mut data, NEXT_KEY, &next.pair.key);
        }
        if !self.old.is_empty() {
            put(&mut data, OLD, &bundle(&self.old));
        }
        secret.data = Some(data);
        let marks = secret.metadata.annotations.get_or_insert_default();
        match self.old_until.filter(|_| !self.old.is_empty()) {
            Some(until) => drop(marks.insert(OLD_UNTIL.to_owned(), until.to_string())),
            None => drop(marks.remove(OLD_UNTIL)),
        }
    }

    fn authorities(&self) -> Authorities {
        Authorities {
            signing: self.signing.certificate.cert(),
            next: self.next.as_ref().map(|next| next.certificate.cert()),
            old: self.old.iter().map(Certificate::cert).collect(),
            old_until: self.old_until,
        }
    }
}

/// Writes the webhook's certificate into its Secret, whatever stood there.
pub fn write_leaf(secret: &mut Secret, leaf: &Pair, signer: &Signer) {
    let mut data = BTreeMap::new();
    put(&mut data, CERTIFICATE, &leaf.certificate);
    put(&mut data, KEY, &leaf.key);
    put(&mut data, AUTHORITY, &signer.certificate.pem());
    secret.data = Some(data);
}

/// One text of several certificates.
pub fn bundle(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::pem).collect()
}

/// An entry of a webhook configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its `caBundle`.
    pub bundle: Option<Vec<u8>>,
}

/// A webhook configuration, of either kind.
pub trait Configuration {
    /// Its entries.
    fn entries(&self) -> Vec<Entry>;
}

impl Configuration for MutatingWebhookConfiguration {
    fn entries(&self) -> Vec<Entry> {
        let all = self.webhooks.iter().flatten();
        all.map(|webhook| entry(&webhook.name, webhook.client_config.ca_bundle.as_ref()))
            .collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    fn entries(&self) -> Vec<Entry> {
        let all = self.webhooks.iter().flatten();
        all.map(|webhook| entry(&webhook.name, webhook.client_config.ca_bundle.as_ref()))
            .collect()
    }
}

fn entry(name: &str, bundle: Option<&ByteString>) -> Entry {
    Entry {
        name: name.to_owned(),
        bundle: bundle.map(|bytes| bytes.0.clone()),
    }
}

/// Everything that was seen, and the certificates behind what decisions call by their [`Id`].
pub struct Seen {
    /// For decisions.
    pub view: View,
    /// What the Secret of the CA holds.
    pub keys: Option<Keys>,
    /// By what decisions call them.
    pub certificates: BTreeMap<Id, Certificate>,
}

impl Seen {
    /// Reads what there is. `asked` are the names and addresses that the certificate has to be for.
    pub fn read(
        authority: Option<&Secret>,
        served: Option<&Secret>,
        entries: &[Entry],
        asked: &BTreeSet<String>,
        trusted_since: &BTreeMap<Id, Timestamp>,
    ) -> Self {
        let keys = authority.and_then(Keys::read);
        let bundles: Vec<Option<Vec<Certificate>>> = entries
            .iter()
            .map(|entry| entry.bundle.as_deref().and_then(Certificate::all))
            .collect();
        let found: Vec<Certificate> = bundles.iter().flatten().flatten().cloned().collect();
        let beside = served
            .and_then(|secret| bytes(secret, AUTHORITY))
            .and_then(Certificate::all)
            .unwrap_or_default();
        let signers = keys.iter().flat_map(|keys| [Some(&keys.signing), keys.next.as_ref()]);
        let known: Vec<Certificate> = signers
            .flatten()
            .map(|signer| &signer.certificate)
            .chain(keys.iter().flat_map(|keys| &keys.old))
            .chain(&beside)
            .chain(&found)
            .filter(|certificate| certificate.is_authority())
            .cloned()
            .collect();
        let view = View {
            authorities: keys.as_ref().map(Keys::authorities),
            leaf: served.and_then(|secret| leaf(secret, &known, asked)),
            bundles: bundles.iter().map(|bundle| bundle.as_deref().and_then(ids)).collect(),
            trusted_since: trusted_since.clone(),
            found: certs(&found),
        };
        let certificates = known.into_iter().map(|known| (known.cert().id, known)).collect();
        Self {
            view,
            keys,
            certificates,
        }
    }
}

fn certs(certificates: &[Certificate]) -> Vec<Cert> {
    let authorities = certificates.iter().filter(|found| found.is_authority());
    authorities.map(Certificate::cert).collect()
}

fn ids(bundle: &[Certificate]) -> Bundle {
    Some(bundle.iter().map(|certificate| certificate.cert().id).collect())
}

fn leaf(secret: &Secret, known: &[Certificate], asked: &BTreeSet<String>) -> Option<Leaf> {
    let certificate = bytes(secret, CERTIFICATE).and_then(Certificate::first)?;
    if !certificate.has_key(&text(secret, KEY)?) {
        return None;
    }
    let issuer = known.iter().find(|known| certificate.is_signed_by(known));
    Some(Leaf {
        cert: certificate.cert(),
        issuer: issuer.map(Certificate::cert),
        fits: certificate.names() == *asked,
    })
}

fn bytes<'a>(secret: &'a Secret, key: &str) -> Option<&'a [u8]> {
    let bytes = secret.data.as_ref()?.get(key)?;
    Some(&bytes.0)
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(bytes(secret, key)?.to_vec()).ok()
}

fn put(data: &mut BTreeMap<String, ByteString>, key: &str, text: &str) {
    data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
}
