//! Makes CAs and certificates. All keys are ECDSA on P-256, which every client knows and which are made in no time.

use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use x509_parser::time::ASN1Time;

use super::policy::Policy;

/// Why nothing could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refuses.
    #[error("failed to make a certificate: {0}; look at the chart values tls.auto.extraDnsNames and extraIpAddresses")]
    Make(#[from] rcgen::Error),
    /// A time that certificates cannot have.
    #[error("failed to make a certificate that ends at {0}: look at the node's clock")]
    Time(Timestamp),
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    /// Certificate.
    pub certificate: String,
    /// Key.
    pub key: String,
}

/// Makes a CA that signs nothing but certificates of servers.
pub fn authority(now: Timestamp, ends: Timestamp) -> Result<Pair, Error> {
    let mut params = CertificateParams::default();
    // Clients that know several CAs tell them apart by this name.
    params.distinguished_name = named(&format!(
        "spiderpool webhook CA {}",
        now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    ));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    span(&mut params, now, ends)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Pair {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a server's certificate for these names and addresses.
pub fn leaf(
    authority: &Pair,
    names: &[String],
    addresses: &[IpAddr],
    now: Timestamp,
    ends: Timestamp,
) -> Result<Pair, Error> {
    let asked: Vec<String> = names
        .iter()
        .cloned()
        .chain(addresses.iter().map(IpAddr::to_string))
        .collect();
    let mut params = CertificateParams::new(asked)?;
    params.distinguished_name = named("spiderpool webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    span(&mut params, now, ends)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Pair {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn named(name: &str) -> DistinguishedName {
    let mut full = DistinguishedName::new();
    full.push(DnType::CommonName, name);
    full
}

fn span(params: &mut CertificateParams, now: Timestamp, ends: Timestamp) -> Result<(), Error> {
    let time = |moment: Timestamp| {
        let time = ASN1Time::from_timestamp(moment.as_second()).map_err(|_| Error::Time(moment))?;
        Ok::<_, Error>(time.to_datetime())
    };
    params.not_before = time(Policy::start(now))?;
    params.not_after = time(ends)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::SignedDuration;

    use super::*;
    use crate::certificates::policy::after;
    use crate::certificates::x509::Certificate;

    #[test]
    fn a_certificate_is_signed_by_its_authority_alone_and_is_for_what_was_asked() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ends = after(now, SignedDuration::from_secs(90));
        let (own, other) = (authority(now, ends).unwrap(), authority(now, ends).unwrap());
        let names = ["spiderpool-webhook.kube-system.svc".to_owned()];
        let addresses = ["10.6.0.1".parse().unwrap(), "fd06::1".parse().unwrap()];
        let made = leaf(&own, &names, &addresses, now, after(now, SignedDuration::from_secs(30))).unwrap();
        let read = |pair: &Pair| Certificate::first(pair.certificate.as_bytes()).unwrap();
        let leaf = read(&made);
        assert!(leaf.is_signed_by(&read(&own)) && !leaf.is_signed_by(&read(&other)));
        assert!(leaf.has_key(&made.key) && !leaf.has_key(&own.key));
        assert!(read(&own).is_authority() && !leaf.is_authority());
        let asked = ["spiderpool-webhook.kube-system.svc", "10.6.0.1", "fd06::1"];
        assert_eq!(leaf.names(), BTreeSet::from(asked.map(str::to_owned)));
        assert_eq!(leaf.cert().ends, after(now, SignedDuration::from_secs(30)));
        assert_eq!(read(&own).pem(), own.certificate.replace("\r\n", "\n"));
    }

    #[test]
    fn bundles_are_read_whole_or_not_at_all() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let text = || {
            authority(now, after(now, SignedDuration::from_secs(90)))
                .unwrap()
                .certificate
        };
        let (first, second) = (text(), text());
        assert_eq!(
            Certificate::all(format!("{first}{second}").as_bytes()).unwrap().len(),
            2
        );
        for damaged in [String::new(), "no PEM".to_owned(), first.replace("MII", "AAA")] {
            assert_eq!(Certificate::all(damaged.as_bytes()), None, "{damaged}");
        }
    }
}
