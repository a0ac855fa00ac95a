//! The command line: arguments to one of the commands.
//!
//! What was asked for goes to stdout, everything else to stderr. A flag beats the environment, which beats the file.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Diagnostics, Plan};
use crate::registry::Registry;
use crate::socket::Address;

mod check;
mod command;
mod completions;
mod demo;
mod diff;
mod log;
mod manager;
mod run;
mod schema;
mod watch;

/// The configuration is wrong, or cannot be read.
pub const EXIT_CONFIG: u8 = 1;
/// The command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Weir could not start: a port is taken, a permission is missing.
pub const EXIT_START: u8 = 3;
/// Two configurations differ.
pub const EXIT_DIFFERS: u8 = 5;
/// The drain ended with calls cut.
pub const EXIT_CUT: u8 = 4;

/// A transparent gateway for gRPC: every stream passes, measured and steered.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration until SIGTERM or SIGINT, then drain.
    Run(RunArgs),
    /// Check a configuration as `run` would, and bind nothing.
    Check(CheckArgs),
    /// Say what a reload of another configuration would change, and what that would cost.
    Diff(DiffArgs),
    /// Print the JSON Schema of a configuration.
    Schema,
    /// Serve an example with a backend inside, and make calls through it.
    Demo(DemoArgs),
    /// Print a script that completes commands and flags.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// The arguments of `run`.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Worker threads, 1 to 1024. Default: what the file says, else one for each CPU that the process may use.
    #[arg(long, value_name = "N", value_parser = workers)]
    pub workers: Option<NonZeroUsize>,
    /// What to log: trace, debug, info, warn, error, off, or a list such as `info,weir::cluster=debug`. Default: what
    /// the file says, else info.
    #[arg(long, value_name = "LEVEL", value_parser = config::log_filter)]
    pub log: Option<String>,
    /// Look at the file once a second, and reload it when it has changed. SIGHUP does so at any time.
    #[arg(long)]
    pub watch: bool,
    /// Where a new process takes over from this one, and this one from the process before: a Unix socket. Default: nowhere.
    #[arg(long, value_name = "PATH")]
    pub upgrade_socket: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct DiffArgs {
    /// The configuration that runs.
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The one that is to run.
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// The admin address of the gateway that runs OLD, such as 127.0.0.1:9901 or unix:/path: says how many connections are concerned.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
}

#[derive(Args, Clone, Debug)]
struct CheckArgs {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
}

/// The arguments of `demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// End after the calls. The exit status is 0 only if all of them came back as they should, else 1.
    #[arg(long)]
    pub once: bool,
}

/// Runs the command that this process was started with, with these filters.
///
/// A binary with filters of its own registers them with [`Registry::builtin`] and calls this from its `main`.
#[must_use]
pub fn run(registry: Registry) -> ExitCode {
    let cli = match command::parse() {
        Ok(cli) => cli,
        Err(error) => {
            // What cannot be written to a closed terminal needs no report there.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Run(args) => start(registry, args),
        Command::Check(args) => check::check(&args.config, &registry),
        Command::Diff(args) => diff::diff(&args, &registry),
        Command::Schema => schema::schema(&registry),
        Command::Demo(args) => demo::demo(&registry, &args),
        Command::Completions { shell } => completions::completions(shell),
    }
}

/// Loads the plan, lets the arguments have their say, and serves.
fn start(registry: Registry, args: RunArgs) -> ExitCode {
    // Looked at before it is loaded: what changes in between is noticed.
    let watch = args.watch.then(|| watch::Watch::new(&args.config));
    let source = run::Source { registry, args };
    match source.load() {
        Ok(plan) => run::run(plan, source, watch),
        Err(errors) => {
            print_errors(&errors);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// Loads a configuration. What is wrong with it is printed, and the exit status returned.
fn load(path: &Path, registry: &Registry) -> Result<Plan, ExitCode> {
    config::load(path, registry, &config::process_env).map_err(|errors| {
        print_errors(&errors);
        ExitCode::from(EXIT_CONFIG)
    })
}

fn print_errors(errors: &Diagnostics) {
    let count = counted(errors.list().len(), "error");
    // Nobody is left to tell when stderr is closed; the exit status still says it.
    let _ = writeln!(io::stderr().lock(), "{errors}\n{}: {count}", errors.file());
}

/// Prints the notices of a plan to stderr, one a line.
pub(crate) fn print_notices(plan: &Plan) {
    let mut stderr = io::stderr().lock();
    for notice in &plan.notices {
        let _ = writeln!(stderr, "notice: {}: {}", notice.place, notice.text);
    }
}

/// Prints what was asked for. A reader that has seen enough (`weir schema | head`) is no failure.
fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr().lock(), "error: cannot write to stdout: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// "1 route", "2 routes".
fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse::<NonZeroUsize>().ok().filter(|number| number.get() <= 1024);
    number.ok_or_else(|| "expected a number from 1 to 1024".to_owned())
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn the_command_line_is_consistent() {
        command::command("weir").debug_assert();
    }
}
