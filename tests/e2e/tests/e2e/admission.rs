//! docs/admission.md, tried on the API server without a webhook: what it says to be refused is, with these words, and what it says to
//! write instead is taken.

#![allow(clippy::expect_used, clippy::panic, reason = "the page is read by a test, too")]

use anyhow::{Context, Result, bail, ensure};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;
use spiderpool_e2e::DRY_RUN;
use spiderpool_e2e::cluster::Cluster;
use spiderpool_e2e::wait::{self, SOON};

#[path = "../../../../crds/tests/table/mod.rs"]
pub(crate) mod table;

use table::{Example, Line};

/// The examples of the page have their networks in common.
pub(crate) static PAGE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("spiderpool.spidernet.io", "v2beta1", kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

/// The object under a name of the test's own. The examples' networks are no other test's.
pub(crate) fn object(value: &Value, name: &str) -> Result<DynamicObject> {
    let mut object: DynamicObject = serde_json::from_value(value.clone()).context("reading an example")?;
    object.metadata.name = Some(name.to_owned());
    Ok(object)
}

/// What the API server says to an object, which is not stored.
async fn ask(client: &Client, example: &Example, name: &str) -> Result<Result<(), kube::Error>> {
    let api = api(client, &example.kind);
    let Some(old) = &example.old else {
        return Ok(api.create(&DRY_RUN, &object(&example.new, name)?).await.map(drop));
    };
    api.create(&PostParams::default(), &object(old, name)?)
        .await
        .with_context(|| format!("making {name}, which is to be changed"))?;
    // The operator may write it at the same time.
    let answer = wait::until("a change that meets no other", SOON, async || {
        let mut changed = object(&example.new, name)?;
        changed.metadata.resource_version = api.get(name).await?.metadata.resource_version;
        match api.replace(name, &DRY_RUN, &changed).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            answer => Ok(Some(answer.map(drop))),
        }
    })
    .await;
    api.delete(name, &DeleteParams::default()).await?;
    answer
}

/// Sees that an example was refused, in the words of its line.
pub(crate) fn refused(line: &Line, answer: Result<(), kube::Error>) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) => ensure!(
            status.code == 422 && status.message.contains(&line.message),
            "{}: refused with {} {:?} which does not say {:?}",
            line.rule,
            status.code,
            status.message,
            line.message
        ),
        Err(error) => bail!("{}: {error}", line.rule),
        Ok(()) => bail!("{}: taken: {}", line.rule, line.refused.new),
    }
    Ok(())
}

#[tokio::test]
async fn what_the_page_says_of_the_api_server_is_so() -> Result<()> {
    let _page = PAGE.lock().await;
    let client = Cluster::open().await?.unjudged()?;
    let lines = table::rules().into_iter().filter(|line| line.seen_by != "webhook");
    let mut count = 0;
    for (index, line) in lines.enumerate() {
        let name = format!("e2e-page-{index}");
        refused(&line, ask(&client, &line.refused, &name).await?)?;
        if let Some(instead) = &line.instead {
            let instead = Example {
                old: None,
                ..instead.clone()
            };
            ask(&client, &instead, &name)
                .await?
                .with_context(|| format!("{}: what is to be written instead", line.rule))?;
        }
        count += 1;
    }
    ensure!(count >= 20, "the page has {count} such rules");
    Ok(())
}

#[tokio::test]
async fn what_the_page_says_of_the_webhook_the_api_server_leaves_to_it() -> Result<()> {
    let _page = PAGE.lock().await;
    let client = Cluster::open().await?.unjudged()?;
    let lines = table::rules().into_iter().filter(|line| line.seen_by == "webhook");
    // Of an object alone only, and not against the policy for automatic pools.
    let lines = lines.filter(|line| {
        let example = &line.refused;
        example.old.is_none() && example.beside.is_empty() && example.setting.is_none() && !example.deletes
    });
    let mut told = Vec::new();
    for line in lines {
        let answer = ask(&client, &line.refused, "e2e-page").await?;
        answer.with_context(|| format!("{}: refused by the API server", line.rule))?;
        told.push(line.rule);
    }
    ensure!(
        told == ["range-order-ipv6", "gateway-among-ips"],
        "the page has other rules of the webhook about one object: {told:?}"
    );
    Ok(())
}
