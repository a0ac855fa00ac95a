//! The gateway under test: the real binary, on ports that the kernel chose.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::NamedTempFile;

use crate::admin;
use crate::binary::built;
use crate::process::Process;

/// A running `weir run`.
#[derive(Debug)]
pub struct Gateway {
    /// The process, for signals and exit codes.
    pub process: Process,
    config: NamedTempFile,
}

impl Gateway {
    /// Starts the gateway with this YAML, and waits until it serves. Listeners should have port 0.
    ///
    /// # Errors
    ///
    /// When the gateway does not come up; the error holds its output.
    pub fn start(yaml: &str) -> Result<Gateway> {
        Gateway::start_with(yaml, &["--workers", "1"])
    }

    /// The same, with further arguments to `weir run`.
    ///
    /// # Errors
    ///
    /// When the gateway does not come up; the error holds its output.
    pub fn start_with(yaml: &str, arguments: &[&str]) -> Result<Gateway> {
        Gateway::start_in(yaml, arguments, [])
    }

    /// The same, in an environment with these variables added.
    ///
    /// # Errors
    ///
    /// When the gateway does not come up; the error holds its output.
    pub fn start_in<'a>(
        yaml: &str,
        arguments: &[&str],
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Gateway> {
        let mut config = tempfile::Builder::new().prefix("weir").suffix(".yaml").tempfile()?;
        config.write_all(yaml.as_bytes())?;
        let mut command = Command::new(weir_binary()?);
        command.arg("run").arg("-c").arg(config.path()).args(arguments).envs(variables);
        let process = Process::start("weir", &mut command)?;
        process.wait_line("ready", |line| line.starts_with("ready").then_some(()))?;
        Ok(Gateway { process, config })
    }

    /// The same, started by another program, whose last arguments are the gateway's command line. It must become the
    /// gateway (`exec`), so that signals reach it.
    ///
    /// # Errors
    ///
    /// When the gateway does not come up; the error holds its output, and the other program's.
    pub fn start_by(program: &[&str], yaml: &str, arguments: &[&str]) -> Result<Gateway> {
        let mut config = tempfile::Builder::new().prefix("weir").suffix(".yaml").tempfile()?;
        config.write_all(yaml.as_bytes())?;
        let (program, its_own) = program.split_first().context("a program")?;
        let mut command = Command::new(program);
        command.args(its_own).arg(weir_binary()?).arg("run").arg("-c").arg(config.path()).args(arguments);
        let process = Process::start("weir", &mut command)?;
        process.wait_line("ready", |line| line.starts_with("ready").then_some(()))?;
        Ok(Gateway { process, config })
    }

    /// Puts another configuration into the place of its file, at once and whole.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn put_config(&self, yaml: &str) -> Result<()> {
        let next = self.config.path().with_extension("next");
        std::fs::write(&next, yaml)?;
        std::fs::rename(next, self.config.path())?;
        Ok(())
    }

    /// Has it read its file again. Returns the HTTP status and what came of it.
    ///
    /// # Errors
    ///
    /// When the admin listener does not answer.
    pub fn reload(&self) -> Result<(u16, String)> {
        admin::post(self.admin()?, "/reload")
    }

    /// The same with another configuration, which it has to take.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn reload_with(&self, yaml: &str) -> Result<String> {
        self.put_config(yaml)?;
        match self.reload()? {
            (200, text) => Ok(text),
            (status, text) => bail!("the reload was refused with {status}: {text}"),
        }
    }

    /// The address that the named listener bound.
    ///
    /// # Errors
    ///
    /// When the gateway printed no such listener.
    pub fn listener(&self, name: &str) -> Result<SocketAddr> {
        self.bound(&format!("listening: listener {name} on "))
    }

    /// The address that the admin listener bound.
    ///
    /// # Errors
    ///
    /// When the gateway has none.
    pub fn admin(&self) -> Result<SocketAddr> {
        self.bound("listening: admin on ")
    }

    /// The address where metrics alone are served.
    ///
    /// # Errors
    ///
    /// When the gateway has none.
    pub fn metrics(&self) -> Result<SocketAddr> {
        self.bound("listening: metrics on ")
    }

    fn bound(&self, prefix: &str) -> Result<SocketAddr> {
        let address = self.process.wait_line(prefix, |line| line.strip_prefix(prefix).map(str::to_owned))?;
        address.parse().with_context(|| format!("the gateway printed `{address}`"))
    }
}

/// The `weir` binary of this build.
///
/// # Errors
///
/// When it cannot be built.
pub fn weir_binary() -> Result<PathBuf> {
    built("weir")
}
