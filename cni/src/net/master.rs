//! The interface of the host that a pod's interface is made of, and its addresses.

use std::{fs, io, net::IpAddr, path::Path};

use super::link::{Link, addresses_of};

/// Kinds of interface that are made of one of the host, whose index the kernel tells.
const STACKED: [&str; 4] = ["macvlan", "macvtap", "ipvlan", "vlan"];

/// Where the kernel shows the devices of the PCI bus.
const DEVICES: &str = "/sys/bus/pci/devices";

/// The addresses of the master of an interface in a namespace. The master is looked for in the namespace of the calling thread:
/// the lower interface of a stacked one, the physical function of a virtual one. An error says why it cannot be told.
pub fn addresses(netns: &Path, name: &str) -> io::Result<Vec<IpAddr>> {
    let found = super::inside(netns, || Link::find(name))?;
    let link = found.ok_or_else(|| other(format!("there is no interface {name} in the pod")))?;
    match (STACKED.contains(&&*link.kind), link.lower, &link.device) {
        (true, Some(index), _) => addresses_of(index),
        (false, _, Some(device)) => {
            let master = physical_function(Path::new(DEVICES), device)?;
            let master = Link::find(&master)?.ok_or_else(|| other(format!("interface {master} is gone")))?;
            addresses_of(master.index)
        }
        _ => Err(other(format!(
            "interface {name} of the pod is neither made of an interface of the host nor a virtual function of a device"
        ))),
    }
}

/// The name of the interface of the physical function that a device is a virtual function of. The listing shows interfaces of
/// the namespace that sysfs was mounted in, which is the host's.
fn physical_function(devices: &Path, device: &str) -> io::Result<String> {
    let folder = devices.join(device).join("physfn/net");
    let listed = fs::read_dir(&folder)
        .map_err(|error| io::Error::new(error.kind(), format!("device {device} is no virtual function: {error}")))?;
    let mut names = Vec::new();
    for entry in listed {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    // Of several ports of one function the first is as good as another; it is the same each time.
    let first = names.into_iter().min();
    first.ok_or_else(|| other(format!("the physical function of device {device} has no interface")))
}

fn other(what: String) -> io::Error {
    io::Error::other(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_physical_function_is_found_by_the_device() {
        let devices = tempfile::tempdir().unwrap();
        let net = devices.path().join("0000:3b:02.1/physfn/net");
        fs::create_dir_all(&net).unwrap();
        let error = physical_function(devices.path(), "0000:3b:02.1")
            .unwrap_err()
            .to_string();
        assert!(error.contains("has no interface"), "{error}");
        fs::create_dir(net.join("ens5f1")).unwrap();
        fs::create_dir(net.join("ens5f0")).unwrap();
        assert_eq!(physical_function(devices.path(), "0000:3b:02.1").unwrap(), "ens5f0");
        let error = physical_function(devices.path(), "0000:3b:00.0")
            .unwrap_err()
            .to_string();
        assert!(error.contains("is no virtual function"), "{error}");
    }
}
