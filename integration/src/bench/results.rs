//! What a run found out, and how it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// What was measured with what, where and when.
    pub machine: Machine,
    /// The columns of the comparison.
    pub columns: Vec<String>,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What else a reader must know.
    pub notes: Vec<String>,
}

/// One figure of every column.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// `group/case`.
    pub id: String,
    /// For readers.
    pub title: String,
    /// The unit of the figures.
    pub unit: String,
    /// By column.
    pub cells: BTreeMap<String, Cell>,
}

/// A figure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// What was measured, in the order of the rounds.
    pub samples: Vec<f64>,
}

impl Row {
    /// A row that nothing has been measured of.
    #[must_use]
    pub fn new(id: impl Into<String>, title: impl Into<String>, unit: &str) -> Row {
        Row { id: id.into(), title: title.into(), unit: unit.into(), cells: BTreeMap::new() }
    }

    /// Adds a sample.
    pub fn add(&mut self, column: &str, sample: f64) {
        self.cells.entry(column.to_owned()).or_default().samples.push(sample);
    }

    /// The median of a column.
    #[must_use]
    pub fn median(&self, column: &str) -> Option<f64> {
        self.cells.get(column).and_then(Cell::median)
    }

    /// The part of the id before the slash.
    #[must_use]
    pub fn group(&self) -> &str {
        self.id.split('/').next().unwrap_or_default()
    }
}

impl Cell {
    /// The sample in the middle; of an even number, the mean of the two.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut samples = self.samples.clone();
        samples.sort_by(f64::total_cmp);
        let upper = samples.get(samples.len() / 2)?;
        let lower = samples.get((samples.len() - 1) / 2)?;
        Some(f64::midpoint(*lower, *upper))
    }
}

impl Results {
    /// The row of this id.
    #[must_use]
    pub fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }

    /// The rows of a group.
    pub fn group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Row> + Clone {
        self.rows.iter().filter(move |row| row.group() == group)
    }

    /// Reads what [`Results::write`] has written.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Results> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Writes `target/bench/compare.json` of the workspace.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self) -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        std::fs::create_dir_all(&folder)?;
        let path = folder.canonicalize()?.join("compare.json");
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let median = |samples: &[f64]| Cell { samples: samples.to_vec() }.median();
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
    }
}
