//! No key without a test: what the schema says is honoured stands in some test's configuration.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use weir_integration::gateway::weir_binary;

/// Collects the names of all properties whose description does not say that they have no effect.
fn honoured(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            for (word, inner) in object {
                if word == "properties" {
                    let properties = inner.as_object().unwrap();
                    keys.extend(properties.iter().filter(|(_, one)| has_effect(one)).map(|(key, _)| key.clone()));
                    properties.values().for_each(|one| honoured(one, keys));
                } else {
                    honoured(inner, keys);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| honoured(item, keys)),
        _ => {}
    }
}

fn has_effect(property: &Value) -> bool {
    let description = property["description"].as_str().unwrap_or_default().to_lowercase();
    !description.contains("no effect")
}

/// Everything that the tests of this folder are made of, but this file.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests/keys.rs") {
            *text += &fs::read_to_string(path).unwrap();
        }
    }
}

/// True when `key:` stands in `text` as a word of its own.
fn is_written(key: &str, text: &str) -> bool {
    let written = format!("{key}:");
    text.match_indices(&written).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        // `key::` would be a path of Rust's.
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_') && !text[at + written.len()..].starts_with(':')
    })
}

#[test]
fn every_honoured_key_stands_in_a_test() {
    let printed = Command::new(weir_binary().unwrap()).arg("schema").output().unwrap();
    let schema: Value = serde_json::from_slice(&printed.stdout).unwrap();
    let mut keys = BTreeSet::new();
    honoured(&schema, &mut keys);
    assert!(keys.len() > 60, "only {} keys in the schema: {keys:?}", keys.len());
    let mut text = String::new();
    for folder in ["tests", "src"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut text);
    }
    let missing: Vec<&String> = keys.iter().filter(|key| !is_written(key, &text)).collect();
    assert!(missing.is_empty(), "no integration test sets {missing:?}: write one that shows what each changes");
}
