//! Watches the two Secrets and the two webhook configurations, and writes what is decided.
//!
//! Only the leader writes: Secrets by PUT with the resourceVersion that was looked at, configurations by a patch of nothing but
//! `caBundle`, with the resourceVersion as well. What was written is learnt by the cache before the next decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use spiderpool_kit::backoff::Backoff;
use spiderpool_kit::cache::{Cache, Changes, Object};
use spiderpool_kit::deadline::within;
use spiderpool_kit::lease::Leadership;
use spiderpool_kit::metrics::Metrics;
use spiderpool_kit::shutdown::Process;

use super::decide::{Id, Step, decide};
use super::objects::{Configuration, Keys, Seen, Signer, bundle, write_leaf};
use super::options::Settings;
use super::policy::after;
use super::x509::Certificate;
use super::{make, objects};
use crate::context::filled;
use crate::write::{self, DEADLINE};

/// What is said while caches are not filled.
const LATE: &str = "certificates are not looked after yet";
/// Decisions in a row until something else may run. From nothing to a certificate it takes four.
const ROUNDS: usize = 12;
/// Pauses after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The longest time between two looks.
const AT_LEAST: Duration = Duration::from_secs(3600);
/// Labels that tell what belongs to a release.
const OF_RELEASE: [&str; 2] = ["app.kubernetes.io/name", "app.kubernetes.io/instance"];

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Write(#[from] write::Error),
    #[error(transparent)]
    Make(#[from] make::Error),
    #[error("there was something to do {ROUNDS} times in a row; somebody else writes the same objects")]
    Endless,
    #[error("the CA to work with is gone")]
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Which {
    certificate: &'static str,
}

/// One webhook configuration.
struct Target<K> {
    api: Api<K>,
    cache: Cache<K>,
    name: String,
}

struct Keeper {
    settings: Settings,
    asked: BTreeSet<String>,
    leadership: Leadership,
    secrets: Api<Secret>,
    authority: Cache<Secret>,
    served: Cache<Secret>,
    mutating: Target<MutatingWebhookConfiguration>,
    validating: Target<ValidatingWebhookConfiguration>,
    /// CAs that stand in all bundles, and since when this replica sees them there.
    trusted_since: BTreeMap<Id, Timestamp>,
    /// Ends of certificates, in seconds since 1970.
    ends: Family<Which, Gauge>,
}

/// Keeps the webhook's certificate for as long as the process lives.
pub fn start(process: &Process, client: &Client, leadership: Leadership, metrics: &Metrics, settings: Settings) {
    let named = |name: &str| format!("metadata.name={name}");
    let secret = |name: &str| {
        let options = spiderpool_kit::cache::Options::default().fields(named(name));
        Cache::start_in(process, client.clone(), &settings.namespace, options)
    };
    let ends = Family::default();
    metrics.register(|registry| {
        let help = "When a certificate ends, in seconds since 1970, told by the replica that leads";
        registry.register("spiderpool_certificate_end_seconds", help, ends.clone());
    });
    let keeper = Keeper {
        asked: settings.asked(),
        leadership,
        secrets: Api::namespaced(client.clone(), &settings.namespace),
        authority: secret(&settings.authority),
        served: secret(&settings.served),
        mutating: Target::start(process, client, &settings.configurations),
        validating: Target::start(process, client, &settings.configurations),
        trusted_since: BTreeMap::new(),
        ends,
        settings,
    };
    process.spawn_infallible("certificates", process.until_stop(Box::pin(keeper.run())));
}

impl<K> Target<K>
where
    K: Object + Configuration + Resource<Scope = kube::core::ClusterResourceScope>,
{
    fn start(process: &Process, client: &Client, name: &str) -> Self {
        let options = spiderpool_kit::cache::Options::default().fields(format!("metadata.name={name}"));
        Self {
            api: Api::all(client.clone()),
            cache: Cache::start(process, client.clone(), options),
            name: name.to_owned(),
        }
    }

    fn object(&self) -> Option<Arc<K>> {
        self.cache.get("", &self.name)
    }

    fn entries(&self) -> Vec<objects::Entry> {
        self.object().map(|object| object.entries()).unwrap_or_default()
    }

    /// What goes with this object goes with the release.
    fn owner(&self) -> Option<(OwnerReference, BTreeMap<String, String>)> {
        let object = self.object()?;
        let owner = OwnerReference {
            api_version: K::api_version(&()).into_owned(),
            kind: K::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: object.uid()?,
            ..OwnerReference::default()
        };
        let labels = object.labels().iter();
        let labels = labels.filter(|(key, _)| OF_RELEASE.contains(&key.as_str()));
        Some((owner, labels.map(|(key, value)| (key.clone(), value.clone())).collect()))
    }

    /// Writes the bundle into all entries, if one of them has another.
    async fn publish(&self, leadership: &Leadership, bundle: &str) -> Result<(), write::Error> {
        let Some(object) = self.object() else {
            return Ok(());
        };
        let entries = object.entries();
        if entries
            .iter()
            .all(|entry| entry.bundle.as_deref() == Some(bundle.as_bytes()))
        {
            return Ok(());
        }
        let bundle = ByteString(bundle.as_bytes().to_vec());
        let entries: Vec<_> = entries
            .iter()
            .map(|entry| json!({"name": entry.name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        let change = json!({
            "metadata": {"resourceVersion": object.resource_version()},
            "webhooks": entries,
        });
        let _permit = leadership.write_permit().ok_or(write::Error::NotLeader)?;
        let what = format!("writing caBundle of {} {}", K::kind(&()), self.name);
        let (params, patch) = (PatchParams::default(), Patch::Strategic(&change));
        let written = within(DEADLINE, what, self.api.patch(&self.name, &params, &patch)).await?;
        self.cache.learn(written);
        Ok(())
    }
}

impl Keeper {
    async fn run(mut self) {
        tokio::join!(
            filled(LATE, |deadline| self.authority.synced(deadline)),
            filled(LATE, |deadline| self.served.synced(deadline)),
            filled(LATE, |deadline| self.mutating.cache.synced(deadline)),
            filled(LATE, |deadline| self.validating.cache.synced(deadline)),
        );
        let mut authority = self.authority.subscribe();
        let mut served = self.served.subscribe();
        let mut mutating = self.mutating.cache.subscribe();
        let mut validating = self.validating.cache.subscribe();
        let mut terms = self.leadership.terms();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        while terms.next().await {
            // Another replica may have led meanwhile, and nobody here has looked.
            self.trusted_since.clear();
            while self.leadership.is_leader() {
                let pause = match Box::pin(self.bring_about()).await {
                    Ok(again) => {
                        backoff.reset();
                        let pause = again.duration_since(Timestamp::now());
                        Duration::try_from(pause).unwrap_or_default().min(AT_LEAST)
                    }
                    Err(error) => {
                        let pause = backoff.next().unwrap_or(RETRY.1);
                        tracing::warn!(%error, again_in = ?pause, "the webhook's certificate is not as it should be");
                        pause
                    }
                };
                tokio::select! {
                    () = change(&mut authority) => {}
                    () = change(&mut served) => {}
                    () = change(&mut mutating) => {}
                    () = change(&mut validating) => {}
                    () = self.leadership.wait_until_follower() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
            self.ends.clear();
        }
        // The election has ended with the process.
        std::future::pending().await
    }

    /// Does what is to be done, until nothing is. Says when to look again.
    async fn bring_about(&mut self) -> Result<Timestamp, Error> {
        for _ in 0..ROUNDS {
            let now = Timestamp::now();
            // Nobody asks the webhook without a configuration, and what is made is to go with one.
            let Some((owner, labels)) = self.validating.owner().or_else(|| self.mutating.owner()) else {
                return Ok(after(now, jiff::SignedDuration::try_from(AT_LEAST).unwrap_or_default()));
            };
            let home = Home { owner, labels };
            // A Secret that nobody can write is no reason to leave a bundle damaged.
            let mut failed = self.claim(&home).await.err();
            let seen = self.look(now);
            let plan = decide(&seen.view, &self.settings.policy, now);
            if plan.steps.is_empty() && failed.is_none() {
                return Ok(plan.again);
            }
            for step in plan.steps {
                if let Err(error) = Box::pin(self.apply(&step, &home, now)).await {
                    failed.get_or_insert(error);
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Err(Error::Endless)
    }

    fn secret(&self, which: &Cache<Secret>, name: &str) -> Option<Arc<Secret>> {
        which.get(&self.settings.namespace, name)
    }

    fn look(&mut self, now: Timestamp) -> Seen {
        let authority = self.secret(&self.authority, &self.settings.authority);
        let served = self.secret(&self.served, &self.settings.served);
        let mut entries = self.mutating.entries();
        entries.extend(self.validating.entries());
        let read = |since: &BTreeMap<Id, Timestamp>| {
            Seen::read(authority.as_deref(), served.as_deref(), &entries, &self.asked, since)
        };
        let mut seen = read(&self.trusted_since);
        let bundles = &seen.view.bundles;
        let in_all = |id: &Id| {
            bundles
                .iter()
                .all(|bundle| bundle.as_ref().is_some_and(|bundle| bundle.contains(id)))
        };
        let trusted = seen.certificates.keys().filter(|id| in_all(id));
        let since = |id: &Id| self.trusted_since.get(id).copied().unwrap_or(now);
        let trusted: BTreeMap<Id, Timestamp> = trusted.map(|id| (*id, since(id))).collect();
        self.trusted_since.clone_from(&trusted);
        seen.view.trusted_since = trusted;
        self.tell_ends(&seen);
        seen
    }

    fn tell_ends(&self, seen: &Seen) {
        let authority = seen.view.authorities.as_ref().map(|known| known.signing.ends);
        let leaf = seen.view.leaf.as_ref().map(|leaf| leaf.cert.ends);
        for (certificate, ends) in [("authority", authority), ("webhook", leaf)] {
            let ends = ends.map_or(0, Timestamp::as_second);
            self.ends.get_or_create(&Which { certificate }).set(ends);
        }
    }

    async fn apply(&mut self, step: &Step, home: &Home, now: Timestamp) -> Result<(), Error> {
        let seen = self.look(now);
        let certificates = |ids: &mut dyn Iterator<Item = &Id>| -> Vec<Certificate> {
            ids.filter_map(|id| seen.certificates.get(id).cloned()).collect()
        };
        match step {
            Step::Found { old, until } => {
                let old = certificates(&mut old.iter());
                let keys = Keys {
                    signing: self.authority(now)?,
                    next: None,
                    old_until: Some(*until).filter(|_| !old.is_empty()),
                    old,
                };
                self.write_keys(&keys, home).await?;
                tracing::info!(ends = %keys.signing.certificate.cert().ends, "made a CA for the webhook");
            }
            Step::Prepare => {
                let mut keys = seen.keys.ok_or(Error::Gone)?;
                keys.next = Some(self.authority(now)?);
                self.write_keys(&keys, home).await?;
                tracing::info!("made the next CA for the webhook");
            }
            Step::Promote { old_until } => {
                let mut keys = seen.keys.ok_or(Error::Gone)?;
                let next = keys.next.take().ok_or(Error::Gone)?;
                let before = std::mem::replace(&mut keys.signing, next);
                keys.old.push(before.certificate);
                keys.old_until = Some(*old_until);
                self.write_keys(&keys, home).await?;
                tracing::info!(until = %old_until, "the next CA signs, the one before stays trusted for a while");
            }
            Step::Forget => {
                let mut keys = seen.keys.ok_or(Error::Gone)?;
                let until = keys.old_until;
                keys.old
                    .retain(|old| old.cert().lives(now) && until.is_none_or(|until| now < until));
                self.write_keys(&keys, home).await?;
                tracing::info!("forgot CAs whose certificates are over");
            }
            Step::Publish(trusted) => {
                let bundle = bundle(&certificates(&mut trusted.iter()));
                let mutating = self.mutating.publish(&self.leadership, &bundle).await;
                self.validating.publish(&self.leadership, &bundle).await?;
                mutating?;
                tracing::info!(
                    authorities = trusted.len(),
                    "wrote caBundle of the webhook configurations"
                );
            }
            Step::Issue { ends } => {
                let keys = seen.keys.ok_or(Error::Gone)?;
                let Settings { names, addresses, .. } = &self.settings;
                let leaf = make::leaf(&keys.signing.pair, names, addresses, now, *ends)?;
                let fill = |secret: &mut Secret| write_leaf(secret, &leaf, &keys.signing);
                self.store(&self.served, &self.settings.served, "kubernetes.io/tls", home, fill)
                    .await?;
                tracing::info!(%ends, "made a certificate for the webhook");
            }
        }
        Ok(())
    }

    fn authority(&self, now: Timestamp) -> Result<Signer, Error> {
        let pair = make::authority(now, after(now, self.settings.policy.authority))?;
        Signer::of(pair).ok_or(Error::Gone)
    }

    async fn write_keys(&self, keys: &Keys, home: &Home) -> Result<(), Error> {
        let fill = |secret: &mut Secret| keys.write(secret);
        self.store(&self.authority, &self.settings.authority, "Opaque", home, fill)
            .await
    }

    /// Lets Secrets that somebody else made, from a backup for instance, go with the release.
    async fn claim(&self, home: &Home) -> Result<(), Error> {
        for (cache, name) in [
            (&self.authority, &self.settings.authority),
            (&self.served, &self.settings.served),
        ] {
            let owned = |secret: &Secret| {
                secret
                    .owner_references()
                    .iter()
                    .any(|owner| owner.uid == home.owner.uid)
            };
            if self.secret(cache, name).is_some_and(|secret| !owned(&secret)) {
                self.store(cache, name, "", home, |_| ()).await?;
            }
        }
        Ok(())
    }

    /// Makes a Secret, or replaces what was looked at.
    async fn store(
        &self,
        cache: &Cache<Secret>,
        name: &str,
        kind: &str,
        home: &Home,
        fill: impl FnOnce(&mut Secret),
    ) -> Result<(), Error> {
        let current = self.secret(cache, name);
        let mut secret = current.as_deref().cloned().unwrap_or_else(|| {
            let mut new = Secret::default();
            new.metadata.name = Some(name.to_owned());
            new.type_ = Some(kind.to_owned());
            new
        });
        fill(&mut secret);
        home.take_in(&mut secret);
        let _permit = self.leadership.write_permit().ok_or(write::Error::NotLeader)?;
        let params = PostParams::default();
        let written = match current {
            Some(_) => {
                let what = format!("updating Secret {}/{name}", self.settings.namespace);
                within(DEADLINE, what, self.secrets.replace(name, &params, &secret)).await
            }
            None => {
                let what = format!("creating Secret {}/{name}", self.settings.namespace);
                within(DEADLINE, what, self.secrets.create(&params, &secret)).await
            }
        };
        cache.learn(written.map_err(write::Error::from)?);
        Ok(())
    }
}

/// What Secrets go with, and how they are found.
struct Home {
    owner: OwnerReference,
    labels: BTreeMap<String, String>,
}

impl Home {
    fn take_in(&self, secret: &mut Secret) {
        let owners = secret.owner_references_mut();
        // A configuration that was deleted and made again is another object.
        owners.retain(|owner| owner.kind != self.owner.kind || owner.name != self.owner.name);
        owners.push(self.owner.clone());
        secret.labels_mut().extend(self.labels.clone());
    }
}

/// Waits for the next change.
async fn change<K: Object>(changes: &mut Changes<K>) {
    if changes.next().await.is_none() {
        // The watch ends with the process only.
        std::future::pending::<()>().await;
    }
}
