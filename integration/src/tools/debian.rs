//! Debian packages, installed on the machine by `apt-get`.

use std::fs::File;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{folder, output, run};

/// Seconds to wait for another apt-get, of a test or of the machine, to be done.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// Sees to it that these packages are installed on the machine.
///
/// # Errors
///
/// When one is missing and cannot be installed: not root, not Debian, or no registry to be reached.
pub fn install(packages: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder())?;
    // One apt-get of ours at a time: two updates at once fail on the lists' lock, which Lock::Timeout does not cover.
    let lock = File::create(folder().join("apt.lock"))?;
    lock.lock()?;
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install_missing(&missing).with_context(|| {
        format!("could not install Debian packages; as root, run: apt-get install {}", missing.join(" "))
    })
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
