//! The cluster's certificate authority, certificates and kubeconfigs.
//!
//! All keys are ECDSA on P-256, also the one that signs service account tokens. An existing file is kept, so that a
//! component started again finds what the others know.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

use super::spec::{API_ADDRESS, API_PORT, API_SERVICE};
use super::state::{NodeState, State};
use crate::paths;

/// The authority and where its certificates go.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate says.
struct Subject<'a> {
    name: &'a str,
    organization: Option<&'a str>,
    dns: &'a [&'a str],
    addresses: &'a [IpAddr],
}

impl Authority {
    /// The authority of the state's PKI folder, made if absent.
    pub fn open(folder: &Path) -> Result<Self> {
        paths::make_folder(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).context("closing the PKI folder")?;
        let (key_file, cert_file) = (folder.join("ca.key"), folder.join("ca.crt"));
        let mut params = parameters(&Subject {
            name: "k8s-ca",
            organization: None,
            dns: &[],
            addresses: &[],
        })?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        if !cert_file.is_file() {
            let key = KeyPair::generate().context("generating the authority's key")?;
            let certificate = params
                .self_signed(&key)
                .context("signing the authority's certificate")?;
            // The certificate last: with it, the pair is complete.
            paths::write_atomically(&key_file, key.serialize_pem().as_bytes())?;
            paths::write_atomically(&cert_file, certificate.pem().as_bytes())?;
        }
        let key = std::fs::read_to_string(&key_file).with_context(|| format!("reading {}", key_file.display()))?;
        let key = KeyPair::from_pem(&key).context("parsing the authority's key")?;
        let issuer = Issuer::new(params, key);
        Ok(Self {
            folder: folder.to_path_buf(),
            issuer,
        })
    }

    /// Everything the control plane needs.
    pub fn equip_control_plane(&self, state: &State) -> Result<()> {
        self.service_account_key()?;
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let service = "kubernetes.default.svc";
        self.server(
            "apiserver",
            &Subject {
                name: "kube-apiserver",
                organization: None,
                dns: &[
                    "localhost",
                    "kubernetes",
                    "kubernetes.default",
                    service,
                    &format!("{service}.cluster.local"),
                ],
                addresses: &[local, API_SERVICE.into(), API_ADDRESS.into()],
            },
        )?;
        self.server(
            "etcd",
            &Subject {
                name: "etcd",
                organization: None,
                dns: &["localhost"],
                addresses: &[local],
            },
        )?;
        self.client("apiserver-etcd-client", "apiserver-etcd-client", None)?;
        self.client(
            "apiserver-kubelet-client",
            "apiserver-kubelet-client",
            Some("system:masters"),
        )?;
        self.client("front-proxy-client", "front-proxy-client", None)?;
        self.user(&state.kubeconfig, "admin", "admin", Some("system:masters"))?;
        for (file, name) in [
            ("kube-controller-manager", "system:kube-controller-manager"),
            ("kube-scheduler", "system:kube-scheduler"),
            ("kube-proxy", "system:kube-proxy"),
        ] {
            self.user(&state.folder().join(format!("{file}.kubeconfig")), file, name, None)?;
        }
        Ok(())
    }

    /// Certificate and kubeconfig of a node's kubelet.
    pub fn equip_node(&self, node: &NodeState) -> Result<()> {
        let file = format!("node-{}", node.name);
        let name = format!("system:node:{}", node.name);
        let subject = Subject {
            name: &name,
            organization: Some("system:nodes"),
            dns: &[&node.name],
            addresses: &[node.ip, node.ipv6],
        };
        self.server(&file, &subject)?;
        self.write_kubeconfig(&node.path("kubelet.kubeconfig"), &file)
    }

    /// A certificate that is good for serving and for asking.
    fn server(&self, file: &str, subject: &Subject<'_>) -> Result<()> {
        self.sign(
            file,
            subject,
            &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        )
    }

    fn client(&self, file: &str, name: &str, organization: Option<&str>) -> Result<()> {
        let subject = Subject {
            name,
            organization,
            dns: &[],
            addresses: &[],
        };
        self.sign(file, &subject, &[ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn user(&self, kubeconfig: &Path, file: &str, name: &str, organization: Option<&str>) -> Result<()> {
        self.client(file, name, organization)?;
        self.write_kubeconfig(kubeconfig, file)
    }

    fn sign(&self, file: &str, subject: &Subject<'_>, usages: &[ExtendedKeyUsagePurpose]) -> Result<()> {
        let cert_file = self.folder.join(format!("{file}.crt"));
        if cert_file.is_file() {
            return Ok(());
        }
        let key = KeyPair::generate().with_context(|| format!("generating the key {file}"))?;
        let mut params = parameters(subject)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        let signed = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("signing the certificate {file}"))?;
        paths::write_atomically(&self.folder.join(format!("{file}.key")), key.serialize_pem().as_bytes())?;
        paths::write_atomically(&cert_file, signed.pem().as_bytes())
    }

    fn service_account_key(&self) -> Result<()> {
        let public = self.folder.join("sa.pub");
        if public.is_file() {
            return Ok(());
        }
        let key = KeyPair::generate().context("generating the service account key")?;
        paths::write_atomically(&self.folder.join("sa.key"), key.serialize_pem().as_bytes())?;
        paths::write_atomically(&public, key.public_key_pem().as_bytes())
    }

    fn write_kubeconfig(&self, into: &Path, file: &str) -> Result<()> {
        let path = |name: String| self.folder.join(name).display().to_string();
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {
                "server": format!("https://{API_ADDRESS}:{API_PORT}"),
                "certificate-authority": path("ca.crt".to_owned()),
            }}],
            "users": [{"name": "u", "user": {
                "client-certificate": path(format!("{file}.crt")),
                "client-key": path(format!("{file}.key")),
            }}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        paths::write_atomically(into, format!("{config:#}\n").as_bytes())
    }
}

fn parameters(subject: &Subject<'_>) -> Result<CertificateParams> {
    let dns: Vec<String> = subject.dns.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(dns).context("composing a certificate")?;
    params
        .subject_alt_names
        .extend(subject.addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = subject.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, subject.name);
    // A test cluster is younger than any clock that is set, and gone long before the end.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_kept_and_signs() {
        let scratch = tempfile::tempdir().unwrap();
        let first = Authority::open(scratch.path()).unwrap();
        first.client("admin", "admin", Some("system:masters")).unwrap();
        let admin = std::fs::read(scratch.path().join("admin.crt")).unwrap();
        let again = Authority::open(scratch.path()).unwrap();
        again.client("admin", "admin", Some("system:masters")).unwrap();
        assert_eq!(std::fs::read(scratch.path().join("admin.crt")).unwrap(), admin);
    }

    #[test]
    fn kubeconfigs_name_the_server_and_the_key() {
        let scratch = tempfile::tempdir().unwrap();
        let authority = Authority::open(scratch.path()).unwrap();
        let file = scratch.path().join("admin.kubeconfig");
        authority.user(&file, "admin", "admin", None).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://10.199.0.1:6443");
        assert!(
            config["users"][0]["user"]["client-key"]
                .as_str()
                .unwrap()
                .ends_with("/admin.key")
        );
    }
}
