//! The results of a suite: one case a line, one result a way.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// How much of a value a table shows.
const SHOWN: usize = 160;

/// The results of a suite.
#[derive(Debug)]
pub struct Table {
    name: String,
    cases: Vec<Case>,
}

/// One case: `{"case": NAME, "expect": FIELDS, "ignore": NAMES, "richer": NAMES, "direct": FIELDS, "through": FIELDS}`.
/// Cases of what only a gateway does have no `direct`.
#[derive(Debug)]
struct Case {
    name: String,
    expect: Map<String, Value>,
    ignore: Vec<Value>,
    richer: Vec<Value>,
    direct: Option<Map<String, Value>>,
    through: Map<String, Value>,
}

impl Table {
    /// Reads what a program printed.
    ///
    /// # Errors
    ///
    /// When a line is no case, or there is none.
    pub fn parse(name: &str, printed: &str) -> Result<Table> {
        let cases: Vec<Case> = printed.lines().map(Case::parse).collect::<Result<_>>().context(name.to_owned())?;
        if cases.is_empty() {
            bail!("{name} printed no case");
        }
        Ok(Table { name: name.to_owned(), cases })
    }

    /// Holds every case against what it expects, and through against direct.
    ///
    /// # Errors
    ///
    /// When anything differs; the error is a table of the differences.
    pub fn check(&self) -> Result<()> {
        let differences: Vec<String> = self.cases.iter().flat_map(Case::differences).collect();
        if differences.is_empty() {
            return Ok(());
        }
        let mut table = format!("{}: {} differences in {} cases\n", self.name, differences.len(), self.cases.len());
        for difference in differences {
            writeln!(table, "{difference}")?;
        }
        bail!(table)
    }
}

impl Case {
    fn parse(line: &str) -> Result<Case> {
        let mut case: Map<String, Value> = serde_json::from_str(line).with_context(|| format!("no case: `{line}`"))?;
        let mut object = |key: &str| match case.remove(key) {
            Some(Value::Object(fields)) => Some(fields),
            _ => None,
        };
        let (expect, direct) = (object("expect").unwrap_or_default(), object("direct"));
        let through = object("through").with_context(|| format!("no result through the gateway: `{line}`"))?;
        let list = |key: &str| case.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let (ignore, richer) = (list("ignore"), list("richer"));
        let name = case.get("case").and_then(Value::as_str).context("a case has a name")?.to_owned();
        Ok(Case { name, expect, ignore, richer, direct, through })
    }

    /// Every field that differs, with the case's name on the first line.
    fn differences(&self) -> Vec<String> {
        self.fields().into_iter().filter(|field| !self.agrees(field)).map(|field| self.row(&field)).collect()
    }

    fn fields(&self) -> Vec<String> {
        let direct = self.direct.iter().flat_map(Map::keys);
        let mut fields: Vec<String> = direct.chain(self.through.keys()).chain(self.expect.keys()).cloned().collect();
        fields.sort();
        fields.dedup();
        fields
    }

    fn agrees(&self, field: &str) -> bool {
        let through = self.through.get(field);
        let expected = self.expect.get(field);
        if field == "failed" || expected.is_some_and(|expected| through != Some(expected)) {
            return false;
        }
        let Some(direct) = self.direct.as_ref().map(|direct| direct.get(field)) else { return true };
        if expected.is_some_and(|expected| direct != Some(expected)) {
            return false;
        }
        through == direct || names(&self.ignore, field) || (names(&self.richer, field) && begins(through, direct))
    }

    fn row(&self, field: &str) -> String {
        let mut row = format!("\n{}: {field}", self.name);
        let mut column = |name: &str, value: Option<&Value>| {
            let _ = write!(row, "\n    {name:8} {}", value.map_or("-".to_owned(), shown));
        };
        if let Some(expected) = self.expect.get(field) {
            column("expected", Some(expected));
        }
        if let Some(direct) = &self.direct {
            column("direct", direct.get(field));
        }
        column("through", self.through.get(field));
        row
    }
}

fn names(list: &[Value], field: &str) -> bool {
    list.iter().any(|name| name == field)
}

/// Whether the list `longer` begins with all of the list `shorter`.
fn begins(longer: Option<&Value>, shorter: Option<&Value>) -> bool {
    match (longer, shorter) {
        (Some(Value::Array(longer)), Some(Value::Array(shorter))) => longer.starts_with(shorter),
        _ => false,
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN || value.is_string() {
        return text;
    }
    format!("{}... ({} characters)", text.chars().take(SHOWN).collect::<String>(), text.chars().count())
}
