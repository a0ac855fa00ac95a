//! The command as clap sees it: its name, its examples, and what it takes from the environment.

use std::ffi::OsStr;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Error, FromArgMatches};

use super::Cli;

/// The variables that stand in for flags, by the names of the arguments.
const VARIABLES: [(&str, &str); 4] = [
    ("config", "WEIR_CONFIG"),
    ("workers", "WEIR_WORKERS"),
    ("log", "WEIR_LOG"),
    ("upgrade_socket", "WEIR_UPGRADE_SOCKET"),
];

/// The arguments and variables of this process.
pub(super) fn parse() -> Result<Cli, Error> {
    let bare = command(own_name());
    match with_variables(bare.clone()).try_get_matches() {
        Ok(matches) => Cli::from_arg_matches(&matches),
        Err(error) => Err(worded(error, bare)),
    }
}

/// The command under the name of the binary: one with filters of its own has a name of its own.
pub(super) fn command(name: &'static str) -> Command {
    let command = Cli::command().name(name).bin_name(name).after_help(examples(name));
    match name {
        "weir" => command,
        _ => command.version(concat!("(Weir ", env!("CARGO_PKG_VERSION"), ")")),
    }
}

/// What this process was called; `weir` if that is no name.
pub(super) fn own_name() -> &'static str {
    let called = std::env::args_os().next();
    let name = called.as_deref().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
    // Once in a process, and clap wants it for as long as that lives.
    name.map_or("weir", |name| name.to_owned().leak())
}

/// With the variables that stand in for flags. One that is set to nothing stands for nothing, as `WEIR_LOG= weir run` in a
/// shell or an empty field in a deployment means it.
fn with_variables(command: Command) -> Command {
    let is_empty = |variable: &str| std::env::var_os(variable).is_some_and(|value| value.is_empty());
    command.mut_subcommands(|subcommand| {
        VARIABLES.iter().filter(|(_, variable)| !is_empty(variable)).fold(subcommand, |subcommand, (name, variable)| {
            let has_it = subcommand.get_arguments().any(|argument| argument.get_id() == name);
            if has_it { subcommand.mut_arg(name, |argument| argument.env(variable)) } else { subcommand }
        })
    })
}

/// clap speaks of the flag even where a variable is wrong, and knows of no other way to name the file.
fn worded(mut error: Error, bare: Command) -> Error {
    if error.kind() == ErrorKind::MissingRequiredArgument && invalid_argument(&error).contains("--config") {
        let tip = "name a file, as in `-c gateway.yaml`, or set WEIR_CONFIG";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    if let Some(variable) = variable_at_fault(&error, bare) {
        let named = format!("the environment variable {variable}");
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// The variable whose value is refused: the one without which the same words on the command line are not.
fn variable_at_fault(error: &Error, bare: Command) -> Option<&'static str> {
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return None;
    }
    let argument = invalid_argument(error);
    let (_, variable) = *VARIABLES.iter().find(|(name, _)| argument.starts_with(&format!("--{name} ")))?;
    let again = bare.try_get_matches();
    again.err().is_none_or(|again| invalid_argument(&again) != argument).then_some(variable)
}

/// The argument that an error is about, as clap shows it: `--log <LEVEL>`.
fn invalid_argument(error: &Error) -> String {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        Some(ContextValue::Strings(arguments)) => arguments.join(" "),
        _ => String::new(),
    }
}

fn examples(name: &str) -> String {
    format!(
        "\
Examples:
  {name} demo                          see it work, with nothing to set up
  {name} check -c gateway.yaml         find every mistake in a configuration
  {name} run -c gateway.yaml           serve; SIGHUP reads the file again
  {name} diff old.yaml new.yaml        say what a reload would change, and what it would cost
  {name} run -c gateway.yaml --workers 2 --log debug
  {name} schema > weir.schema.json     for an editor that completes and explains keys
  {name} completions bash > /etc/bash_completion.d/{name}

Exit status: 0 all well; 1 the configuration is wrong or cannot be read, or a call of the demo
came back wrong; 2 wrong usage; 3 could not start; 4 the drain ended with calls cut;
5 two configurations differ."
    )
}
