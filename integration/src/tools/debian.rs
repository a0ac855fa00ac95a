//! What Debian's archive offers: packages installed on the machine by `apt-get`, and single files of its pool, unpacked
//! beside the other tools.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{folder, on_path, output, run};

/// Seconds to wait for another apt-get, of a test or of the machine, to be done.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// Sees to it that these packages are installed on the machine.
///
/// # Errors
///
/// When one is missing and cannot be installed: not root, not Debian, or no registry to be reached.
pub fn install(packages: &[&str]) -> Result<()> {
    // One apt-get of ours at a time: two updates at once fail on the lists' lock, which Lock::Timeout does not cover.
    let _held = lock()?;
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install_missing(&missing).with_context(|| {
        format!("could not install Debian packages; as root, run: apt-get install {}", missing.join(" "))
    })
}

/// A file of the archive's pool. Named by content, so that neither the machine's release nor the day changes what the
/// tests run against; a version stays in the pool for as long as any release has it.
#[derive(Debug, Clone, Copy)]
pub struct PoolFile {
    /// The path below the archive's root, such as `pool/main/g/grpc/grpc_1.51.1.orig.tar.gz`.
    pub path: &'static str,
    /// SHA-256 of the file, in hex.
    pub sha256: &'static str,
}

impl PoolFile {
    /// Unpacks the source archive's files named by `members` (all, where it names none) into `into`, without the folder
    /// that every source archive starts with.
    ///
    /// # Errors
    ///
    /// When the file cannot be fetched or is not the one expected.
    pub fn unpack_source(&self, into: &Path, members: &[&str]) -> Result<()> {
        fs::create_dir_all(into)?;
        let archive = self.fetch(into)?;
        if !on_path("xz") {
            install(&["xz-utils"])?;
        }
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(&archive).arg("-C").arg(into).args(["--strip-components=1", "--wildcards", "--anchored"]);
        run(tar.args(members.iter().map(|member| format!("*/{member}"))))?;
        Ok(fs::remove_file(archive)?)
    }

    /// Unpacks a binary package's files below `into`, as if that were the file system's root.
    ///
    /// # Errors
    ///
    /// When the file cannot be fetched or is not the one expected.
    pub fn unpack_package(&self, into: &Path) -> Result<()> {
        let package = self.fetch(into)?;
        run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(into))?;
        Ok(fs::remove_file(package)?)
    }

    fn fetch(&self, into: &Path) -> Result<PathBuf> {
        let url = format!("{}/{}", archive_root()?, self.path);
        let name = Path::new(self.path).file_name().with_context(|| format!("{} names no file", self.path))?;
        let target = into.with_file_name(name);
        run(Command::new("/usr/lib/apt/apt-helper")
            .arg("download-file")
            .arg(&url)
            .arg(&target)
            .arg(format!("SHA256:{}", self.sha256)))
        .with_context(|| format!("the tests need {} of Debian's archive", self.path))?;
        Ok(target)
    }
}

/// The archive's root as this machine's own sources name it.
fn archive_root() -> Result<String> {
    let ask = || output(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN) $(SITE)"]));
    let pick = |sites: String| {
        let root =
            |line: &str| line.strip_prefix("Debian ").filter(|site| !site.ends_with("-security")).map(str::to_owned);
        sites.lines().find_map(root)
    };
    if let Some(site) = pick(ask()?) {
        return Ok(site);
    }
    let _held = lock()?;
    run(&mut apt_get(&["update"], &[])).context("apt-get update")?;
    pick(ask()?).context("the tests need a Debian machine: apt knows no source of origin Debian")
}

fn lock() -> Result<File> {
    fs::create_dir_all(folder()).with_context(|| format!("creating {}", folder().display()))?;
    let path = folder().join("apt.lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.lock().with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

fn install_missing(missing: &[&str]) -> Result<()> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("these tests install packages only when they run as root");
    }
    let known = || run(apt_get(&["install"], missing).arg("--simulate"));
    // Installing by lists that are out of date asks for versions that the registry has since replaced.
    if known().is_err() || fetch(missing).is_err() {
        run(&mut apt_get(&["update"], &[])).context("apt-get update")?;
    }
    run(&mut apt_get(&["install"], missing))
}

fn fetch(missing: &[&str]) -> Result<()> {
    run(&mut apt_get(&["install", "--download-only"], missing))
}

fn apt_get(arguments: &[&str], packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", LOCK_TIMEOUT, "--yes", "--no-install-recommends", "-qq"])
        .args(arguments)
        .args(packages);
    command
}

fn is_installed(package: &str) -> bool {
    output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package])).is_ok_and(|s| s == "installed")
}
