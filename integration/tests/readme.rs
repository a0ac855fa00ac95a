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

/// The targets of `[text](target)` that are files of this repository, or headings in them.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    targets.filter(|target| !target.contains("://"))
}

/// Whether a document has a heading that `#anchor` leads to: its words in lower case, with `-` between them.
fn has_heading(text: &str, anchor: &str) -> bool {
    let kept = |character: char| match character {
        ' ' | '-' => Some('-'),
        '_' => Some('_'),
        other => other.is_alphanumeric().then(|| other.to_ascii_lowercase()),
    };
    let headings = text.lines().filter_map(|line| line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' '));
    headings.map(|heading| heading.chars().filter_map(kept).collect::<String>()).any(|heading| heading == anchor)
}

/// Whether a link in a document of this folder leads somewhere.
fn leads_somewhere(folder: &Path, own: &str, target: &str) -> Result<bool> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = folder.join(file);
    if !path.exists() {
        return Ok(false);
    }
    let other = if file.is_empty() || anchor.is_empty() { own.to_owned() } else { fs::read_to_string(&path)? };
    Ok(anchor.is_empty() || has_heading(&other, anchor))
}

#[test]
fn every_link_between_the_documents_leads_somewhere() -> Result<()> {
    let mut dead = Vec::new();
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        let folder = document.parent().context("a document has a folder")?;
        for target in links(&text) {
            if !leads_somewhere(folder, &text, target)? {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    ensure!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
    Ok(())
}

/// `file::test` names a test of this folder, wherever a document says what holds a statement.
#[test]
fn every_test_that_a_document_names_exists() -> Result<()> {
    let mut missing = Vec::new();
    for document in documents()? {
        let text = fs::read_to_string(&document)?;
        for name in text.split('`').skip(1).step_by(2) {
            let is_plain =
                |part: &str| part.chars().all(|character| character.is_ascii_lowercase() || character == '_');
            let Some((file, test)) = name.split_once("::").filter(|(a, b)| is_plain(a) && is_plain(b)) else {
                continue;
            };
            if (file, test) == ("file", "name") {
                continue;
            }
            let path = root().join("integration/tests").join(format!("{file}.rs"));
            let found = path.exists() && fs::read_to_string(&path)?.contains(&format!("fn {test}("));
            if !found {
                missing.push(format!("{}: {name}", document.display()));
            }
        }
    }
    ensure!(missing.is_empty(), "tests that are not there:\n{}", missing.join("\n"));
    Ok(())
}

#[test]
fn the_readmes_configuration_is_one_that_check_accepts() -> Result<()> {
    let readme = fs::read_to_string(root().join("README.md"))?;
    let blocks: Vec<_> = readme.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    let [whole, more] = blocks[..] else { anyhow::bail!("not two blocks of YAML: {blocks:?}") };
    for yaml in [whole.to_owned(), format!("{whole}{more}")] {
        let config = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(config.path(), yaml)?;
        let check = Command::new(weir_binary()?).arg("check").arg("-c").arg(config.path()).output()?;
        ensure!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    }
    Ok(())
}
