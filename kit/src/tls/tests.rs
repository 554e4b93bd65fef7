use std::path::Path;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::*;
use crate::cache::{Cache, Options};

fn write_pair(folder: &Path) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), pair.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
    pair
}

fn in_use(certificates: &Certificates) -> Option<Vec<u8>> {
    Some(certificates.current.load().as_ref()?.pair.cert[0].to_vec())
}

#[tokio::test]
async fn a_changed_pair_is_taken_and_an_unchanged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let mut seen = Seen::default();
    assert!(matches!(certificates.reload(&mut seen).await, Err(Error::Read { .. })));
    assert!(!certificates.is_valid());

    let first = write_pair(folder.path());
    assert!(certificates.reload(&mut seen).await.unwrap());
    assert!(!certificates.reload(&mut seen).await.unwrap());
    assert_eq!(in_use(&certificates).as_deref(), Some(first.cert.der().as_ref()));

    let second = write_pair(folder.path());
    assert!(certificates.reload(&mut seen).await.unwrap());
    assert_eq!(in_use(&certificates).as_deref(), Some(second.cert.der().as_ref()));
}

#[tokio::test]
async fn a_bad_pair_leaves_the_old_one_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let mut seen = Seen::default();
    let good = write_pair(folder.path());
    certificates.reload(&mut seen).await.unwrap();

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.path().join("tls.key"), other.signing_key.serialize_pem()).unwrap();
    assert!(matches!(certificates.reload(&mut seen).await, Err(Error::Pair { .. })));
    for text in ["", "-----BEGIN CERTIFICATE-----\n", "no PEM at all"] {
        std::fs::write(folder.path().join("tls.crt"), text).unwrap();
        assert!(certificates.reload(&mut seen).await.is_err(), "{text:?}");
    }
    assert_eq!(in_use(&certificates).as_deref(), Some(good.cert.der().as_ref()));
}

/// A certificate that ends in this many seconds.
fn ending(seconds: i64) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    lasting(-3600, seconds)
}

fn lasting(from: i64, until: i64) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let now = Timestamp::now().as_second();
    let time = |seconds| {
        x509_parser::time::ASN1Time::from_timestamp(now + seconds)
            .unwrap()
            .to_datetime()
    };
    (params.not_before, params.not_after) = (time(from), time(until));
    let signing_key = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    rcgen::CertifiedKey { cert, signing_key }
}

fn secret(version: &str, parts: &[(&str, &str)]) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some("certs".to_owned());
    secret.metadata.namespace = Some("kube-system".to_owned());
    secret.metadata.uid = Some("1".to_owned());
    secret.metadata.resource_version = Some(version.to_owned());
    let data = parts
        .iter()
        .map(|(key, text)| ((*key).to_owned(), ByteString(text.as_bytes().to_vec())));
    secret.data = Some(data.collect());
    secret
}

#[tokio::test]
async fn a_secret_is_taken_up_at_once_and_stays_in_use_when_it_goes() {
    let cache = Cache::detached(Options::default());
    let certificates = Certificates::of(Source::of_cache(cache.clone(), "kube-system", "certs"));
    let mut seen = Seen::default();
    let gone = certificates.reload(&mut seen).await.unwrap_err().to_string();
    assert!(gone.contains("no Secret kube-system/certs"), "{gone}");

    let mut changes = certificates.source.changes(POLL);
    let good = ending(60);
    let (certificate, key) = (good.cert.pem(), good.signing_key.serialize_pem());
    let stored = secret("5", &[("tls.crt", &certificate), ("tls.key", &key)]);
    cache.learn(stored.clone());
    // Not after the interval of files.
    tokio::time::timeout(Duration::from_secs(5), changes.next(true))
        .await
        .unwrap();
    assert!(certificates.reload(&mut seen).await.unwrap());
    assert!(certificates.is_valid());

    cache.learn(secret("6", &[("tls.crt", &certificate)]));
    assert!(matches!(
        certificates.reload(&mut seen).await,
        Err(Error::NoKey { key: "tls.key", .. })
    ));
    cache.forget(&stored);
    assert!(matches!(
        certificates.reload(&mut seen).await,
        Err(Error::NoSecret { .. })
    ));
    assert_eq!(in_use(&certificates).as_deref(), Some(good.cert.der().as_ref()));
}

#[tokio::test]
async fn a_certificate_is_valid_between_its_beginning_and_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path().join("tls.crt"), folder.path().join("tls.key"));
    for (from, until, valid) in [(-3600, -1, false), (-3600, 600, true), (600, 3600, false)] {
        let pair = lasting(from, until);
        std::fs::write(folder.path().join("tls.crt"), pair.cert.pem()).unwrap();
        std::fs::write(folder.path().join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
        assert!(certificates.reload(&mut Seen::default()).await.unwrap());
        assert_eq!(certificates.is_valid(), valid);
    }
}
