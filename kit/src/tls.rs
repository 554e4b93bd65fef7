//! The server certificate of this process, kept current.
//!
//! It comes from a Secret by a watch, or from two files, which are polled and compared by content: a Secret volume swaps a
//! symlink two levels up, which file watching misses easily and polling never. A new pair is used by the next handshake, without
//! a restart; a pair that does not fit together (half written, wrong key) is told once, and the old one stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use kube::Client;
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::shutdown::Process;

mod source;

use source::{Pair, Source};

/// How often files are read.
pub const POLL: Duration = Duration::from_secs(30);

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
    /// The Secret does not exist, or has not been read yet.
    #[error("there is no Secret {secret}; it is made by whoever the chart value tls.method names")]
    NoSecret {
        /// Its namespace and name.
        secret: String,
    },
    /// The Secret lacks a part of the pair.
    #[error("the Secret {secret} has no {key}; delete it if Spiderpool makes it, or put certificate and key there")]
    NoKey {
        /// Its namespace and name.
        secret: String,
        /// What it lacks.
        key: &'static str,
    },
    /// What was read is not PEM of the right kind.
    #[error("failed to parse {place}: {source}; it must be PEM")]
    Parse {
        /// Where it was read.
        place: String,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// No certificate where one must be.
    #[error("{place} holds no certificate")]
    Empty {
        /// Where it was read.
        place: String,
    },
    /// The certificate cannot be decoded.
    #[error("failed to decode the certificate in {place}: {why}")]
    Decode {
        /// Where it was read.
        place: String,
        /// Why.
        why: String,
    },
    /// Certificate and key are not a pair, or of an unknown kind.
    #[error("failed to use the certificate of {certificate} with the key of {key}: {source}")]
    Pair {
        /// Where the certificate was read.
        certificate: String,
        /// Where the key was read.
        key: String,
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
    source: Source,
    current: ArcSwapOption<InUse>,
}

#[derive(Debug)]
struct InUse {
    pair: Arc<CertifiedKey>,
    starts: Timestamp,
    expires: Timestamp,
}

/// What the source held when it was last looked at.
#[derive(Default)]
pub struct Seen(Option<Pair>);

impl Certificates {
    /// Certificate chain and key are in these PEM files, which need not exist yet.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Arc<Self> {
        Self::of(Source::files(certificate.into(), key.into()))
    }

    /// Certificate chain and key are `tls.crt` and `tls.key` of a Secret, which need not exist yet. It is watched as long as the
    /// process lives; the right to get, list and watch this one Secret is enough.
    pub fn of_secret(process: &Process, client: Client, namespace: &str, name: &str) -> Arc<Self> {
        Self::of(Source::secret(process, client, namespace, name))
    }

    fn of(source: Source) -> Arc<Self> {
        Arc::new(Self {
            source,
            current: ArcSwapOption::empty(),
        })
    }

    /// Is there a certificate to serve with that clients accept by its date?
    pub fn is_valid(&self) -> bool {
        let now = Timestamp::now();
        let current = self.current.load();
        let current = current.as_ref();
        current.is_some_and(|current| current.starts <= now && now < current.expires)
    }

    /// When the certificate in use ends.
    pub fn expires(&self) -> Option<Timestamp> {
        self.current.load().as_ref().map(|current| current.expires)
    }

    /// Looks at the source. `Ok(true)` if it differs from `seen` and is in use now.
    pub async fn reload(&self, seen: &mut Seen) -> Result<bool, Error> {
        let pair = self.source.read().await?;
        if seen.0.as_ref() == Some(&pair) {
            return Ok(false);
        }
        let loaded = parse(&pair);
        seen.0 = Some(pair);
        self.current.store(Some(Arc::new(loaded?)));
        Ok(true)
    }

    /// Keeps the certificate current: files are read each `every`, a Secret is watched. Never ends; drop it to stop.
    pub async fn keep_current(&self, every: Duration) {
        let mut seen = Seen::default();
        let mut told = None;
        let mut changes = self.source.changes(every);
        self.source.known().await;
        loop {
            match self.reload(&mut seen).await {
                Ok(true) => {
                    let expires = self.expires().map(tracing::field::display);
                    tracing::info!(certificate = %self.source, expires, "certificate loaded");
                    told = None;
                }
                Ok(false) => {}
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(
                            error = text,
                            in_use = self.expires().is_some(),
                            "certificate not loaded, trying on"
                        );
                        told = Some(text);
                    }
                }
            }
            changes.next(self.expires().is_some()).await;
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

fn parse(pair: &Pair) -> Result<InUse, Error> {
    let parse_error = |place: &String| {
        let place = place.clone();
        move |source| Error::Parse { place, source }
    };
    let chain = CertificateDer::pem_slice_iter(&pair.certificate.bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(parse_error(&pair.certificate.place))?;
    let own = chain.first().ok_or_else(|| Error::Empty {
        place: pair.certificate.place.clone(),
    })?;
    let (starts, expires) = validity(own).map_err(|why| Error::Decode {
        place: pair.certificate.place.clone(),
        why,
    })?;
    let private = PrivateKeyDer::from_pem_slice(&pair.key.bytes).map_err(parse_error(&pair.key.place))?;
    let certified = CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider());
    let pair = certified.map_err(|source| Error::Pair {
        certificate: pair.certificate.place.clone(),
        key: pair.key.place.clone(),
        source,
    })?;
    Ok(InUse {
        pair: Arc::new(pair),
        starts,
        expires,
    })
}

/// When a certificate begins and ends.
fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), String> {
    let (_, decoded) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let validity = decoded.validity();
    let starts = Timestamp::from_second(validity.not_before.timestamp()).unwrap_or(Timestamp::MIN);
    // Certificates may name the year 9999, at whose end timestamps end as well.
    let expires = Timestamp::from_second(validity.not_after.timestamp()).unwrap_or(Timestamp::MAX);
    Ok((starts, expires))
}

#[derive(Debug)]
struct Current(Arc<Certificates>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current.load().as_ref().map(|current| current.pair.clone())
    }
}

#[cfg(test)]
mod tests;
