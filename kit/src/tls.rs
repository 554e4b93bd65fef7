//! The server certificate of this process, kept current.
//!
//! The files are polled and compared by content: a Secret volume swaps a symlink two levels up, which file watching misses
//! easily and polling never. A new pair is used by the next handshake, without a restart; a pair that does not fit together
//! (half written, wrong key) is told once, and the old one stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are read.
pub const POLL: Duration = Duration::from_secs(30);
/// How often while there is no certificate yet.
const POLL_UNTIL_FIRST: Duration = Duration::from_secs(1);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("failed to read {}: {source}; is the Secret with the certificate there and mounted?", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not PEM of the right kind.
    #[error("failed to parse {}: {source}; it must be PEM", .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// The certificate file holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    /// Certificate and key are not a pair, or of an unknown kind.
    #[error("failed to use certificate {} with key {}: {source}", .certificate.display(), .key.display())]
    Pair {
        /// Certificate file.
        certificate: PathBuf,
        /// Key file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The TLS library refuses its own defaults.
    #[error("failed to set up TLS: {0}")]
    Setup(#[source] rustls::Error),
}

/// The certificate in use. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwapOption<CertifiedKey>,
}

/// What the files held when they were last looked at.
#[derive(Default)]
pub struct Seen(Option<(Vec<u8>, Vec<u8>)>);

impl Certificates {
    /// Certificate chain and key are in these PEM files, which need not exist yet.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            certificate: certificate.into(),
            key: key.into(),
            current: ArcSwapOption::empty(),
        })
    }

    /// Is there a certificate to serve with?
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// Reads the files. `Ok(true)` if they differ from `seen` and are in use now.
    pub async fn reload(&self, seen: &mut Seen) -> Result<bool, Error> {
        let pair = (read(&self.certificate).await?, read(&self.key).await?);
        if seen.0.as_ref() == Some(&pair) {
            return Ok(false);
        }
        let loaded = self.parse(&pair.0, &pair.1);
        seen.0 = Some(pair);
        self.current.store(Some(Arc::new(loaded?)));
        Ok(true)
    }

    fn parse(&self, certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, Error> {
        let parse_error = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Parse { path, source }
        };
        let chain = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(parse_error(&self.certificate))?;
        if chain.is_empty() {
            return Err(Error::Empty(self.certificate.clone()));
        }
        let private = PrivateKeyDer::from_pem_slice(key).map_err(parse_error(&self.key))?;
        CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|source| {
            Error::Pair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                source,
            }
        })
    }

    /// Keeps the certificate current. Never ends; drop it to stop.
    pub async fn keep_current(&self, every: Duration) {
        let mut seen = Seen::default();
        let mut told = None;
        loop {
            match self.reload(&mut seen).await {
                Ok(true) => {
                    tracing::info!(certificate = %self.certificate.display(), "certificate loaded");
                    told = None;
                }
                Ok(false) => {}
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(
                            error = text,
                            in_use = self.is_loaded(),
                            "certificate not loaded, trying on"
                        );
                        told = Some(text);
                    }
                }
            }
            tokio::time::sleep(if self.is_loaded() {
                every
            } else {
                every.min(POLL_UNTIL_FIRST)
            })
            .await;
        }
    }

    /// A TLS configuration that serves with whatever certificate is current at each handshake.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Current(self.clone())));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[derive(Debug)]
struct Current(Arc<Certificates>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current.load_full()
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    tokio::fs::read(path).await.map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(folder: &Path) -> rcgen::CertifiedKey<rcgen::KeyPair> {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.join("tls.crt"), pair.cert.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
        pair
    }

    fn in_use(certificates: &Certificates) -> Option<Vec<u8>> {
        Some(certificates.current.load().as_ref()?.cert[0].to_vec())
    }

    #[tokio::test]
    async fn a_changed_pair_is_taken_and_an_unchanged_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let mut seen = Seen::default();
        assert!(matches!(certificates.reload(&mut seen).await, Err(Error::Read { .. })));
        assert!(!certificates.is_loaded());

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
}
