//! Pods with two interfaces whose addresses come of the same pools, of both families, where one family has less than the other.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use spiderpool_crds::IPPoolSpec;

use super::Length;
use super::field::{Added, Guest, make, owners, run_all, settle, with_agents};
use crate::agents::{Agent, Options, remove_pod};
use crate::scene::Scene;
use crate::storm::ledger::Ledger;
use crate::storm::random::Random;
use crate::workload::from_pools;

/// Pods at once. Each wants two addresses of each family.
const PODS: usize = 12;

/// Addresses of IPv6. There are enough of IPv4, so a pod that is refused has been given half of what it needs.
const SCARCE: u8 = 14;

/// How often pods come and go.
const ROUNDS: (usize, usize) = (3, 20);

const AGENTS: usize = 2;

pub(super) async fn run(scene: &Scene, seed: u64, length: Length) -> Result<String> {
    let v4 = scene.serving("plenty", 4, ("10", "60"), IPPoolSpec::default()).await?;
    let last = format!("{:x}", 0x20 + u16::from(SCARCE) - 1);
    let v6 = scene.serving("scarce", 6, ("20", &last), IPPoolSpec::default()).await?;
    let wish = from_pools(&[&v4], &[&v6]);
    with_agents(
        scene,
        AGENTS,
        |_| Options::default(),
        async |agents: &[Arc<Agent>]| {
            run_all(agents).await?;
            let ledger = Ledger::default();
            let mut random = Random::of(seed, 1);
            let (mut given, mut refused) = (0, 0);
            for round in 0..length.of(ROUNDS.0, ROUNDS.1) {
                let mut nics = Vec::new();
                for number in 0..PODS {
                    let agent = &agents[random.below(AGENTS as u64) as usize];
                    let first = make(scene, agent, &format!("p{round}-{number}"), &wish).await?;
                    let mut second = Guest {
                        pod: first.pod.clone(),
                        agent: first.agent.clone(),
                        add: first.add.clone(),
                        addresses: Vec::new(),
                    };
                    second.add.if_name = "net1".to_owned();
                    nics.extend([first, second]);
                }
                random.shuffle(&mut nics);
                let adds = nics.iter_mut().map(async |nic| match nic.add(&ledger).await? {
                    Added::Given(addresses) => {
                        ensure!(addresses.len() == 2, "an ADD was answered with {addresses:?}");
                        Ok(1_usize)
                    }
                    Added::Refused(reason) => {
                        ensure!(
                            reason.contains("no IPPool available"),
                            "an ADD was refused so: {reason}"
                        );
                        Ok(0)
                    }
                    Added::Nothing => anyhow::bail!("an ADD was not answered"),
                });
                let served: usize = try_join_all(adds).await?.into_iter().sum();
                given += served;
                refused += nics.len() - served;
                ensure!(
                    served == usize::from(SCARCE),
                    "{served} interfaces were served out of {SCARCE} addresses"
                );
                let all: Vec<IpAddr> = nics.iter().flat_map(|nic| nic.addresses.iter().copied()).collect();
                let distinct: BTreeSet<IpAddr> = all.iter().copied().collect();
                ensure!(all.len() == distinct.len(), "an address was given twice: {all:?}");
                // Of those that were refused nothing is on record, of neither family.
                settle(scene, &ledger, &owners(scene, &nics)).await?;
                for nic in &nics {
                    remove_pod(&scene.cluster.client, &nic.pod).await?;
                }
                try_join_all(nics.iter_mut().map(|nic| nic.end_sandbox(&ledger))).await?;
                settle(scene, &ledger, &owners(scene, &[])).await?;
            }
            Ok(format!(
                "seed {seed}: {given} interfaces were given an address of each family, {refused} nothing"
            ))
        },
    )
    .await
}
