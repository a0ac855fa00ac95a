//! Who may import whom, over `cargo metadata`: the contract of a filter at the bottom, the gateway above the filters, and
//! nothing in a circle through development dependencies either.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The packages of this workspace, and for each the other packages of the workspace that it imports.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter().map(|dependency| text(&dependency["name"]));
        all.filter(|name| names.contains(name)).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), dependencies(package))).collect()
}

/// The layer of a package; it may import what lies below.
fn layer(package: &str) -> u8 {
    match package {
        "weir-filter" => 0,
        "weir" => 2,
        "weir-integration" => 3,
        name if name.starts_with("weir-filter-") => 1,
        name if name.starts_with("weir-sample") => 3,
        name => panic!("the package `{name}` has no layer: give it one here, and in docs/architecture.md"),
    }
}

#[test]
fn imports_point_down() {
    let imports = imports();
    assert!(imports.contains_key("weir") && imports.contains_key("weir-filter"), "{imports:?}");
    for (package, imported) in imports {
        for below in imported {
            assert!(layer(&below) < layer(&package), "{package} imports {below}, which is not below it");
        }
    }
}

/// A filter compiles in seconds and outlives the runtime and the HTTP/2 implementation.
#[test]
fn the_contract_of_a_filter_knows_no_runtime() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "weir-filter", "--edges", "normal", "--prefix", "none", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains("http"), "{tree}");
    for banned in ["tokio", "h2", "hyper", "weir"] {
        assert!(!packages.contains(banned), "weir-filter imports {banned}:\n{tree}");
    }
}
