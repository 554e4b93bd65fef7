//! From the schema of a Rust type to the schema Kubernetes understands.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use schemars::transform::AddNullable;
use serde_json::Value;

/// The schema of a whole object, made as kube's derive makes it.
pub(crate) fn root_schema<T: JsonSchema>() -> Option<JSONSchemaProps> {
    let generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let schema = generator.into_root_schema_for::<T>();
    // A schema that does not convert is caught by the test that compares the committed YAML.
    serde_json::from_value(schema.to_value()).ok()
}

/// Corrects the schema of a whole object. Its status is never required: an object begins without one.
pub(super) fn finish_root(root: &mut JSONSchemaProps) {
    finish(root);
    if let Some(required) = &mut root.required {
        required.retain(|name| name != "status");
    }
    root.required.take_if(|required| required.is_empty());
}

/// Corrects a schema and everything below it.
///
/// An absent member is never written as null by us, and the API server drops a null that is not allowed, so `nullable`
/// would only tell readers something they need not know.
///
/// Members that reading replaces by something empty when they are missing are required of writers.
fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.title = None;
    if let Some(description) = &mut schema.description {
        // Where a line of our source ends means nothing to whoever runs `kubectl explain`.
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    merge_strategies(schema);
    for (name, member) in schema.properties.iter_mut().flatten() {
        finish(member);
        if member.default.take_if(|default| is_fallback(&default.0)).is_some() {
            schema.required.get_or_insert_default().push(name.clone());
        }
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => finish(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(finish),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        finish(values);
    }
}

/// Says how server-side apply treats the standard types of Kubernetes: conditions belong to whoever set one, a selector
/// belongs to one writer as a whole. The generated schemas of these types do not say so themselves.
fn merge_strategies(schema: &mut JSONSchemaProps) {
    let atomic = || Some("atomic".to_owned());
    let properties = schema.properties.get_or_insert_default();
    if let Some(conditions) = properties.get_mut("conditions") {
        conditions.x_kubernetes_list_type = Some("map".to_owned());
        conditions.x_kubernetes_list_map_keys = Some(vec!["type".to_owned()]);
    }
    if let Some(expressions) = properties.get_mut("matchExpressions") {
        expressions.x_kubernetes_list_type = atomic();
        schema.x_kubernetes_map_type = atomic();
    } else if let (true, Some(values)) = (properties.contains_key("operator"), properties.get_mut("values")) {
        values.x_kubernetes_list_type = atomic();
    }
    schema.properties.take_if(|properties| properties.is_empty());
}

/// Whether a default is what reading falls back to, and not one that users are promised.
fn is_fallback(default: &Value) -> bool {
    matches!(default, Value::String(_) | Value::Array(_) | Value::Object(_))
}
