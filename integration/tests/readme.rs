//! What the documents say, held against what there is.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use weir_integration::gateway::weir_binary;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Markdown file that people are sent to.
fn documents() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("docs"), root().join("samples"), root().join("conf"), root().join("filters")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            // What npm and pip have installed is not ours.
            if path.is_dir() && name != "node_modules" && name != ".venv" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found.extend([root().join("README.md"), root().join("CHANGELOG.md")]);
    Ok(found)
}

/// The targets of `[text](target)` that are files of this repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    targets.filter(|target| !target.contains("://") && !target.starts_with('#'))
}

#[test]
fn every_link_between_the_documents_leads_somewhere() -> Result<()> {
    let mut dead = Vec::new();
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        let folder = document.parent().context("a document has a folder")?;
        for target in links(&text) {
            let file = target.split('#').next().unwrap_or_default();
            if !folder.join(file).exists() {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    ensure!(dead.is_empty(), "links to files that are not there:\n{}", dead.join("\n"));
    Ok(())
}

#[test]
fn the_readmes_configuration_is_one_that_check_accepts() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let (_, rest) = readme.split_once("```yaml\n").context("the README shows no YAML")?;
    let (yaml, _) = rest.split_once("```").context("the YAML has no end")?;
    let config = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    fs::write(config.path(), yaml)?;
    let check = Command::new(weir_binary()?).arg("check").arg("-c").arg(config.path()).output()?;
    ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    Ok(())
}
