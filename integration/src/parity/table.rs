//! The results of a suite: one case a line, one result a way.

use std::collections::BTreeSet;
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

/// One case: `{"case": NAME, "expect": FIELDS, "ignore": NAMES, "richer": NAMES, "direct": FIELDS, "through": {GATEWAY:
/// FIELDS}}`. Cases of what only a gateway does have no `direct`.
#[derive(Debug)]
struct Case {
    name: String,
    expect: Fields,
    ignore: Vec<Value>,
    richer: Vec<Value>,
    direct: Option<Fields>,
    through: Vec<(String, Fields)>,
}

type Fields = Map<String, Value>;

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
        let mut case: Fields = serde_json::from_str(line).with_context(|| format!("no case: `{line}`"))?;
        let list = |key: &str| case.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let (ignore, richer) = (list("ignore"), list("richer"));
        let name = case.get("case").and_then(Value::as_str).context("a case has a name")?.to_owned();
        let expect = case.remove("expect").and_then(object).unwrap_or_default();
        let direct = case.remove("direct").and_then(object);
        let through = case.remove("through").and_then(object).unwrap_or_default().into_iter();
        let through: Vec<_> = through.filter_map(|(name, value)| Some((name, object(value)?))).collect();
        if through.is_empty() {
            bail!("no result through a gateway: `{line}`");
        }
        Ok(Case { name, expect, ignore, richer, direct, through })
    }

    /// A block of lines for each field that differs anywhere.
    fn differences(&self) -> Vec<String> {
        let direct = self.direct.iter().flat_map(Map::keys);
        let through = self.through.iter().flat_map(|(_, fields)| fields.keys());
        let fields: BTreeSet<&String> = direct.chain(through).chain(self.expect.keys()).collect();
        fields.into_iter().filter(|field| !self.agrees(field)).map(|field| self.block(field)).collect()
    }

    fn agrees(&self, field: &str) -> bool {
        let mut results = self.direct.iter().chain(self.through.iter().map(|(_, fields)| fields));
        let as_expected = |fields: &Fields| match self.expect.get(field) {
            Some(expected) => fields.get(field) == Some(expected),
            None => true,
        };
        field != "failed" && results.all(as_expected) && self.through.iter().all(|(_, fields)| self.same(field, fields))
    }

    fn same(&self, field: &str, through: &Fields) -> bool {
        let Some(direct) = self.direct.as_ref().map(|direct| direct.get(field)) else { return true };
        let through = through.get(field);
        through == direct || names(&self.ignore, field) || (names(&self.richer, field) && begins(through, direct))
    }

    fn block(&self, field: &str) -> String {
        let mut block = format!("\n{}: {field}", self.name);
        let mut row = |name: &str, fields: &Fields| {
            let _ = write!(block, "\n    {name:10} {}", fields.get(field).map_or("-".to_owned(), shown));
        };
        if self.expect.contains_key(field) {
            row("expected", &self.expect);
        }
        if let Some(direct) = &self.direct {
            row("direct", direct);
        }
        for (name, fields) in &self.through {
            row(name, fields);
        }
        block
    }
}

fn object(value: Value) -> Option<Fields> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
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
