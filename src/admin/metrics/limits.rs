//! What was refused so that the gateway stays up.

use prometheus::proto::{MetricFamily, MetricType};

use super::{by_listener, counter, family, gauge, sum};
use crate::admin::State;
use crate::downstream::Abuse;
use crate::listener::Refused;
use crate::memory::Memory;

pub(super) fn abusive_connections(state: &State) -> MetricFamily {
    let help = "Connections closed because of what their clients did.";
    let mut family = family("weir_abusive_connections_total", help, MetricType::COUNTER);
    for listener in state.places.listeners.taken() {
        for abuse in Abuse::ALL {
            let value = sum(state, |metrics| metrics.abusive(listener.index, abuse));
            family.mut_metric().push(counter(&[("listener", &listener.name), ("reason", abuse.name())], value));
        }
    }
    family
}

pub(super) fn refused_connections(state: &State) -> MetricFamily {
    let help = "Connections closed as soon as they came, by the limit that they met.";
    let mut family = family("weir_refused_connections_total", help, MetricType::COUNTER);
    for (listener, admission) in state.plan.listeners.iter().zip(&state.admissions) {
        for why in Refused::ALL {
            let labels = [("listener", &*listener.name), ("limit", why.name())];
            family.mut_metric().push(counter(&labels, admission.refused(why)));
        }
    }
    family
}

/// Only with `memory_limit`, as the next two.
pub(super) fn calls_without_memory(state: &State) -> MetricFamily {
    let name = "weir_calls_refused_for_memory_total";
    let help = "Calls that were refused because the process was short of memory.";
    if state.memory.is_none() {
        return family(name, help, MetricType::COUNTER);
    }
    by_listener(state, name, help, MetricType::COUNTER, |metrics, index| &metrics.calls_without_memory[index])
}

pub(super) fn memory(state: &State) -> MetricFamily {
    let help = "Memory that the process holds, without that of files.";
    of_memory(state, "weir_memory_bytes", help, Memory::resident)
}

pub(super) fn memory_limit(state: &State) -> MetricFamily {
    of_memory(state, "weir_memory_limit_bytes", "What memory_limit says.", Memory::limit)
}

fn of_memory(state: &State, name: &str, help: &str, value: fn(&Memory) -> u64) -> MetricFamily {
    let mut family = family(name, help, MetricType::GAUGE);
    if let Some(memory) = &state.memory {
        family.mut_metric().push(gauge(&[], value(memory)));
    }
    family
}
