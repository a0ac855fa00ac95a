//! Families about the configuration: which one runs, and how the last reload went.

use prometheus::proto::{MetricFamily, MetricType};

use super::{State, counter, family, plain};

pub(super) fn families(state: &State) -> [MetricFamily; 5] {
    let told = state.config.told();
    let gauge = |name, help, value| plain(state, name, help, |_| value);
    let mut reloads = family("weir_config_reloads_total", "Reloads, by what came of them.", MetricType::COUNTER);
    for (result, count) in [("success", told.succeeded), ("failure", told.failed)] {
        reloads.mut_metric().push(counter(&[("result", result)], count));
    }
    [
        gauge("weir_config_version", "The configuration that runs, counted from 1 at the start.", told.version),
        gauge("weir_config_loaded_timestamp_seconds", "When the configuration that runs was loaded.", told.loaded),
        gauge("weir_config_last_reload_timestamp_seconds", "When a configuration was last tried.", told.tried),
        gauge("weir_config_last_reload_successful", "0 while the file is not what runs.", u64::from(!told.is_stale)),
        reloads,
    ]
}
