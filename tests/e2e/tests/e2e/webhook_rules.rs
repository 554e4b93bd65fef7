//! docs/admission.md, tried on the API server with the webhook: what it says to be refused is, with these words and the right code,
//! what it says to write instead is taken, and what is legal and probably not meant comes with its warning.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use http::header::{CONTENT_TYPE, WARNING};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use spiderpool_crds::SpiderSubnet;
use spiderpool_crds::names::FINALIZER;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::wait::{self, SOON};

use crate::admission::table::{self, Example, Line};
use crate::admission::{PAGE, api, object};
use spiderpool_e2e::DRY_RUN;

/// What the objects are called that these tests make.
const NAME: &str = "e2e-webhook";

/// What a test of one line made, to be deleted after it.
struct Stage<'a> {
    client: &'a Client,
    made: Vec<DynamicObject>,
}

impl Stage<'_> {
    async fn make(&mut self, value: &Value, name: &str) -> Result<DynamicObject> {
        let kind = value["kind"].as_str().unwrap_or_default();
        let mut new = object(value, name)?;
        new.metadata.uid = None;
        let what = || format!("making {kind} {name}");
        let made = api(self.client, kind).create(&PostParams::default(), &new).await;
        let made = made.with_context(what)?;
        self.made.push(made.clone());
        self.record(kind, name, &value["status"]).await?;
        Ok(made)
    }

    /// Writes what an example has in its status.
    async fn record(&self, kind: &str, name: &str, status: &Value) -> Result<()> {
        if !status.is_object() {
            return Ok(());
        }
        let change = Patch::Merge(json!({"status": status}));
        let (api, params) = (api(self.client, kind), PatchParams::default());
        let patched = api.patch_status(name, &params, &change).await;
        patched.map(drop).context("writing a status")
    }

    /// Makes the pools that the accounting of an example names, and waits until the subnet has them on its books.
    async fn given(&mut self, example: &Example) -> Result<()> {
        let text = example.new["status"]["controlledIPPools"].as_str().unwrap_or_default();
        let entries: Value = serde_json::from_str(text).context("reading an accounting")?;
        for (name, entry) in entries.as_object().into_iter().flatten() {
            let spec = json!({"subnet": example.new["spec"]["subnet"], "ips": entry["ips"]});
            let pool = json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool", "spec": spec});
            let own = format!("{NAME}-{name}");
            self.make(&pool, &own).await?;
            let subnets: Api<SpiderSubnet> = Api::all(self.client.clone());
            wait::object(&subnets, NAME, "the pool on the subnet's books", SOON, |subnet| {
                let entries = subnet?.status.as_ref()?.controlled_ippools.as_deref()?;
                entries.contains(&own).then_some(())
            })
            .await?;
        }
        Ok(())
    }

    /// Deletes everything, what was made last first.
    async fn clear(self) -> Result<()> {
        for object in self.made.into_iter().rev() {
            let (kind, name) = (
                object.types.map(|types| types.kind).unwrap_or_default(),
                object.metadata.name,
            );
            let (api, name) = (api(self.client, &kind), name.unwrap_or_default());
            if kind == "SpiderIPPool" {
                let empty = Patch::Merge(json!({"status": {"allocatedIPs": null}}));
                api.patch_status(&name, &PatchParams::default(), &empty).await?;
            }
            match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                deleted => drop(deleted.with_context(|| format!("deleting {name}"))?),
            }
            wait::until(&format!("{kind} {name} to be gone"), SOON, async || {
                Ok(api.get_opt(&name).await?.is_none().then_some(()))
            })
            .await?;
        }
        Ok(())
    }
}

/// Changes an object that the operator may write at the same time. What was filled into it stays, as with `kubectl apply`.
async fn replace(client: &Client, example: &Example, new: &Value) -> Result<Result<(), kube::Error>> {
    let api = api(client, &example.kind);
    wait::until("a change that meets no other", SOON, async || {
        let current = api.get(NAME).await?;
        let mut changed = current.clone();
        changed.data["spec"] = new["spec"].clone();
        if changed.data["spec"]["ipVersion"].is_null() {
            changed.data["spec"]["ipVersion"] = current.data["spec"]["ipVersion"].clone();
        }
        match api.replace(NAME, &DRY_RUN, &changed).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            answer => Ok(Some(answer.map(drop))),
        }
    })
    .await
}

/// What the API server says to an example, and then to what is to be written instead.
async fn ask(stage: &mut Stage<'_>, line: &Line) -> Result<(Result<(), kube::Error>, Option<Result<(), kube::Error>>)> {
    let (client, refused) = (stage.client, &line.refused);
    for beside in &refused.beside {
        let name = match line.rule.as_str() {
            "name-taken" => NAME.to_owned(),
            _ => format!("{NAME}-other"),
        };
        stage.make(beside, &name).await?;
    }
    let Some(old) = &refused.old else {
        let create = async |value: &Value| -> Result<Result<(), kube::Error>> {
            let new = object(value, NAME)?;
            Ok(api(client, &refused.kind).create(&DRY_RUN, &new).await.map(drop))
        };
        // The webhook hears of the others by its watch.
        let answer = wait::until("a refusal", SOON, async || {
            let answer = create(&refused.new).await?;
            Ok((answer.is_err() || refused.beside.is_empty()).then_some(answer))
        });
        let answer = answer.await?;
        let instead = match &line.instead {
            Some(instead) => Some(create(&instead.new).await?),
            None => None,
        };
        return Ok((answer, instead));
    };
    stage.make(old, NAME).await?;
    if line.rule == "given-stays" {
        stage.given(refused).await?;
    } else {
        stage.record(&refused.kind, NAME, &refused.new["status"]).await?;
    }
    if line.rule == "terminating" {
        // An address on record keeps the pool from going at once.
        let used = json!({"allocatedIPs": r#"{"10.6.0.9":{"pod":"e2e/none","podUid":"e2e"}}"#});
        stage.record(&refused.kind, NAME, &used).await?;
        api(client, &refused.kind)
            .delete(NAME, &DeleteParams::default())
            .await?;
        return Ok((replace(client, refused, &refused.new).await?, None));
    }
    let answer = replace(client, refused, &refused.new).await?;
    let instead = match &line.instead {
        Some(instead) => Some(replace(client, refused, &instead.new).await?),
        None => None,
    };
    Ok((answer, instead))
}

fn code(rule: &str) -> u16 {
    match rule {
        "name-taken" => 409,
        "terminating" => 403,
        _ => 422,
    }
}

/// A text of the page with the names that objects have here.
fn own_names(text: &str) -> String {
    ["SpiderIPPool other", "SpiderSubnet other", "SpiderIPPool db"]
        .into_iter()
        .fold(text.to_owned(), |text, named| {
            let own = named.replacen(' ', &format!(" {NAME}-"), 1);
            text.replace(named, &own)
        })
}

fn check(line: &Line, status: &Status) -> Result<()> {
    let expected = line
        .message
        .replace("\"example\"", &format!("{NAME:?}"))
        .replace("example", NAME);
    let expected = own_names(&expected);
    let code = code(&line.rule);
    // Whoever sees first that a name is taken says so in its own words.
    let told = status.message.contains(&expected) || code == 409 && status.message.contains("already exists");
    ensure!(
        status.code == code && told,
        "{}: refused with {} {:?} which does not say {expected:?}",
        line.rule,
        status.code,
        status.message
    );
    if code == 422 {
        let details = status.details.as_ref().context("a refusal without details")?;
        ensure!(
            details.causes.iter().any(|cause| cause.field.starts_with("spec.")),
            "{}: no cause names a field: {details:?}",
            line.rule
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_the_page_says_of_the_webhook_is_so() -> Result<()> {
    let _page = PAGE.lock().await;
    let client = Cluster::open().await?.client;
    let mut tried = BTreeSet::new();
    for line in table::rules().into_iter().filter(|line| line.seen_by == "webhook") {
        // Other settings are another installation. An automatic pool is kept from users by a policy already.
        if line.refused.setting.is_some() || line.rule == "accounted" {
            continue;
        }
        let mut stage = Stage {
            client: &client,
            made: Vec::new(),
        };
        let outcome = ask(&mut stage, &line).await;
        stage.clear().await?;
        let (answer, instead) = outcome.with_context(|| line.rule.clone())?;
        match answer {
            Err(kube::Error::Api(status)) => check(&line, &status)?,
            Err(error) => bail!("{}: {error}", line.rule),
            Ok(()) => bail!("{}: taken: {}", line.rule, line.refused.new),
        }
        if let Some(instead) = instead {
            instead.with_context(|| format!("{}: what is to be written instead", line.rule))?;
        }
        tried.insert(line.rule);
    }
    ensure!(tried.len() >= 11, "the page has only these rules: {tried:?}");
    Ok(())
}

/// Makes an object, dry, and gives the warnings that kubectl would show.
async fn warned(client: &Client, value: &Value) -> Result<Vec<String>> {
    let kind = value["kind"].as_str().unwrap_or_default().to_lowercase();
    let path = format!("/apis/spiderpool.spidernet.io/v2beta1/{kind}s?dryRun=All");
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    let body = serde_json::to_vec(&object(value, NAME)?)?;
    let response = client.send(request.body(body.into())?).await?;
    ensure!(response.status().is_success(), "{}: {value}", response.status());
    let texts = response.headers().get_all(WARNING).iter();
    texts.map(|text| Ok(text.to_str()?.to_owned())).collect()
}

#[tokio::test]
async fn what_is_legal_and_probably_not_meant_is_taken_with_its_warning() -> Result<()> {
    let _page = PAGE.lock().await;
    let client = Cluster::open().await?.client;
    for (example, warning) in table::warnings() {
        let mut stage = Stage {
            client: &client,
            made: Vec::new(),
        };
        for beside in &example.beside {
            stage.make(beside, &format!("{NAME}-other")).await?;
        }
        // The webhook hears of it by its watch.
        let expected = own_names(&warning);
        let warned = wait::until(&format!("the warning {expected:?}"), SOON, async || {
            let texts = warned(&client, &example.new).await?;
            Ok(texts.iter().any(|text| text.contains(&expected)).then_some(()))
        })
        .await;
        stage.clear().await?;
        warned?;
    }
    Ok(())
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() -> Result<()> {
    let _page = PAGE.lock().await;
    let client = Cluster::open().await?.client;
    let mut stage = Stage {
        client: &client,
        made: Vec::new(),
    };
    let pool = |ips: &str, more: Value| {
        let mut spec = json!({"subnet": "fd06::/64", "ips": [ips]});
        if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
            spec.extend(more);
        }
        json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderIPPool", "spec": spec})
    };
    stage
        .make(&pool("fd06::1-fd06::9", json!({})), &format!("{NAME}-a"))
        .await?;
    stage
        .make(&pool("fd06::a-fd06::f", json!({})), &format!("{NAME}-b"))
        .await?;
    let wrong = object(&pool("fd06::9-fd06::a", json!({"gateway": "fd06::a"})), NAME)?;
    let told = wait::until("all that is wrong", SOON, async || {
        match api(&client, "SpiderIPPool").create(&DRY_RUN, &wrong).await {
            Err(kube::Error::Api(status)) => {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                let fields: Vec<String> = causes.into_iter().map(|cause| cause.field).collect();
                Ok((fields == ["spec.ips[0]", "spec.ips", "spec.ips"]).then_some(()))
            }
            Err(error) => bail!("{error}"),
            Ok(_) => Ok(None),
        }
    })
    .await;
    stage.clear().await?;
    told
}

#[tokio::test]
async fn what_is_being_deleted_gives_up_its_finalizers() -> Result<()> {
    let _page = PAGE.lock().await;
    let client = Cluster::open().await?.client;
    let reserved = json!({"apiVersion": "spiderpool.spidernet.io/v2beta1", "kind": "SpiderReservedIP",
        "metadata": {"finalizers": ["e2e.spidernet.io/hold"]}, "spec": {"ips": ["10.6.0.1"]}});
    let reservations = api(&client, "SpiderReservedIP");
    let made = reservations
        .create(&PostParams::default(), &object(&reserved, NAME)?)
        .await?;
    ensure!(
        made.finalizers() != [FINALIZER],
        "a reservation needs no finalizer of ours"
    );
    reservations.delete(NAME, &DeleteParams::default()).await?;
    let release = Patch::Merge(json!({"metadata": {"finalizers": null, "labels": {"a": "b"}}}));
    reservations.patch(NAME, &PatchParams::default(), &release).await?;
    wait::until("the reservation to be gone", SOON, async || {
        Ok(reservations.get_opt(NAME).await?.is_none().then_some(()))
    })
    .await
}
