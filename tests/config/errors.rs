//! Every wrong file of `tests/wrong` has its message beside it.
//!
//! `WEIR_BLESS=1 cargo test -p weir --test config` writes the messages anew: read every one that changed. Is the caret
//! under the right thing? Does the message help someone who has never seen the code?

use std::fs;
use std::path::{Path, PathBuf};

use super::load;

fn wrong_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_wrong_file_is_refused_with_the_message_beside_it() {
    let files = wrong_files();
    assert!(files.len() >= 40, "{} wrong files", files.len());
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut differing = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let Err(errors) = load(&text, name) else { panic!("{name} was accepted") };
        let message = errors.to_string();
        let stored = path.with_extension("txt");
        if bless {
            fs::write(&stored, &message).unwrap();
        } else if fs::read_to_string(&stored).unwrap_or_default() != message {
            differing.push(format!("{name}:\n{message}"));
        }
    }
    assert!(differing.is_empty(), "messages that differ from those stored:\n\n{}", differing.join("\n"));
}

#[test]
fn errors_are_sorted_by_line_and_none_is_told_twice() {
    for path in wrong_files() {
        let text = fs::read_to_string(&path).unwrap();
        let errors = load(&text, "f.yaml").unwrap_err();
        let places: Vec<_> = errors.list().iter().map(|error| (error.place, &error.message)).collect();
        assert!(places.is_sorted(), "{}", path.display());
        assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "{}", path.display());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_like_the_others() {
    let registry = weir::registry::Registry::builtin();
    let errors = weir::config::load(Path::new("no/such.yaml"), &registry, &|_| None).unwrap_err();
    let message = errors.to_string();
    assert!(message.starts_with("error: the configuration cannot be read: "), "{message}");
    assert!(message.contains("\n --> no/such.yaml\n"), "{message}");
}

/// What is said of a file with these bytes.
fn said_of(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.yaml");
    fs::write(&path, bytes).unwrap();
    let errors = weir::config::load(&path, &weir::registry::Registry::builtin(), &|_| None).unwrap_err();
    errors.to_string().replace(&path.display().to_string(), "f.yaml")
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_stand() {
    assert_eq!(
        said_of(b"# gr\xc3\xbcn\nworkers: 1 # caf\xe9 bar\n"),
        "error: the file is not UTF-8\n --> f.yaml:2:17\n  |\n2 | workers: 1 # caf\u{fffd} bar\n  \
         |                 ^ the byte 0xE9; save the file as UTF-8\n"
    );
}

#[test]
fn a_file_in_utf_16_is_named_as_such() {
    for bytes in [b"\xff\xfea\0:\0", b"\xfe\xff\0a\0:"] {
        assert_eq!(said_of(bytes), "error: the file is UTF-16\n --> f.yaml\n  = save it as UTF-8\n");
    }
}

#[test]
fn a_message_cannot_write_to_the_terminal() {
    let errors = load("\"a\\e[31mb\": \"\u{7}\"\n", "f.yaml").unwrap_err().to_string();
    assert!(errors.chars().all(|c| c == '\n' || !c.is_control()), "{errors:?}");
}
