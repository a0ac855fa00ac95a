//! The JSON Schema of a configuration.

use schemars::transform::{Transform, transform_subschemas};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::file::File;
use super::file::manager::{Manager, Proxy};
use crate::registry::{PROXY, Registry};

/// The JSON Schema (draft 2020-12) of a configuration with these filters: every key with its description and default.
#[must_use]
pub fn schema(registry: &Registry) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let manager = generator.subschema_for::<Manager>();
    let filters = filter_schemas(registry, &mut generator);
    let mut root = generator.into_root_schema_for::<File>();
    choose_config(&mut root, "NetworkFilter", &managers(&manager));
    choose_config(&mut root, "GrpcFilter", &filters);
    Reflow.transform(&mut root);
    AllowNull.transform(&mut root);
    AllowEnvironment.transform(&mut root);
    root.to_value()
}

/// What may stand under `config` of a filter, by the filter's name.
type ByName = Vec<(&'static str, Value)>;

fn managers(manager: &Schema) -> ByName {
    let manager = manager.clone().to_value();
    let names = ["dgp.filter.network.grpcconnectionmanager", "dgp.filter.grpcconnectionmanager"];
    names.into_iter().map(|name| (name, manager.clone())).collect()
}

fn filter_schemas(registry: &Registry, generator: &mut SchemaGenerator) -> ByName {
    let mut all: ByName = vec![(PROXY, generator.subschema_for::<Proxy>().to_value())];
    all.extend(registry.schemas(generator).into_iter().map(|(name, schema)| (name, schema.to_value())));
    all
}

/// "If the name is this, then `config` is that", for each name.
fn choose_config(root: &mut Schema, definition: &str, by_name: &ByName) {
    let Some(filter) = root.pointer_mut(&format!("/$defs/{definition}")).and_then(Value::as_object_mut) else { return };
    let rule = |(name, config): &(&str, Value)| {
        json!({
            "if": { "properties": { "name": { "const": name } }, "required": ["name"] },
            "then": { "properties": { "config": config } },
        })
    };
    filter.insert("allOf".to_owned(), by_name.iter().map(rule).collect());
    let names: Vec<&str> = by_name.iter().map(|(name, _)| *name).collect();
    if let Some(name) = filter.get_mut("properties").and_then(|properties| properties.get_mut("name")) {
        name["enum"] = json!(names);
    }
}

/// A doc comment is broken at the width of the source; in an editor its lines have no such width.
struct Reflow;

impl Transform for Reflow {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(Value::String(text)) = schema.as_object_mut().and_then(|object| object.get_mut("description")) {
            let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
            *text = paragraphs.collect::<Vec<_>>().join("\n\n");
        }
    }
}

/// A mapping may be left empty, as in `config:` with nothing behind it.
///
/// schemars says "this or null" for whatever is optional, behind which editors lose sight of what is wrong within.
struct AllowNull;

impl Transform for AllowNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        let null = json!({ "type": "null" });
        let inner = match object.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some([inner, other]) if *other == null => inner.as_object().cloned(),
            _ => None,
        };
        if let Some(inner) = inner {
            object.remove("anyOf");
            object.extend(inner);
        }
        if object.get("type").is_some_and(|one| one == "object") {
            object.insert("type".to_owned(), json!(["object", "null"]));
        }
    }
}

/// Any scalar may be `${NAME}`: a text where a number or a boolean is meant.
struct AllowEnvironment;

impl Transform for AllowEnvironment {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(object) = schema.as_object_mut() {
            allow_environment(object);
        }
    }
}

fn allow_environment(schema: &mut Map<String, Value>) {
    let widened: Vec<Value> = match schema.get("type") {
        Some(Value::String(one)) if is_number_or_boolean(one) => vec![json!(one)],
        Some(Value::Array(many)) if many.iter().filter_map(Value::as_str).any(is_number_or_boolean) => many.clone(),
        _ => return,
    };
    if widened.iter().any(|one| one == "string") {
        return;
    }
    schema.insert("type".to_owned(), widened.into_iter().chain([json!("string")]).collect());
    schema.insert("pattern".to_owned(), json!(r"\$\{"));
    schema.remove("format");
}

fn is_number_or_boolean(name: &str) -> bool {
    matches!(name, "integer" | "number" | "boolean")
}
