//! A filter that somebody else wrote: its configuration has places like everybody's.

use schemars::JsonSchema;
use serde::Deserialize;
use weir::config::load_text;
use weir::registry::Registry;
use weir_filter::{ConfigError, Filter, FilterType, Needs};

use super::environment;

#[derive(Debug)]
struct Quota;

/// What the quota filter is told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct QuotaConfig {
    /// Calls a second.
    rate: u32,
    /// What happens to a call above it.
    #[serde(default)]
    action: Action,
    /// Who is exempt.
    #[serde(default)]
    exempt: Vec<Exempt>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    #[default]
    Refuse,
    Wait {
        /// No longer than this.
        millis: u16,
    },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Exempt {
    user: String,
    share: f64,
}

impl Filter for Quota {
    fn needs(&self) -> Needs {
        Needs::NONE
    }
}

impl FilterType for Quota {
    const NAME: &'static str = "acme.filter.quota";
    type Config = QuotaConfig;

    fn build(config: QuotaConfig) -> Result<Quota, Vec<ConfigError>> {
        let mut errors = Vec::new();
        if config.rate == 0 {
            errors
                .push(ConfigError::new(&["rate"], "a rate of 0 refuses every call").help("remove the filter's route"));
        }
        if let Action::Wait { millis: 0 } = config.action {
            errors.push(ConfigError::new(&["action", "wait", "millis"], "nothing can wait for 0 ms"));
        }
        for (index, exempt) in config.exempt.iter().enumerate() {
            if exempt.user.is_empty() || exempt.share > 1.0 {
                errors.push(ConfigError::new(&["exempt", &index.to_string(), "share"], "a share above 1"));
            }
        }
        if errors.is_empty() { Ok(Quota) } else { Err(errors) }
    }
}

fn load(config: &str) -> Result<usize, String> {
    let text = super::with("", "")
        .replace("grpc_filters: [", &format!("grpc_filters: [{{name: acme.filter.quota{config}}}, "));
    let mut registry = Registry::builtin();
    registry.register::<Quota>();
    match load_text(&text, "f.yaml", &registry, &environment) {
        Ok(plan) => Ok(plan.listeners[0].filters.len()),
        Err(errors) => Err(errors.list().iter().map(|error| format!("{}\n", error.message)).collect()),
    }
}

#[test]
fn a_right_configuration_builds_the_filter() {
    for config in [
        ", config: {rate: 5}",
        ", config: {rate: 5, action: refuse}",
        ", config: {rate: 5, action: {wait: {millis: 10}}, exempt: [{user: root, share: 1}]}",
        ", config: {rate: 0x10, exempt: [{user: 17, share: 0.5}]}",
    ] {
        assert_eq!(load(config), Ok(1), "{config}");
    }
}

#[test]
fn all_of_its_errors_are_found_in_one_run() {
    for (config, errors) in [
        ("", "missing key `rate` in filter `acme.filter.quota`\n"),
        (", config:", "missing key `rate` in filter `acme.filter.quota`\n"),
        (", config: {rate: fast}", "expected a whole number for `rate`, found `fast`\n"),
        (", config: {rate: 5000000000}", "expected a whole number up to 4294967295 for `rate`, found `5000000000`\n"),
        (", config: {rate: 1, action: {wait: {}}}", "missing key `millis` in `wait` of filter `acme.filter.quota`\n"),
        (", config: {rate: 1, action: refuze}", "`refuze` is not a value that is known here\n"),
        (
            ", config: {rat: 1, action: [], exempt: [{user: a, share: x}]}",
            "unknown key `rat` in `config` of filter `acme.filter.quota`\n\
             expected one word, or a mapping with one key for `action`, found a list\n\
             expected a number for `share`, found `x`\n",
        ),
        (
            ", config: {rate: 0, action: {wait: {millis: 0}}, exempt: [{user: a, share: 2}]}",
            "a rate of 0 refuses every call\nnothing can wait for 0 ms\na share above 1\n",
        ),
    ] {
        assert_eq!(load(config), Err(errors.to_owned()), "{config}");
    }
}

#[test]
#[should_panic(expected = "the filter name `acme.filter.quota` is taken")]
fn two_filters_of_one_name_are_a_mistake_of_the_program() {
    Registry::new().register::<Quota>().register::<Quota>();
}
