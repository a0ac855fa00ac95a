//! Calls one after the other in as many slots as are to be busy at once.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::Result;
use tokio::task::JoinSet;

use super::Outcome;
use super::call::{Connection, Prepared, Shape};

pub(super) async fn run(connections: &[Connection], streams: usize, calls: usize, shape: Shape) -> Result<Outcome> {
    let left = Rc::new(Cell::new(calls));
    let prepared = Rc::new(Prepared::new(shape));
    let mut slots = JoinSet::new();
    for connection in connections {
        for _ in 0..streams {
            slots.spawn_local(slot(connection.clone(), prepared.clone(), left.clone()));
        }
    }
    while let Some(slot) = slots.join_next().await {
        slot??;
    }
    Ok(Outcome { calls, ..Outcome::default() })
}

async fn slot(mut connection: Connection, prepared: Rc<Prepared>, left: Rc<Cell<usize>>) -> Result<()> {
    while let Some(less) = left.get().checked_sub(1) {
        left.set(less);
        connection.call(&prepared).await?;
    }
    Ok(())
}
