//! The JSON Schema: what `weir schema` prints, the documentation, and the examples agree.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use weir::registry::Registry;

/// One key of the schema.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// From the top of the file, with `[]` behind a list: `static_resources.clusters[].name`.
    pub(crate) path: String,
    /// The filter whose configuration it belongs to, where filters differ.
    pub(crate) filter: Option<String>,
    /// The type in a word, as the documentation has it.
    pub(crate) kind: String,
    pub(crate) default: Option<Value>,
    pub(crate) is_leaf: bool,
    required: bool,
    description: String,
    /// The keys of the mapping that it stands in share this.
    section: String,
}

impl Key {
    /// True for a filter that its own crate reads.
    pub(crate) fn is_stranger(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter != "dgp.filter.grpc.proxy")
    }
}

fn schema() -> Value {
    weir::config::schema(&Registry::builtin())
}

/// Every key of the schema, in the order of the file.
pub(crate) fn keys() -> Vec<Key> {
    let root = schema();
    let mut keys = Vec::new();
    Walk { root: &root, keys: &mut keys }.object(&root, "", None);
    keys
}

struct Walk<'s, 'k> {
    root: &'s Value,
    keys: &'k mut Vec<Key>,
}

impl<'s> Walk<'s, '_> {
    /// The schema behind a reference, or beside a null.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        if let Some(reference) = schema["$ref"].as_str() {
            return self.root.pointer(&reference[1..]).unwrap();
        }
        // One or a list: the one says what is in the list.
        if schema["else"].is_object() { self.resolve(&schema["else"]) } else { schema }
    }

    fn object(&mut self, object: &'s Value, path: &str, filter: Option<&str>) {
        let Some(properties) = object["properties"].as_object() else { return };
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, property) in properties {
            let key_path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let inner = self.resolve(property);
            let (inner_path, inner) = match inner["items"].is_object() {
                true => (format!("{key_path}[]"), self.resolve(&inner["items"])),
                false => (key_path.clone(), inner),
            };
            self.keys.push(Key {
                path: key_path,
                filter: filter.map(str::to_owned),
                kind: kind(property, self.resolve(property), inner),
                default: property.get("default").cloned(),
                is_leaf: inner["properties"].is_null() && name != "config",
                required: required.contains(&name.as_str()),
                description: property["description"].as_str().unwrap_or_default().to_owned(),
                section: section(path, filter),
            });
            self.object(inner, &inner_path, filter);
        }
        self.configs(object, path, filter);
    }

    /// What stands under `config` of a filter, by its name.
    fn configs(&mut self, object: &'s Value, path: &str, filter: Option<&str>) {
        let mut seen = Vec::new();
        for rule in object["allOf"].as_array().into_iter().flatten() {
            let name = rule["if"]["properties"]["name"]["const"].as_str().unwrap();
            let config = self.resolve(&rule["then"]["properties"]["config"]);
            // Two names of one filter.
            if !seen.contains(&config) {
                seen.push(config);
                let is_grpc = path.ends_with("grpc_filters[]");
                self.object(config, &format!("{path}.config"), if is_grpc { Some(name) } else { filter });
            }
        }
    }
}

fn section(path: &str, filter: Option<&str>) -> String {
    match filter {
        Some(filter) => format!("{path} of {filter}"),
        None if path.is_empty() => "the file".to_owned(),
        None => path.to_owned(),
    }
}

/// The type in a word.
fn kind(property: &Value, resolved: &Value, inner: &Value) -> String {
    let reference = property["$ref"].as_str().unwrap_or_default();
    if reference.ends_with("/Duration") || reference.ends_with("/Size") {
        return reference.rsplit('/').next().unwrap().to_lowercase();
    }
    if reference.ends_with("/FileMode") {
        return "octal".to_owned();
    }
    // The schema of a required key is written out in its place.
    if resolved["pattern"].as_str().is_some_and(|pattern| pattern.contains("(ns|us|")) {
        return "duration".to_owned();
    }
    let is = |schema: &Value, name: &str| {
        schema["type"] == name || schema["type"].as_array().is_some_and(|types| types.iter().any(|one| one == name))
    };
    if resolved["items"].is_object() {
        return if is(inner, "string") { "list of strings" } else { "list of mappings" }.to_owned();
    }
    for (name, word) in [
        ("integer", "number"),
        ("number", "number"),
        ("boolean", "boolean"),
        ("object", "mapping"),
        ("string", "string"),
    ] {
        if is(resolved, name) {
            return word.to_owned();
        }
    }
    "anything".to_owned()
}

fn default_words(key: &Key) -> String {
    match &key.default {
        None if key.required => "required".to_owned(),
        None => String::new(),
        Some(Value::String(text)) if text.is_empty() => "`\"\"`".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(Value::Array(items)) => {
            format!("`[{}]`", items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
        }
        Some(Value::Object(empty)) if empty.is_empty() => String::new(),
        Some(other) => format!("`{other}`"),
    }
}

/// The table of each section.
fn tables() -> BTreeMap<String, String> {
    let mut tables = BTreeMap::new();
    for key in keys() {
        let table = tables
            .entry(key.section.clone())
            .or_insert_with(|| "| key | type | default | |\n| --- | --- | --- | --- |\n".to_owned());
        let name = key.path.rsplit('.').next().unwrap();
        let description = key.description.replace("\n\n", " ").replace('|', "\\|");
        table.push_str(&format!("| `{name}` | {} | {} | {description} |\n", key.kind, default_words(&key)));
    }
    tables
}

/// `WEIR_BLESS=1` writes the tables anew; the text between them is written by hand.
#[test]
fn the_documentation_has_every_key_and_no_other() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let mut tables = tables();
    let mut written = String::new();
    let mut rest = text.as_str();
    while let Some(begin) = rest.find("<!-- keys: ") {
        let marker_end = begin + rest[begin..].find("-->\n").unwrap() + 4;
        let name = rest[begin + 11..marker_end - 4].trim();
        let end = marker_end + rest[marker_end..].find("<!-- end -->").unwrap_or_else(|| panic!("no end of {name}"));
        written.push_str(&rest[..marker_end]);
        // Several places with the same keys share a table.
        let mut shared = name
            .split(", ")
            .map(|name| tables.remove(name).unwrap_or_else(|| panic!("documented, and not in the schema: {name}")));
        let table = shared.next().unwrap();
        assert!(shared.all(|other| other == table), "not the same keys: {name}");
        written.push_str(&table);
        rest = &rest[end..];
    }
    written.push_str(rest);
    assert!(tables.is_empty(), "in the schema, and not documented: {:#?}", tables.keys());
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::write(&path, &written).unwrap();
    } else {
        assert!(written == text, "docs/configuration.md is behind the schema: WEIR_BLESS=1 writes its tables anew");
    }
}

#[test]
fn every_key_has_a_description() {
    let without: Vec<String> =
        keys().into_iter().filter(|key| key.description.is_empty()).map(|key| key.path).collect();
    assert!(without.is_empty(), "{without:#?}");
}

#[test]
fn the_examples_fit_the_schema() {
    let root = schema();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let instance: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let mut faults = Vec::new();
        validate(&root, &root, &instance, "", &mut faults);
        assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
    }
}

#[test]
fn a_wrong_file_does_not_fit_the_schema() {
    let root = schema();
    let minimal = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/minimal.yaml")).unwrap();
    for (right, wrong, fault) in [
        ("lb_policy: RoundRobin", "lb_polcy: RoundRobin", "/static_resources/clusters/0/lb_polcy: unknown"),
        ("RoundRobin", "RoundRobbin", "/static_resources/clusters/0/lb_policy: none of anyOf"),
        (
            "port: 50051",
            "port: 70000",
            "/static_resources/clusters/0/endpoints/0/socket_address/port: above the maximum",
        ),
        ("name: dgp.filter.grpc.proxy", "name: acme", ".../grpc_filters/0/name: not one of the enum"),
        (
            "name: dgp.filter.grpc.proxy",
            "name: dgp.filter.grpc.proxy, config: {a: 1}",
            ".../grpc_filters/0/config/a: unknown",
        ),
    ] {
        assert!(minimal.contains(right), "{right}");
        let instance: Value = serde_yaml::from_str(&minimal.replace(right, wrong)).unwrap();
        let mut faults = Vec::new();
        validate(&root, &root, &instance, "", &mut faults);
        let end = fault.trim_start_matches("...");
        assert!(faults.iter().any(|found| found.ends_with(end)), "{wrong}: {faults:#?}");
    }
}

/// As much of JSON Schema as this one uses; patterns are left to editors.
fn validate(root: &Value, schema: &Value, instance: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        validate(root, root.pointer(&reference[1..]).unwrap(), instance, at, faults);
    }
    let fits = |schema: &Value| {
        let mut faults = Vec::new();
        validate(root, schema, instance, at, &mut faults);
        faults.is_empty()
    };
    if schema["anyOf"].as_array().is_some_and(|all| !all.iter().any(fits)) {
        faults.push(format!("{at}: none of anyOf"));
    }
    for part in schema["allOf"].as_array().into_iter().flatten().chain([schema]).filter(|part| part["if"].is_object()) {
        let branch = if fits(&part["if"]) { &part["then"] } else { &part["else"] };
        validate(root, branch, instance, at, faults);
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(instance)) {
        faults.push(format!("{at}: not one of the enum"));
    }
    if schema.get("const").is_some_and(|constant| constant != instance) {
        faults.push(format!("{at}: not the constant"));
    }
    // A pattern alone stands for `${NAME}`, which no value of an example is.
    if schema["pattern"].is_string() && schema["type"].is_null() && !instance.to_string().contains("${") {
        faults.push(format!("{at}: not the pattern"));
    }
    check_type(schema, instance, at, faults);
    if instance.as_f64().is_some_and(|number| schema["maximum"].as_f64().is_some_and(|maximum| number > maximum)) {
        faults.push(format!("{at}: above the maximum"));
    }
    for (index, item) in instance.as_array().into_iter().flatten().enumerate() {
        if schema["items"].is_object() {
            validate(root, &schema["items"], item, &format!("{at}/{index}"), faults);
        }
    }
    let Some(object) = instance.as_object() else { return };
    for (key, value) in object {
        match &schema["properties"][key] {
            Value::Null if schema["additionalProperties"] == false => faults.push(format!("{at}/{key}: unknown")),
            Value::Null => {}
            property => validate(root, property, value, &format!("{at}/{key}"), faults),
        }
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(key) {
            faults.push(format!("{at}/{key}: missing"));
        }
    }
}

fn check_type(schema: &Value, instance: &Value, at: &str, faults: &mut Vec<String>) {
    let found = match instance {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = |one: &Value| one == found || (one == "number" && found == "integer");
    let allowed = match &schema["type"] {
        one @ Value::String(_) => fits(one),
        Value::Array(many) => many.iter().any(fits),
        _ => true,
    };
    if !allowed {
        faults.push(format!("{at}: {found} where {} is meant", schema["type"]));
    }
}
