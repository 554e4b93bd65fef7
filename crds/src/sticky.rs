//! Who keeps addresses: the workloads whose pods come again under the same identity, and what their objects say of it.
//!
//! These are StatefulSets, the Advanced StatefulSets of OpenKruise, and the virtual machines of KubeVirt. The latter two are known
//! by their API only. What follows from what the objects say is the rule of [`spiderpool_ipam::sticky`].

use crate::SpiderEndpoint;
use crate::annotations::Annotations;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;
use spiderpool_ipam::sticky::{Instance, Ordinals, Terminating, machine_stays, ordinal};
use spiderpool_ipam::{Range, RangeSet};

const SET: &str = "StatefulSet";
const INSTANCE: &str = "VirtualMachineInstance";
const MACHINE: &str = "VirtualMachine";
const KUBEVIRT: &str = "kubevirt.io";

/// Annotation of a pod that a virtual machine moves into while it runs: the name of the migration.
pub const ANNOTATION_MIGRATION: &str = "kubevirt.io/migrationJobName";

/// A kind of workload whose pods keep their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StickyKind {
    /// Of Kubernetes.
    StatefulSet,
    /// Of OpenKruise.
    AdvancedStatefulSet,
    /// Of KubeVirt.
    VirtualMachineInstance,
}

/// Which of them count. Switches of the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StickyKinds {
    /// StatefulSets of both kinds.
    pub sets: bool,
    /// Virtual machines.
    pub machines: bool,
}

impl StickyKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [
        Self::StatefulSet,
        Self::AdvancedStatefulSet,
        Self::VirtualMachineInstance,
    ];

    /// API group, version, kind and resource.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::StatefulSet => resource("apps", "v1", SET, "statefulsets"),
            Self::AdvancedStatefulSet => resource("apps.kruise.io", "v1beta1", SET, "statefulsets"),
            Self::VirtualMachineInstance => resource(KUBEVIRT, "v1", INSTANCE, "virtualmachineinstances"),
        }
    }

    /// The kind of this group and name, if it is one.
    pub fn of(group: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| {
            let resource = own.resource();
            resource.group == group && resource.kind == kind
        })
    }

    const fn counts(self, kinds: StickyKinds) -> bool {
        match self {
            Self::StatefulSet | Self::AdvancedStatefulSet => kinds.sets,
            Self::VirtualMachineInstance => kinds.machines,
        }
    }
}

/// The migrations of virtual machines.
pub fn migrations() -> ApiResource {
    let plural = "virtualmachineinstancemigrations";
    resource(KUBEVIRT, "v1", "VirtualMachineInstanceMigration", plural)
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// Reads objects live.
pub trait ReadObject {
    /// Why an object could not be read.
    type Error;

    /// One object; nothing if there is none.
    fn read(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<DynamicObject>, Self::Error>> + Send;
}

/// An identity that keeps addresses, and the workload that decides how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// Kind of the workload: one of these, since the peer notes StatefulSets of both kinds by the same name.
    pub kinds: Vec<StickyKind>,
    /// Namespace.
    pub namespace: String,
    /// Name of the workload.
    pub owner: String,
    /// Name of the identity: of the pod in a set, and of the virtual machine, whose pods have other names.
    pub name: String,
}

impl Keeper {
    /// Of a pod, by what controls it.
    pub fn of_pod(
        namespace: &str,
        pod: &str,
        controller: Option<&OwnerReference>,
        counting: StickyKinds,
    ) -> Option<Self> {
        let controller = controller?;
        let group = controller.api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = StickyKind::of(group, &controller.kind).filter(|kind| kind.counts(counting))?;
        Some(Self::new(vec![kind], namespace, &controller.name, pod))
    }

    /// Of an endpoint, by what it says of its owner. Its pod need not exist.
    pub fn of_endpoint(endpoint: &SpiderEndpoint, counting: StickyKinds) -> Option<Self> {
        let meta = &endpoint.metadata;
        let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
        let status = &endpoint.status;
        let version = status.owner_controller_api_version.as_deref();
        let group = version.map(|version| version.split_once('/').map_or("", |(group, _)| group));
        let fits = |kind: &StickyKind| {
            let resource = kind.resource();
            resource.kind == status.owner_controller_type
                && group.is_none_or(|group| group == resource.group)
                && kind.counts(counting)
        };
        let kinds: Vec<StickyKind> = StickyKind::ALL.into_iter().filter(fits).collect();
        (!kinds.is_empty()).then(|| Self::new(kinds, namespace, &status.owner_controller_name, name))
    }

    /// Of the name in a pool's record, where nothing else tells: each is possible.
    pub fn of_record(key: &str, counting: StickyKinds) -> Vec<Self> {
        let Some((namespace, name)) = key.split_once('/') else {
            return Vec::new();
        };
        let set = name.rsplit_once('-').map(|(set, _)| set);
        let counted = StickyKind::ALL.into_iter().filter(|kind| kind.counts(counting));
        let owner = |kind| match kind {
            StickyKind::VirtualMachineInstance => Some(name),
            StickyKind::StatefulSet | StickyKind::AdvancedStatefulSet => set.filter(|set| ordinal(set, name).is_some()),
        };
        counted
            .filter_map(|kind| owner(kind).map(|owner| Self::new(vec![kind], namespace, owner, name)))
            .collect()
    }

    /// Who may keep what is on record under a name: those that the endpoint of the name tells of, or all that are possible where there is
    /// none; and the virtual machine of that name if the endpoint is not a machine's. Machine and pod may share the name, and then the
    /// endpoint says nothing of the machine.
    pub fn beside(endpoint: Option<&SpiderEndpoint>, key: &str, counting: StickyKinds) -> (Vec<Self>, Vec<Self>) {
        let possible = Self::of_record(key, counting);
        let Some(endpoint) = endpoint else {
            return (possible, Vec::new());
        };
        let own = Self::of_endpoint(endpoint, counting);
        let is_alike = |keeper: &Self| keeper.is_machine() && !own.as_ref().is_some_and(Self::is_machine);
        let alike = possible.into_iter().filter(is_alike).collect();
        (own.into_iter().collect(), alike)
    }

    fn new(kinds: Vec<StickyKind>, namespace: &str, owner: &str, name: &str) -> Self {
        let machine = kinds.contains(&StickyKind::VirtualMachineInstance);
        Self {
            kinds,
            namespace: namespace.to_owned(),
            owner: owner.to_owned(),
            name: if machine { owner } else { name }.to_owned(),
        }
    }

    /// Whether the pods of the identity have names of their own, so that two may exist at once.
    pub fn is_machine(&self) -> bool {
        self.kinds.contains(&StickyKind::VirtualMachineInstance)
    }

    /// `namespace/name` as pools record it.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether a StatefulSet of its type, as a cache has it, may make a pod of the identity again.
    pub fn is_member(&self, set: &StatefulSet) -> bool {
        let spec = set.spec.as_ref();
        let natural = |number: i32| u64::try_from(number).unwrap_or(0);
        let start = spec.and_then(|spec| spec.ordinals.as_ref()?.start);
        let ordinals = Ordinals {
            start: start.map_or(0, natural),
            replicas: spec.and_then(|spec| spec.replicas).map_or(1, natural),
            reserved: RangeSet::new(),
        };
        set.metadata.deletion_timestamp.is_none()
            && ordinal(&self.owner, &self.name).is_some_and(|ordinal| ordinals.contains(ordinal))
    }

    /// Whether the workload may make a pod of the identity again.
    pub async fn stays<R: ReadObject>(&self, reader: &R) -> Result<bool, R::Error> {
        for kind in &self.kinds {
            let object = reader.read(&kind.resource(), &self.namespace, &self.owner).await?;
            let stays = match kind {
                StickyKind::VirtualMachineInstance => {
                    let instance = object.as_ref().map(instance);
                    // The machine is read only where the instance does not settle it.
                    if machine_stays(instance, None) == machine_stays(instance, Some(Terminating::No)) {
                        machine_stays(instance, None)
                    } else {
                        let machines = resource(KUBEVIRT, "v1", MACHINE, "virtualmachines");
                        let machine = reader.read(&machines, &self.namespace, &self.owner).await?;
                        machine_stays(instance, machine.as_ref().map(terminating))
                    }
                }
                StickyKind::StatefulSet | StickyKind::AdvancedStatefulSet => {
                    object.is_some_and(|set| set_has(*kind, &set, &self.owner, &self.name))
                }
            };
            if stays {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether a set may make a pod of a name. One that is being deleted makes none any more.
fn set_has(kind: StickyKind, set: &DynamicObject, name: &str, pod: &str) -> bool {
    let advanced = kind == StickyKind::AdvancedStatefulSet;
    terminating(set) == Terminating::No
        && ordinal(name, pod).is_some_and(|ordinal| ordinals(&set.data, advanced).contains(ordinal))
}

/// The ordinals that the spec of a set gives to its pods.
fn ordinals(set: &Value, advanced: bool) -> Ordinals {
    let number = |pointer: &str| set.pointer(pointer).and_then(Value::as_i64);
    let natural = |number: i64| u64::try_from(number).unwrap_or(0);
    let reserved = set.pointer("/spec/reserveOrdinals").and_then(Value::as_array);
    Ordinals {
        start: number("/spec/ordinals/start").map_or(0, natural),
        replicas: number("/spec/replicas").map_or(1, natural),
        reserved: match reserved {
            Some(items) if advanced => items.iter().filter_map(reservation).collect(),
            _ => RangeSet::new(),
        },
    }
}

/// An item of `reserveOrdinals`: a number, or a text with a number or a range as `3-5`. Others reserve nothing.
fn reservation(item: &Value) -> Option<Range> {
    if let Some(number) = item.as_u64() {
        return Some(Range::single(number.into()));
    }
    let text = item.as_str()?;
    let number = |text: &str| text.trim().parse::<u64>().ok().map(u128::from);
    match text.split_once('-') {
        Some((first, last)) => Range::new(number(first)?, number(last)?),
        None => number(text).map(Range::single),
    }
}

fn terminating(object: &DynamicObject) -> Terminating {
    match object.metadata.deletion_timestamp {
        Some(_) => Terminating::Yes,
        None => Terminating::No,
    }
}

fn instance(object: &DynamicObject) -> Instance {
    let machine = |owner: &OwnerReference| {
        owner.controller == Some(true)
            && owner.kind == MACHINE
            && owner
                .api_version
                .split_once('/')
                .is_some_and(|(group, _)| group == KUBEVIRT)
    };
    let owners = object.metadata.owner_references.iter().flatten();
    Instance {
        terminating: terminating(object) == Terminating::Yes,
        of_machine: owners.into_iter().any(machine),
    }
}

/// The migration that a pod was made for.
pub fn migration(annotations: &Annotations) -> Option<&str> {
    annotations
        .get(ANNOTATION_MIGRATION)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
}

/// Whether a migration is one of this virtual machine, and not over.
pub fn is_migrating(migration: &DynamicObject, instance: &str) -> bool {
    let text = |pointer: &str| migration.data.pointer(pointer).and_then(Value::as_str);
    text("/spec/vmiName") == Some(instance) && !matches!(text("/status/phase"), Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests;
