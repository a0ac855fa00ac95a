//! What another configuration changes, and what that costs.

use std::collections::BTreeMap;
use std::fmt;

use serde_yaml::Value;

use super::dump;
use super::plan::{Cluster, Listener, Plan};

/// A part of a configuration that is new, gone or otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Such as ``cluster `orders` ``.
    pub what: String,
    /// Which part it is.
    pub part: Part,
    /// What has become of it.
    pub kind: Kind,
    /// The keys that differ, each with its old and its new value. Only where it has changed.
    pub keys: Vec<String>,
    /// What a reload does about it, as whoever is connected notices it.
    pub cost: String,
    /// A reload refuses it: the gateway has to be restarted.
    pub is_fixed: bool,
    /// Connections of clients are told to go.
    pub drains: bool,
    /// Connections to backends close once their last streams have ended.
    pub reconnects: bool,
}

/// A part of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A key that stands beside listeners and clusters.
    Root,
    /// The listener of this name.
    Listener(String),
    /// A route of a listener.
    Route,
    /// The cluster of this name.
    Cluster(String),
}

/// What has become of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is otherwise.
    Changed,
}

/// Keys of the root that a gateway which runs cannot change.
const FIXED: [&str; 3] = ["workers", "admin", "metric"];

impl Change {
    /// Without what it costs.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let keys = if self.keys.is_empty() { String::new() } else { format!(": {}", self.keys.join(", ")) };
        format!("{} {}{keys}", self.what, self.kind.word())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} {}", self.kind.sign(), self.what, self.kind.word())?;
        self.keys.iter().try_for_each(|key| writeln!(f, "    {key}"))?;
        writeln!(f, "    => {}", self.cost)
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Added => "added",
            Kind::Removed => "removed",
            Kind::Changed => "changed",
        }
    }

    fn sign(self) -> char {
        match self {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        }
    }
}

/// What differs, in the order of the file: root, listeners each with its routes, clusters.
#[must_use]
pub fn diff(before: &Plan, now: &Plan) -> Vec<Change> {
    let mut changes = root(before, now);
    for (old, new) in pairs(&before.listeners, &now.listeners, |listener| listener.name.to_string()) {
        changes.extend(listener_change(old, new));
        if let (Some(old), Some(new)) = (old, new) {
            changes.extend(routes((old, &before.clusters), (new, &now.clusters)));
        }
    }
    for (old, new) in pairs(&before.clusters, &now.clusters, |cluster| cluster.name.to_string()) {
        changes.extend(cluster(old, new));
    }
    changes
}

fn root(before: &Plan, now: &Plan) -> Vec<Change> {
    let (before, now) = (flat(&dump::root_keys(before)), flat(&dump::root_keys(now)));
    let section = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, text) in differences(&before, &now) {
        sections.entry(section(&key)).or_default().push(text);
    }
    let change = |(key, keys): (String, Vec<String>)| {
        let log_comes_or_goes =
            key == "access_log" && before.contains_key("access_log.path") != now.contains_key("access_log.path");
        let is_fixed = FIXED.contains(&key.as_str()) || log_comes_or_goes;
        let cost = match key.as_str() {
            _ if is_fixed => "refused: it cannot change while the gateway runs; restart it",
            "shutdown_config" => "holds for the next drain",
            "access_log" => "lines go there from now on",
            "log" => "holds at once, unless an argument says otherwise",
            _ => "holds at once",
        };
        Change { is_fixed, ..of(Part::Root, format!("`{key}`"), Kind::Changed, keys, cost) }
    };
    sections.into_iter().map(change).collect()
}

fn listener_change(before: Option<&Listener>, now: Option<&Listener>) -> Option<Change> {
    let name = &now.or(before)?.name;
    let of = |kind, keys, cost| of(Part::Listener(name.to_string()), format!("listener `{name}`"), kind, keys, cost);
    Some(match (before, now) {
        (Some(before), Some(now)) => {
            let keys = changed(&dump::own_keys(before), &dump::own_keys(now));
            let drains = before.binding.address != now.binding.address;
            let cost = if drains {
                "drains: its new socket is bound first; connections to the old one get GOAWAY, and their calls have \
                 shutdown_config.timeout to end"
            } else if keys.iter().any(|key| key.starts_with("config.")) {
                "holds for new connections and calls; no connection is closed"
            } else {
                "holds for new calls; no connection is touched"
            };
            if keys.is_empty() {
                return None;
            }
            Change { drains, ..of(Kind::Changed, keys, cost) }
        }
        (None, _) => of(Kind::Added, Vec::new(), "its socket is bound before anything changes"),
        (_, None) => {
            let cost = "drains: connections get GOAWAY, and their calls have shutdown_config.timeout to end";
            Change { drains: true, ..of(Kind::Removed, Vec::new(), cost) }
        }
    })
}

fn routes(before: (&Listener, &[Cluster]), now: (&Listener, &[Cluster])) -> Vec<Change> {
    let of = |what: &String, kind, keys| {
        of(Part::Route, what.clone(), kind, keys, "holds for new calls; no connection is touched")
    };
    let named = |(listener, clusters): (&Listener, &[Cluster])| -> Vec<(String, Value)> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let name = |route: &super::plan::Route| {
            let times = seen.entry(route.id.to_string()).or_default();
            *times += 1;
            let again = if *times > 1 { format!(" ({times})") } else { String::new() };
            (format!("route `{}`{again} of listener `{}`", route.id, listener.name), dump::route(route, clusters))
        };
        listener.routes.iter().map(name).collect()
    };
    let (before, now) = (named(before), named(now));
    let change = |(old, new): Pair<'_, (String, Value)>| match (old, new) {
        (Some((_, old)), Some((what, new))) => {
            let keys = changed(old, new);
            (!keys.is_empty()).then(|| of(what, Kind::Changed, keys))
        }
        (None, Some((what, _))) => Some(of(what, Kind::Added, Vec::new())),
        (Some((what, _)), None) => Some(of(what, Kind::Removed, Vec::new())),
        (None, None) => None,
    };
    pairs(&before, &now, |(name, _)| name.clone()).into_iter().filter_map(change).collect()
}

fn cluster(before: Option<&Cluster>, now: Option<&Cluster>) -> Option<Change> {
    let name = &now.or(before)?.name;
    let of = |kind, keys, cost| of(Part::Cluster(name.to_string()), format!("cluster `{name}`"), kind, keys, cost);
    Some(match (before, now) {
        (Some(before), Some(now)) => {
            let mut keys = changed(&dump::cluster(before), &dump::cluster(now));
            if keys.is_empty() && before != now {
                keys.push("what its files hold, or what routes ask of it".to_owned());
            }
            let reconnects = !now.keeps_connections_of(before);
            let cost = if reconnects {
                "connections to its endpoints are made anew; each old one closes after its last stream"
            } else if before.endpoints != now.endpoints {
                "connections to endpoints that stay are kept; those to the others close after their last stream"
            } else {
                "its connections and the health of its endpoints are kept"
            };
            if keys.is_empty() {
                return None;
            }
            Change { reconnects, ..of(Kind::Changed, keys, cost) }
        }
        (None, _) => of(Kind::Added, Vec::new(), "no connection is touched"),
        (_, None) => {
            let cost = "each of its connections closes after its last stream";
            Change { reconnects: true, ..of(Kind::Removed, Vec::new(), cost) }
        }
    })
}

fn of(part: Part, what: String, kind: Kind, keys: Vec<String>, cost: &str) -> Change {
    let (is_fixed, drains, reconnects) = (false, false, false);
    Change { what, part, kind, keys, cost: cost.to_owned(), is_fixed, drains, reconnects }
}

/// What stands for the same in two configurations, where they have it.
type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

/// What stands for the same in both, in the order of the new file, and then what is gone.
fn pairs<'a, T>(before: &'a [T], now: &'a [T], name: impl Fn(&T) -> String) -> Vec<Pair<'a, T>> {
    let names: BTreeMap<String, &T> = before.iter().map(|one| (name(one), one)).collect();
    let known: Vec<String> = now.iter().map(&name).collect();
    let stay = now.iter().zip(&known).map(|(one, known)| (names.get(known).copied(), Some(one)));
    let gone = before.iter().filter(|one| !known.contains(&name(one))).map(|one| (Some(one), None));
    stay.chain(gone).collect()
}

fn changed(before: &Value, now: &Value) -> Vec<String> {
    differences(&flat(before), &flat(now)).into_iter().map(|(_, text)| text).collect()
}

/// The keys that differ, each with what to say of it.
fn differences(before: &BTreeMap<String, Vec<String>>, now: &BTreeMap<String, Vec<String>>) -> Vec<(String, String)> {
    let mut keys: Vec<&String> = before.keys().chain(now.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let none = Vec::new();
    let tell = |key: &String| {
        let (old, new) = (before.get(key).unwrap_or(&none), now.get(key).unwrap_or(&none));
        if old == new {
            return None;
        }
        let text = match (&old[..], &new[..]) {
            ([old], [new]) => format!("{key}: {old} -> {new}"),
            ([old], []) => format!("{key}: {old} -> nothing"),
            ([], [new]) => format!("{key}: nothing -> {new}"),
            _ => lists(key, old, new),
        };
        Some((key.clone(), text))
    };
    keys.into_iter().filter_map(tell).collect()
}

/// What was taken out of a list and what came into it.
fn lists(key: &str, before: &[String], now: &[String]) -> String {
    let less = before.iter().filter(|one| !now.contains(one)).map(|one| format!("-{one}"));
    let more = now.iter().filter(|one| !before.contains(one)).map(|one| format!("+{one}"));
    let words: Vec<String> = less.chain(more).collect();
    if words.is_empty() { format!("{key}: in another order") } else { format!("{key}: {}", words.join(" ")) }
}

/// Every key with its value, and every list with its items.
fn flat(value: &Value) -> BTreeMap<String, Vec<String>> {
    fn add(path: &str, value: &Value, flat: &mut BTreeMap<String, Vec<String>>) {
        match value {
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    let key = key.as_str().unwrap_or_default();
                    add(&if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }, value, flat);
                }
            }
            Value::Sequence(items) => drop(flat.insert(path.to_owned(), items.iter().map(in_a_line).collect())),
            scalar => drop(flat.insert(path.to_owned(), vec![in_a_line(scalar)])),
        }
    }
    let mut all = BTreeMap::new();
    add("", value, &mut all);
    all
}

/// A value in one line, as JSON; a text as it is.
fn in_a_line(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "diff/tests.rs"]
mod tests;
