//! Connections and calls that are open and do nothing.

use anyhow::Result;

use super::call::{Connection, Prepared, Shape};

/// The message that each call carries there and back, in bytes.
const SIZE: usize = 100;

pub(super) async fn run(connections: &[Connection], called: bool, streams: usize) -> Result<()> {
    let unary = Prepared::new(Shape::Unary { size: SIZE });
    let held = Prepared::new(Shape::PingPong { messages: 1, size: SIZE });
    let mut open = Vec::with_capacity(connections.len() * streams);
    for connection in connections {
        let mut connection = connection.clone();
        if called {
            connection.call(&unary).await?;
        }
        for _ in 0..streams {
            open.push(connection.held(&held, 1).await?);
        }
    }
    println!("held");
    // Until the process is killed.
    std::future::pending::<()>().await;
    drop(open);
    Ok(())
}
