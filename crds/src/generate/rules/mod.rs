//! Validation rules that the API server evaluates itself, so that objects are sound while no webhook runs.
//!
//! Only what one object can tell about itself is said here; what needs other objects is the webhook's. CEL cannot compare IPv6
//! addresses, so the order of the ends of an IPv6 range is the webhook's, too, and so is a gateway inside of a range.
//!
//! All rules sit on `spec` and point at a field of it. They are evaluated on every write, also of the status, and a stored object
//! that breaks one, or that is too large to be looked at, must not lose the ability to give out addresses: each rule begins by
//! letting a field pass that did not change. Functions are those of Kubernetes 1.30, which the API server lets CRDs use from 1.31 on.
//!
//! Each rule has a counterpart in `admission`, which the webhook uses; docs/admission.md lists them all.

mod names;
mod network;
mod reserved;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, ValidationRule};

/// Adds the rules of a kind to its schema.
pub(super) fn add(kind: &str, root: &mut JSONSchemaProps) {
    let rules = match kind {
        "SpiderSubnet" => network::rules(),
        "SpiderIPPool" => network::rules().into_iter().chain(names::rules()).collect(),
        "SpiderReservedIP" => reserved::rules(),
        _ => return,
    };
    if let Some(spec) = root.properties.as_mut().and_then(|members| members.get_mut("spec")) {
        if kind == "SpiderIPPool" {
            names::bound(spec);
        }
        spec.x_kubernetes_validations.get_or_insert_default().extend(rules);
    }
}

/// A rule about one field of a spec.
struct Rule<'a> {
    /// The field.
    field: &'a str,
    /// What must hold of it, unless it is absent or unchanged.
    holds: String,
    /// What is said where the text cannot be made.
    message: &'a str,
    /// Makes the text, which names what is wrong and says what to write. Made by `format` throughout: the API server cannot tell what
    /// putting texts together costs.
    text: Option<String>,
}

impl Rule<'_> {
    fn build(self) -> ValidationRule {
        let Self {
            field,
            holds,
            message,
            text,
        } = self;
        let unchanged =
            format!("oldSelf.hasValue() && has(oldSelf.value().{field}) && oldSelf.value().{field} == self.{field}");
        ValidationRule {
            rule: format!("!has(self.{field}) || {unchanged} || ({holds})"),
            message: Some(message.to_owned()),
            message_expression: text,
            field_path: Some(format!(".{field}")),
            optional_old_self: Some(true),
            ..ValidationRule::default()
        }
    }
}

/// Things of which each must be sound.
struct Each<'a> {
    /// The field that they are of.
    field: &'a str,
    /// The list of them: the field, or a member of it that may be absent.
    list: &'a str,
    /// What one of them is called in `sound`.
    item: &'a str,
    /// Whether one of them is sound.
    sound: &'a str,
    /// What is said where the text cannot be made.
    message: &'a str,
    /// Text about the first one that is not sound, after its path.
    text: &'a str,
    /// What is put into the text. `BAD` stands for what is not sound.
    arguments: &'a [&'a str],
}

impl Each<'_> {
    fn build(self) -> ValidationRule {
        let Self {
            field,
            list,
            item,
            sound,
            message,
            text,
            arguments,
        } = self;
        let own = format!("self.{list}");
        let all = format!("{own}.all({item}, {sound})");
        let arguments: Vec<String> = arguments
            .iter()
            .map(|argument| argument.replace("BAD", &format!("{own}[i]")))
            .collect();
        let rule = Rule {
            field,
            holds: if field == list {
                all
            } else {
                format!("!has({own}) || {all}")
            },
            message,
            // A list of one thing gives it a name: CEL of Kubernetes 1.30 has no variables.
            text: Some(format!(
                "[{own}.map({item}, {sound}).indexOf(false)].map(i, '{list}[%d]{text}'.format([i, {}]))[0]",
                arguments.join(", ")
            )),
        };
        rule.build()
    }
}

/// `ipVersion` may be filled in once.
fn version_stays() -> ValidationRule {
    ValidationRule {
        rule: "!has(oldSelf.ipVersion) || has(self.ipVersion) && self.ipVersion == oldSelf.ipVersion".to_owned(),
        message: Some(
            "ipVersion cannot be changed or removed once it is set; delete the object and create it with the other version"
                .to_owned(),
        ),
        field_path: Some(".ipVersion".to_owned()),
        reason: Some(FORBIDDEN.to_owned()),
        ..ValidationRule::default()
    }
}

/// The reason that the webhook gives for a field that may not be changed.
const FORBIDDEN: &str = "FieldValueForbidden";

/// Rules about the text of a list of ranges.
fn range_texts(list: &str) -> [ValidationRule; 2] {
    [
        Each {
            field: list,
            list,
            item: "range",
            sound: "range.split('-', 2).all(address, isIP(address))",
            message: "each item must be one address or a range; write for example 10.6.1.10 or 10.6.1.10-10.6.1.250, without \
                      blanks and not in CIDR notation",
            text: ": \"%s\" is not an IP range; write one address or FIRST-LAST, for example 10.6.0.10-10.6.0.20, without blanks and \
                   not in CIDR notation",
            arguments: &["BAD"],
        }
        .build(),
        Each {
            field: list,
            list,
            item: "range",
            sound: &format!("!range.matches('{IPV4_RANGE}') || {AS_NUMBERS}.isSorted()"),
            message: "a range is reversed; write the lower address first",
            text: ": range \"%s\" is reversed; write %s-%s",
            arguments: &["BAD", "BAD.split('-', 2)[1]", "BAD.split('-', 2)[0]"],
        }
        .build(),
    ]
}

/// Both ends are IPv4 addresses as far as lengths go, so that their parts always become integers. Whether they are addresses is
/// another rule's to say.
const IPV4_RANGE: &str = "^[0-9]{1,3}([.][0-9]{1,3}){3}-[0-9]{1,3}([.][0-9]{1,3}){3}$";

/// The ends of such a range as two integers.
const AS_NUMBERS: &str = "range.split('-', 2).map(address, address.split('.', 4).map(part, int(part)))\
    .map(parts, parts[0] * 16777216 + parts[1] * 65536 + parts[2] * 256 + parts[3])";
