//! One pool as it was read: the object, its records, and the ledger made of them.

use spiderpool_crds::SpiderIPPool;
use spiderpool_crds::parse::SpecError;
use spiderpool_crds::records::{PoolRecords, RecordsError};
use spiderpool_ipam::{Cidr, Family, Ledger, Owner, RangeSet, addr};
use std::net::IpAddr;
use std::sync::Arc;

/// Why a pool cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The spec does not parse.
    #[error("the spec of IPPool {pool} is broken: {source}; repair it with `kubectl edit sp {pool}`")]
    Spec {
        /// Name of the pool.
        pool: String,
        /// What is broken.
        source: SpecError,
    },
    /// `status.allocatedIPs` does not parse. Nothing may be allocated, since nobody knows what is in use.
    #[error("the records of IPPool {pool} are broken: {source}")]
    Records {
        /// Name of the pool.
        pool: String,
        /// What is broken.
        source: RecordsError,
    },
}

/// A pool that requests can be planned on.
#[derive(Clone, Debug)]
pub struct PoolState {
    object: Arc<SpiderIPPool>,
    cidr: Cidr,
    records: PoolRecords,
    ledger: Ledger,
    /// Addresses that must not be given out although no pod has them.
    held: RangeSet,
}

impl PoolState {
    /// Reads a pool object.
    pub fn read(object: Arc<SpiderIPPool>) -> Result<Self, Unusable> {
        let pool = object.metadata.name.clone().unwrap_or_default();
        let spec = |source| Unusable::Spec {
            pool: pool.clone(),
            source,
        };
        let cidr = object.cidr().map_err(spec)?;
        let total = object.total().map_err(spec)?;
        let broken = |source| Unusable::Records {
            pool: pool.clone(),
            source,
        };
        let records = object.records().map_err(broken)?;
        let held = held_addresses(&object, cidr.family()).map_err(broken)?;
        let ledger = Ledger::with_records(total, records.owners(cidr.family()).map_err(broken)?);
        Ok(Self {
            cidr,
            ledger,
            held,
            records,
            object,
        })
    }

    /// The object as it was read.
    pub const fn object(&self) -> &Arc<SpiderIPPool> {
        &self.object
    }

    /// Who has which address.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Family of the pool.
    pub const fn family(&self) -> Family {
        self.cidr.family()
    }

    /// Whether new addresses may be taken: not while the object is being deleted or disabled.
    pub fn is_open(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_none() && self.object.spec.disable != Some(true)
    }

    /// Whether there is an address to give to a new owner.
    pub fn has_free(&self, reserved: &RangeSet) -> bool {
        self.ledger.has_free(&self.held.union(reserved))
    }

    /// Takes the lowest free address, or gives the one that the owner already has.
    pub fn claim(&mut self, owner: &Owner, reserved: &RangeSet) -> Option<Taken> {
        let nic = owner.nic.as_deref().unwrap_or_default();
        if let Some(bits) = self.ledger.owned_by(&owner.uid, nic) {
            let ip = addr::from_bits(self.family(), bits);
            // A record without a NIC is the peer's. It becomes this NIC's, or the pod's next NIC would get it too.
            let named = self.ledger.name_nic(bits, &owner.uid, nic);
            if named && let Some(mut record) = self.records.remove(ip) {
                record.nic = Some(nic.to_owned());
                self.records.insert(ip, record);
            }
            return Some(Taken {
                ip,
                new: false,
                written: named,
            });
        }
        if !self.is_open() {
            return None;
        }
        let blocked = self.held.union(reserved);
        let bits = self.ledger.take(owner.clone(), &blocked)?;
        let ip = addr::from_bits(self.family(), bits);
        self.records.insert(ip, owner.clone().into());
        Some(Taken {
            ip,
            new: true,
            written: true,
        })
    }

    /// Frees what a pod's NIC has, comparing the whole owner. Returns what was freed.
    pub fn release(&mut self, pod: &str, uid: &str, nic: &str) -> Vec<IpAddr> {
        let own: Vec<(u128, Owner)> = self
            .ledger
            .of_pod(uid)
            .filter(|(_, owner)| owner.pod == pod && owner.is(uid, nic))
            .map(|(bits, owner)| (bits, owner.clone()))
            .collect();
        let mut freed = Vec::with_capacity(own.len());
        for (bits, owner) in own {
            if self.ledger.give_back(bits, &owner) {
                let ip = addr::from_bits(self.family(), bits);
                self.records.remove(ip);
                freed.push(ip);
            }
        }
        freed
    }

    /// The object to write: the one that was read, with the records of now.
    pub fn to_write(&self) -> SpiderIPPool {
        let mut object = SpiderIPPool::clone(&self.object);
        let status = object.status.get_or_insert_default();
        status.allocated_ips = self.records.to_status();
        status.allocated_ip_count = Some(i64::try_from(self.records.len()).unwrap_or(i64::MAX));
        object
    }
}

/// What a claim gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address.
    pub ip: IpAddr,
    /// Whether this claim took it; otherwise the owner had it before.
    pub new: bool,
    /// Whether the pool's records changed.
    pub written: bool,
}

/// Addresses in `status.heldIPs`: quarantined or cooling down.
fn held_addresses(object: &SpiderIPPool, family: Family) -> Result<RangeSet, RecordsError> {
    let text = object.status.as_ref().and_then(|status| status.held_ips.as_deref());
    let held = PoolRecords::parse_opt(text)?;
    Ok(held
        .iter()
        .map(|(ip, _)| addr::to_bits(ip))
        .filter(|(of, _)| *of == family)
        .map(|(_, bits)| bits)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use spiderpool_crds::{IPPoolSpec, IPPoolStatus};

    const UID: &str = "0d3f0f5e-5f0e-4a4b-9a36-0f5d6f4e2a10";

    fn pool(ips: &str, records: Option<&str>) -> SpiderIPPool {
        let spec = IPPoolSpec {
            subnet: "10.77.0.0/20".to_owned(),
            ips: Some(vec![ips.to_owned()]),
            ..IPPoolSpec::default()
        };
        let mut pool = SpiderIPPool::new("p", spec);
        pool.status = Some(IPPoolStatus {
            allocated_ips: records.map(str::to_owned),
            ..IPPoolStatus::default()
        });
        pool
    }

    fn read(pool: SpiderIPPool) -> PoolState {
        PoolState::read(Arc::new(pool)).unwrap()
    }

    fn owner(nic: &str) -> Owner {
        Owner {
            pod: "retail/shop".to_owned(),
            uid: UID.to_owned(),
            nic: Some(nic.to_owned()),
        }
    }

    fn written(state: &PoolState) -> Option<String> {
        state.to_write().status.and_then(|status| status.allocated_ips)
    }

    fn claim(state: &mut PoolState, nic: &str) -> Option<(String, bool)> {
        let taken = state.claim(&owner(nic), &RangeSet::new())?;
        Some((taken.ip.to_string(), taken.new))
    }

    #[test]
    fn a_repeated_claim_gives_the_same_address_and_another_nic_another_one() {
        let mut state = read(pool("10.77.1.10-10.77.1.12", None));
        assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), true)));
        assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), false)));
        assert_eq!(claim(&mut state, "net1"), Some(("10.77.1.11".to_owned(), true)));
        let text = written(&state).unwrap();
        let expected = format!(
            r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}},"10.77.1.11":{{"pod":"retail/shop","podUid":"{UID}","nic":"net1"}}}}"#
        );
        assert_eq!(text, expected);
        assert_eq!(state.to_write().status.unwrap().allocated_ip_count, Some(2));
    }

    #[test]
    fn a_record_of_the_peer_becomes_the_asking_nics_and_keeps_what_else_it_says() {
        let text = format!(r#"{{"10.77.1.11":{{"pod":"retail/shop","podUid":"{UID}","later":7}}}}"#);
        let mut state = read(pool("10.77.1.10-10.77.1.12", Some(&text)));
        let taken = state.claim(&owner("eth0"), &RangeSet::new()).unwrap();
        assert_eq!(
            (taken.ip.to_string().as_str(), taken.new, taken.written),
            ("10.77.1.11", false, true)
        );
        let text = written(&state).unwrap();
        assert!(text.contains(r#""nic":"eth0","later":7"#), "{text}");
        assert_eq!(claim(&mut state, "net1"), Some(("10.77.1.10".to_owned(), true)));
    }

    #[test]
    fn reserved_and_held_addresses_are_not_given_out() {
        let mut object = pool("10.77.1.10-10.77.1.12", None);
        object.status.get_or_insert_default().held_ips = Some(r#"{"10.77.1.11":{"reason":"Conflict"}}"#.to_owned());
        let mut state = read(object);
        let reserved = RangeSet::from(spiderpool_ipam::text::parse_range(Family::V4, "10.77.1.10").unwrap());
        let taken = state.claim(&owner("eth0"), &reserved).unwrap();
        assert_eq!(taken.ip.to_string(), "10.77.1.12");
        assert_eq!(state.claim(&owner("net1"), &reserved), None);
    }

    #[test]
    fn a_closed_pool_takes_no_new_owner_but_knows_its_old_ones() {
        let text = format!(r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}}}}"#);
        let mut object = pool("10.77.1.10-10.77.1.12", Some(&text));
        object.spec.disable = Some(true);
        let mut state = read(object);
        assert_eq!(claim(&mut state, "eth0"), Some(("10.77.1.10".to_owned(), false)));
        assert_eq!(claim(&mut state, "net1"), None);
    }

    #[test]
    fn a_release_compares_the_whole_owner() {
        let text = format!(r#"{{"10.77.1.10":{{"pod":"retail/shop","podUid":"{UID}","nic":"eth0"}}}}"#);
        let mut state = read(pool("10.77.1.10-10.77.1.12", Some(&text)));
        assert!(state.release("retail/other", UID, "eth0").is_empty());
        assert!(state.release("retail/shop", "another-uid", "eth0").is_empty());
        assert!(state.release("retail/shop", UID, "net1").is_empty());
        assert_eq!(state.release("retail/shop", UID, "eth0").len(), 1);
        assert_eq!(written(&state), None);
        assert_eq!(state.to_write().status.unwrap().allocated_ip_count, Some(0));
    }

    #[test]
    fn broken_records_make_a_pool_unusable_instead_of_empty() {
        for text in [
            "{",
            r#"{"10.77.1.300":{}}"#,
            r#"{"fd00::1":{"pod":"a/b","podUid":"c"}}"#,
        ] {
            let error = PoolState::read(Arc::new(pool("10.77.1.10", Some(text))))
                .unwrap_err()
                .to_string();
            assert!(error.contains("IPPool p"), "{error}");
        }
    }
}
