//! Validation rules that the API server evaluates itself, so that objects are sound while no webhook runs.
//!
//! Only what one object can tell about itself is said here; what needs other objects is the webhook's. The rules are
//! evaluated on every write, also of the status, and a stored object that breaks one must not lose the ability to give
//! out addresses: each rule lets a field pass that did not change. Functions are those of Kubernetes 1.30.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, ValidationRule};

/// Adds the rules of a kind to its schema.
pub(super) fn add(kind: &str, root: &mut JSONSchemaProps) {
    let Some(spec) = member(root, "spec") else {
        return;
    };
    match kind {
        "SpiderSubnet" => network(spec),
        "SpiderIPPool" => {
            network(spec);
            for name in ["podAffinity", "namespaceAffinity", "nodeAffinity"] {
                push(spec, name, selector());
            }
            push(spec, "podAffinity", some_term());
        }
        "SpiderReservedIP" => {
            push(spec, "ips", range_format());
            attach(spec, [version_stays(), version_or_address(), one_family()]);
        }
        _ => {}
    }
}

/// Rules of a spec with a subnet.
fn network(spec: &mut JSONSchemaProps) {
    push(spec, "subnet", subnet_stays());
    push(spec, "subnet", subnet_format());
    push(spec, "subnet", subnet_canonical());
    push(spec, "ips", range_format());
    push(spec, "excludeIPs", range_format());
    push(spec, "gateway", address_format());
    push(spec, "routes", route_format());
    push(spec, "routes", no_default_route());
    push(spec, "routes", no_route_twice());
    attach(
        spec,
        [
            version_stays(),
            version_fits(),
            ranges_inside("ips"),
            ranges_inside("excludeIPs"),
            gateway_inside(),
            next_hops_inside(),
        ],
    );
}

fn subnet_stays() -> ValidationRule {
    ValidationRule {
        rule: "self == oldSelf".to_owned(),
        message: Some("the subnet cannot be changed; delete the object and create it with the new subnet".to_owned()),
        ..ValidationRule::default()
    }
}

fn subnet_format() -> ValidationRule {
    once_set(
        "isCIDR(self)",
        "the subnet is not in CIDR notation; write for example 10.6.0.0/16 or fd00:6::/64",
    )
}

fn subnet_canonical() -> ValidationRule {
    once_set(
        "!isCIDR(self) || string(cidr(self).masked()) == self",
        "the subnet is not in canonical form: host bits must be zero and IPv6 in its shortest lower-case form; write for \
         example 10.6.0.0/16 or fd00:6::/64",
    )
}

fn range_format() -> ValidationRule {
    when_changed(
        "self.all(range, range.split('-', 2).all(address, isIP(address)))",
        "each item must be one address or a range; write for example 10.6.1.10 or 10.6.1.10-10.6.1.250, without blanks \
         and not in CIDR notation",
    )
}

fn address_format() -> ValidationRule {
    when_changed(
        "isIP(self)",
        "this must be an IP address; write for example 10.6.0.1 or fd00:6::1",
    )
}

fn route_format() -> ValidationRule {
    when_changed(
        "self.all(route, isCIDR(route.dst) && isIP(route.gw) && cidr(route.dst).ip().family() == ip(route.gw).family())",
        "each route needs a dst in CIDR notation and a gw that is an address of the same IP version; write for example \
         dst 192.168.200.0/24 and gw 10.6.0.254",
    )
}

fn no_default_route() -> ValidationRule {
    when_changed(
        "self.all(route, !(route.dst in ['0.0.0.0/0', '::/0']))",
        "the default route is not a route here; write its next hop in gateway",
    )
}

fn no_route_twice() -> ValidationRule {
    when_changed(
        "self.all(route, self.exists_one(other, other.dst == route.dst))",
        "two routes have the same dst; keep one of them",
    )
}

fn selector() -> ValidationRule {
    when_changed(
        "!has(self.matchExpressions) || self.matchExpressions.all(term, term.operator in ['In', 'NotIn'] ? \
         has(term.values) && size(term.values) > 0 : \
         term.operator in ['Exists', 'DoesNotExist'] && (!has(term.values) || size(term.values) == 0))",
        "the operator of a matchExpressions term must be In or NotIn with values, or Exists or DoesNotExist without values",
    )
}

fn some_term() -> ValidationRule {
    when_changed(
        "has(self.matchLabels) && size(self.matchLabels) > 0 || \
         has(self.matchExpressions) && size(self.matchExpressions) > 0",
        "an empty podAffinity selects nothing in particular; write matchLabels or matchExpressions, or leave podAffinity out",
    )
}

fn version_stays() -> ValidationRule {
    ValidationRule {
        rule: "!has(oldSelf.ipVersion) || has(self.ipVersion) && self.ipVersion == oldSelf.ipVersion".to_owned(),
        message: Some(
            "ipVersion cannot be changed or removed once it is set; delete the object and create it with the other version"
                .to_owned(),
        ),
        field_path: Some(".ipVersion".to_owned()),
        ..ValidationRule::default()
    }
}

fn version_fits() -> ValidationRule {
    of_spec(
        "ipVersion",
        "!has(self.ipVersion) || !isCIDR(self.subnet) || cidr(self.subnet).ip().family() == self.ipVersion",
        "ipVersion is not that of the subnet; leave ipVersion out, it is taken from the subnet",
    )
}

fn ranges_inside(name: &str) -> ValidationRule {
    // What is not an address at all is the format rule's to report.
    of_spec(
        name,
        &format!(
            "!has(self.{name}) || !isCIDR(self.subnet) || self.{name}.all(range, range.split('-', 2).all(address, \
             !isIP(address) || cidr(self.subnet).containsIP(address)))"
        ),
        "each address must be inside subnet; correct the addresses or use the object of the subnet they are in",
    )
}

fn gateway_inside() -> ValidationRule {
    of_spec(
        "gateway",
        "!has(self.gateway) || !isIP(self.gateway) || !isCIDR(self.subnet) || cidr(self.subnet).containsIP(self.gateway)",
        "the gateway must be inside subnet; write an address of the subnet",
    )
}

fn next_hops_inside() -> ValidationRule {
    of_spec(
        "routes",
        "!has(self.routes) || !isCIDR(self.subnet) || \
         self.routes.all(route, !isIP(route.gw) || cidr(self.subnet).containsIP(route.gw))",
        "the gw of each route must be inside subnet; write an address of the subnet",
    )
}

fn version_or_address() -> ValidationRule {
    ValidationRule {
        rule: "has(self.ipVersion) || has(self.ips) && size(self.ips) > 0".to_owned(),
        message: Some("the IP version is unknown; set ipVersion to 4 or 6 or add an address to ips".to_owned()),
        field_path: Some(".ips".to_owned()),
        ..ValidationRule::default()
    }
}

fn one_family() -> ValidationRule {
    of_spec(
        "ips",
        "!has(self.ips) || self.ips.all(range, range.split('-', 2).all(address, !isIP(address) || \
         ip(address).family() == (has(self.ipVersion) ? self.ipVersion : (self.ips[0].contains(':') ? 6 : 4))))",
        "all addresses must be of one IP version, that of ipVersion if it is set; write the others in another SpiderReservedIP",
    )
}

/// A rule on one field that lets an unchanged value pass.
fn when_changed(rule: &str, message: &str) -> ValidationRule {
    guarded("oldSelf.hasValue() && oldSelf.value() == self", rule, message)
}

/// A rule on one field that cannot change, so that looking at it once is enough.
fn once_set(rule: &str, message: &str) -> ValidationRule {
    guarded("oldSelf.hasValue()", rule, message)
}

/// A rule of a spec about one of its fields that lets an unchanged value pass.
fn of_spec(name: &str, rule: &str, message: &str) -> ValidationRule {
    let unchanged = format!(
        "oldSelf.hasValue() && has(oldSelf.value().{name}) && has(self.{name}) && oldSelf.value().{name} == self.{name}"
    );
    ValidationRule {
        field_path: Some(format!(".{name}")),
        ..guarded(&unchanged, rule, message)
    }
}

fn guarded(unchanged: &str, rule: &str, message: &str) -> ValidationRule {
    ValidationRule {
        rule: format!("{unchanged} || ({rule})"),
        message: Some(message.to_owned()),
        optional_old_self: Some(true),
        ..ValidationRule::default()
    }
}

fn member<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> Option<&'a mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut(name)
}

fn push(schema: &mut JSONSchemaProps, name: &str, rule: ValidationRule) {
    if let Some(field) = member(schema, name) {
        attach(field, [rule]);
    }
}

fn attach<const N: usize>(schema: &mut JSONSchemaProps, rules: [ValidationRule; N]) {
    schema.x_kubernetes_validations.get_or_insert_default().extend(rules);
}
