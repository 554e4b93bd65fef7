//! When the storm is over: nothing disturbs the agents any more, so what they do has to be exact.
//!
//! First pools, endpoints and pods have to agree; what no agent gave back has to have an excuse. Then some pods end and as many come
//! as there are free addresses, all at once: each gets addresses at its first ADD, whoever else writes the pools, and afterwards the
//! pools are full to the last address. Only then one more pod is told that they are.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use spiderpool_wire::IpamAddArgs;

use super::client::{Client, Held, addresses};
use super::killer::Kills;
use super::rest::{self, Left, Owners};
use super::{Plan, Storm};
use crate::agents::{Agent, add_args};
use crate::scene::Scene;
use crate::workload::from_pools;

/// Of the pods that are left by the storm, one of so many ends.
const END: usize = 3;

/// Number of the clients that end pods, beside those of the storm.
const AFTER: usize = 1000;

/// Checks all of it and ends the pods. How many records were left to the operator.
pub(super) async fn check(
    scene: &Scene,
    plan: &Plan,
    storm: &Arc<Storm>,
    mut held: Vec<Held>,
    kills: &Kills,
) -> Result<usize> {
    let left = rest::agrees(scene, &owners(storm, &held)).await?;
    for left in &left {
        ensure!(
            storm.excuses(&left.uid, kills),
            "{} was left to the operator, and nothing happened to the agent that had to free it",
            left.what
        );
    }
    let ended = held.split_off(held.len() - held.len() / END);
    end(plan, storm, ended).await?;
    nothing_left(rest::agrees(scene, &owners(storm, &held)).await?)?;
    let free = usize::from(plan.addresses).saturating_sub(held.len());
    let fill = (0..free).map(|number| first_add(storm, number, "filler"));
    for (agent, pod, add, answer) in try_join_all(fill).await? {
        match answer {
            Ok(addresses) => held.push(Held {
                pod,
                addresses,
                agent,
                add,
            }),
            Err(reason) => bail!(
                "{free} addresses of each family were free for {free} pods, and the ADD of {} was refused: {reason}",
                pod.name_any()
            ),
        }
    }
    let owners = owners(storm, &held);
    ensure!(
        owners.len() == 2 * usize::from(plan.addresses),
        "the pools are not full: {} of {} addresses are taken",
        owners.len(),
        2 * plan.addresses
    );
    nothing_left(rest::agrees(scene, &owners).await?)?;
    let (agent, pod, add, answer) = first_add(storm, free, "one-more").await?;
    match &answer {
        Err(reason) => ensure!(storm.is_full(reason), "an ADD at full pools was refused so: {reason}"),
        Ok(addresses) => bail!("a pod got {addresses:?} of pools that were full"),
    }
    held.push(Held {
        pod,
        addresses: Vec::new(),
        agent,
        add,
    });
    end(plan, storm, held).await?;
    nothing_left(rest::agrees(scene, &Owners::new()).await?)?;
    Ok(left.len())
}

fn nothing_left(left: Vec<Left>) -> Result<()> {
    let left: Vec<String> = left.into_iter().map(|left| left.what).collect();
    ensure!(
        left.is_empty(),
        "nothing happened to any agent, and it left to the operator:\n{}",
        left.join("\n")
    );
    Ok(())
}

/// Makes a pod and sends one ADD, which has to be answered.
async fn first_add(
    storm: &Arc<Storm>,
    number: usize,
    name: &str,
) -> Result<(Arc<Agent>, Pod, IpamAddArgs, Result<Vec<IpAddr>, String>)> {
    let agent = storm.agents[number % storm.agents.len()].clone();
    let (mut v4, mut v6): (Vec<&str>, Vec<&str>) = (
        storm.v4.iter().map(String::as_str).collect(),
        storm.v6.iter().map(String::as_str).collect(),
    );
    // Half of them begin at the other end.
    if number % 2 == 1 {
        v4.reverse();
        v6.reverse();
    }
    let name = format!("{name}-{number}");
    let pod = storm.make_pod(&agent, &name, &from_pools(&v4, &v6)).await?;
    let add = add_args(&pod, &format!("sandbox-{name}"));
    agent.sandboxes.begin(&add.container_id)?;
    let Some(answer) = storm.add_once(&agent, &add).await? else {
        bail!("the ADD of {name} was not answered by the agent of {}", agent.node);
    };
    let answer = answer.and_then(|answer| addresses(&answer, &add.if_name).map_err(|error| format!("{error:#}")));
    if let Ok(addresses) = &answer {
        agent.sandboxes.attached(&add, addresses)?;
    }
    Ok((agent, pod, add, answer))
}

async fn end(plan: &Plan, storm: &Arc<Storm>, held: Vec<Held>) -> Result<()> {
    let ends = held.into_iter().enumerate().map(async |(number, held)| {
        let mut client = Client::new(storm, AFTER + plan.clients + number);
        client.tear_down(held).await
    });
    try_join_all(ends).await.map(drop)
}

fn owners(storm: &Storm, held: &[Held]) -> Owners {
    let mut owners = Owners::new();
    for held in held {
        let (name, uid) = (held.pod.name_any(), held.pod.uid().unwrap_or_default());
        let owner = rest::owner(&storm.namespace, &name, &uid);
        owners.extend(held.addresses.iter().map(|ip| (*ip, owner.clone())));
    }
    owners
}
