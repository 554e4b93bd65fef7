//! Lets the kernel announce the pod's addresses.
//!
//! An address that a pod gives up soon belongs to another one, with another hardware address. Neighbours that knew the
//! earlier pod go on sending to it for up to 45 s (Linux trusts an entry for half to one and a half times 30 s), and for IPv6
//! nobody tells them otherwise: main plugins announce IPv4 addresses only. The kernel does so for both families when
//! `ndisc_notify` and `arp_notify` are on at the moment the main plugin sets the addresses, which is right after this plugin's
//! answer.

use std::{fs, io, path::Path};

/// Switches the announcements of one interface on, and those of interfaces that are made later.
pub fn switch_on(netns: &str, nic: &str) -> io::Result<()> {
    let done = super::inside(Path::new(netns), || {
        for name in ["default", nic] {
            write(&format!("ipv6/conf/{name}/ndisc_notify"))?;
            write(&format!("ipv4/conf/{name}/arp_notify"))?;
        }
        Ok(())
    });
    match done {
        // Without its namespace the pod does not come to life, as the main plugin will say.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Sets a switch of the namespace this thread is in. That there is none is fine: no such interface yet, or no IPv6.
fn write(switch: &str) -> io::Result<()> {
    match fs::write(Path::new("/proc/sys/net").join(switch), "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
