//! The question to the network during an ADD, and what is done when the answer is no.

use std::{net::IpAddr, time::Duration};

use spiderpool_wire::{Conflict, IpamAddResponse, IpamBatchDelArgs};

use crate::{
    agent::Agent,
    conf::NetConf,
    deadline::Deadline,
    env::Attachment,
    error::chain,
    log::{Level, Log},
    net::detect::{self, Fault, Target},
};

/// How long giving back may take after the network said no.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(15);

/// Asks the network about the addresses where the agent says so. What cannot be used is given back at once, and the agent is
/// told who has it.
pub(crate) fn ask(
    conf: &NetConf,
    deadline: Deadline,
    log: &mut Log<'_>,
    nic: &Attachment,
    answer: &IpamAddResponse,
) -> Result<(), String> {
    let targets = targets(answer, &nic.if_name)?;
    if targets.is_empty() {
        return Ok(());
    }
    let faults = match detect::detect(&nic.netns, &nic.if_name, &targets) {
        Ok(None) => return Ok(()),
        Ok(Some(skipped)) => {
            let why = [("Reason", skipped.as_str().into())];
            log.write(Level::Warn, "the network was not asked", &why);
            return Ok(());
        }
        Err(faults) => faults,
    };
    let conflicts: Vec<Conflict> = faults.iter().filter_map(conflict).collect();
    let args = IpamBatchDelArgs {
        container_id: nic.container_id.clone(),
        is_release_conflict_ips: !conflicts.is_empty(),
        net_namespace: nic.netns.clone(),
        pod_namespace: nic.pod.namespace.clone(),
        pod_name: nic.pod.name.clone(),
        pod_uid: nic.pod.uid.clone(),
        if_name: nic.if_name.clone(),
        conflicts,
    };
    let mut texts: Vec<String> = faults.iter().map(|fault| chain(fault)).collect();
    let agent = Agent::new(conf.socket.clone(), deadline.at_most(GIVE_UP_TIMEOUT));
    if let Err(error) = agent.give_up(&args) {
        // The DEL of this attachment, which the runtime sends next, gives them back.
        texts.push(format!("the addresses were not given back yet: {}", chain(&error)));
    }
    Err(texts.join("; "))
}

/// What the network is to be asked about one NIC.
fn targets(answer: &IpamAddResponse, nic: &str) -> Result<Vec<Target>, String> {
    let parse = |text: &str| {
        let host = text.split('/').next().unwrap_or_default();
        host.parse::<IpAddr>()
            .map_err(|_| format!("the agent's answer cannot be used: {text:?} is not an address"))
    };
    let mut targets = Vec::new();
    for ip in answer.ips.iter().filter(|ip| ip.nic == nic) {
        let gateway = match ip.gateway.as_str() {
            text if ip.enable_gateway_detection && !text.is_empty() => Some(parse(text)?),
            _ => None,
        };
        if ip.enable_ip_conflict_detection || gateway.is_some() {
            targets.push(Target {
                address: parse(&ip.address)?,
                conflict: ip.enable_ip_conflict_detection,
                gateway,
            });
        }
    }
    Ok(targets)
}

fn conflict(fault: &Fault) -> Option<Conflict> {
    match fault {
        Fault::Conflict { address, mac, .. } => Some(Conflict {
            address: address.to_string(),
            mac: mac.to_string(),
        }),
        Fault::Unreachable { .. } | Fault::Failed { .. } => None,
    }
}
