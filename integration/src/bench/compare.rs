//! The comparison, from the command line to the documents.

use anyhow::{Result, ensure};
use clap::Parser;

use super::bed::Bed;
use super::machine::Machine;
use super::measure::Bench;
use super::options::Options;
use super::report;
use super::results::Results;
use crate::binary;

/// Measures what the command line asks for, and shows it.
///
/// # Errors
///
/// When a peer cannot be had, or a call fails: nothing is written then.
pub fn run() -> Result<()> {
    let options = Options::parse();
    let results = match &options.from {
        Some(path) => Results::read(path)?,
        None => measure(&options)?,
    };
    println!("\n{}", report::terminal::tables(&results));
    if options.publish {
        report::publish(&results)?;
    }
    Ok(())
}

fn measure(options: &Options) -> Result<Results> {
    ensure!(!(options.publish && options.partial()), "only a whole run of this tree's own build is published");
    let peers = options.columns();
    for peer in &peers {
        eprintln!("installing {}", peer.name);
        peer.install()?;
    }
    let weir = match &options.weir {
        Some(path) => path.canonicalize()?,
        None => {
            eprintln!("building the release of weir");
            binary::released()?
        }
    };
    let bed = Bed::new(weir)?;
    let mut versions = peers.iter().map(|peer| peer.version(&bed)).collect::<Result<Vec<_>>>()?;
    versions.dedup();
    let results = Results {
        machine: Machine::look(versions, options.rounds(), options.partial())?,
        columns: peers.iter().map(|peer| peer.name.to_owned()).collect(),
        rows: Vec::new(),
        notes: Vec::new(),
    };
    let results = Bench::new(options, &bed, results).run(&peers)?;
    eprintln!("written: {}", results.write()?.display());
    Ok(results)
}
