//! What subnets and pools have in common: a network, addresses of it, a gateway and routes.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use super::{Each, FORBIDDEN, Rule, range_texts, version_stays};

/// Rules of a spec with a subnet.
pub(super) fn rules() -> Vec<ValidationRule> {
    let mut rules = vec![
        version_stays(),
        subnet_stays(),
        subnet_format(),
        subnet_canonical(),
        version_fits(),
    ];
    for list in ["ips", "excludeIPs"] {
        rules.extend(range_texts(list));
        rules.push(ranges_inside(list));
    }
    rules.extend([gateway_format(), gateway_inside()]);
    rules.extend(routes());
    rules
}

fn subnet_stays() -> ValidationRule {
    ValidationRule {
        rule: "!has(oldSelf.subnet) || has(self.subnet) && self.subnet == oldSelf.subnet".to_owned(),
        message: Some("the subnet cannot be changed; delete the object and create it with the new subnet".to_owned()),
        field_path: Some(".subnet".to_owned()),
        reason: Some(FORBIDDEN.to_owned()),
        ..ValidationRule::default()
    }
}

fn subnet_format() -> ValidationRule {
    Rule {
        field: "subnet",
        holds: "isCIDR(self.subnet)".to_owned(),
        message: "this is not a subnet in CIDR notation; write for example 10.6.0.0/16 or fd00:6::/64",
        text: Some(
            "'\"%s\" is not a subnet in CIDR notation; write for example 10.6.0.0/16 or fd00:6::/64'.format([self.subnet])"
                .to_owned(),
        ),
    }
    .build()
}

fn subnet_canonical() -> ValidationRule {
    Rule {
        field: "subnet",
        holds: "!isCIDR(self.subnet) || string(cidr(self.subnet).masked()) == self.subnet".to_owned(),
        message: "the subnet is not in canonical form: host bits must be zero and IPv6 in its shortest lower-case form",
        text: Some(
            "'subnet \"%s\" is not in canonical form; write %s'.format([self.subnet, string(cidr(self.subnet).masked())])"
                .to_owned(),
        ),
    }
    .build()
}

fn version_fits() -> ValidationRule {
    let family = "cidr(self.subnet).ip().family()";
    Rule {
        field: "ipVersion",
        holds: format!("!isCIDR(self.subnet) || {family} == self.ipVersion"),
        message: "ipVersion is not that of the subnet; leave ipVersion out, it is taken from the subnet",
        text: Some(format!(
            "'the subnet %s is IPv%d; write %d or leave ipVersion out'.format([self.subnet, {family}, {family}])"
        )),
    }
    .build()
}

fn ranges_inside(list: &str) -> ValidationRule {
    // What is not an address at all is the format rule's to report.
    Each {
        field: list,
        list,
        item: "range",
        sound: "!isCIDR(self.subnet) || range.split('-', 2).all(address, !isIP(address) || cidr(self.subnet).containsIP(address))",
        message: "each address must be inside spec.subnet; correct the addresses or use the object of the subnet they are in",
        text: ": %s is not inside spec.subnet %s; write addresses of that subnet",
        arguments: &["BAD", "self.subnet"],
    }
    .build()
}

fn gateway_format() -> ValidationRule {
    Rule {
        field: "gateway",
        holds: "isIP(self.gateway)".to_owned(),
        message: "this is not an IP address; write for example 10.6.0.1 or fd00:6::1",
        text: Some(
            "'\"%s\" is not an IP address; write for example 10.6.0.1 or fd00:6::1'.format([self.gateway])".to_owned(),
        ),
    }
    .build()
}

fn gateway_inside() -> ValidationRule {
    Rule {
        field: "gateway",
        holds: "!isIP(self.gateway) || !isCIDR(self.subnet) || cidr(self.subnet).containsIP(self.gateway)".to_owned(),
        message: "the gateway is not inside spec.subnet; write an address of that subnet",
        text: Some(
            "'the gateway %s is not inside spec.subnet %s; write an address of that subnet'.format([self.gateway, self.subnet])"
                .to_owned(),
        ),
    }
    .build()
}

fn routes() -> Vec<ValidationRule> {
    let each = |sound, message, text, arguments| {
        Each {
            field: "routes",
            list: "routes",
            item: "route",
            sound,
            message,
            text,
            arguments,
        }
        .build()
    };
    // What is not a network or an address at all is reported as that and as nothing else.
    vec![
        each(
            "isCIDR(route.dst)",
            "dst is not a subnet in CIDR notation; write for example 192.168.200.0/24 or fd00:6::/64",
            ".dst: \"%s\" is not a subnet in CIDR notation; write for example 192.168.200.0/24 or fd00:6::/64",
            &["BAD.dst"],
        ),
        each(
            "!isCIDR(route.dst) || !isCIDR(self.subnet) || cidr(route.dst).ip().family() == cidr(self.subnet).ip().family()",
            "dst is not of the IP version of the subnet",
            ".dst: the route %s is not IPv%d, as the subnet is",
            &["BAD.dst", "cidr(self.subnet).ip().family()"],
        ),
        each(
            "!isCIDR(route.dst) || cidr(route.dst).prefixLength() != 0",
            "the default route is not a route here; write its next hop in spec.gateway",
            ".dst: %s is the default route, which is not a route here; write its next hop in spec.gateway",
            &["BAD.dst"],
        ),
        each(
            "!isCIDR(route.dst) || self.routes.exists_one(other, isCIDR(other.dst) && \
             cidr(other.dst).prefixLength() == cidr(route.dst).prefixLength() && cidr(other.dst).containsIP(cidr(route.dst).ip()))",
            "two routes go to the same network; keep one of them",
            ".dst: another route goes to %s, too; keep one of them",
            &["string(cidr(BAD.dst).masked())"],
        ),
        each(
            "isIP(route.gw)",
            "gw is not an IP address; write for example 10.6.0.254 or fd00:6::254",
            ".gw: \"%s\" is not an IP address; write for example 10.6.0.254 or fd00:6::254",
            &["BAD.gw"],
        ),
        each(
            "!isIP(route.gw) || !isCIDR(self.subnet) || cidr(self.subnet).containsIP(route.gw)",
            "the next hop is not inside spec.subnet; write an address of that subnet",
            ".gw: the next hop %s is not inside spec.subnet %s; write an address of that subnet",
            &["BAD.gw", "self.subnet"],
        ),
    ]
}
