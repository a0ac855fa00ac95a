//! A client as gRPC's channels are: it reconnects when it is told to go, and sends again what nobody has seen.

use std::net::SocketAddr;

use anyhow::{Result, bail};

use super::client::{Client, Failure, UNKNOWN};

/// Connections that end before a call could be made on them, in a row, before that is an error.
const MOST_RECONNECTS: usize = 20;

/// A client that keeps itself connected.
#[derive(Debug)]
pub struct Channel {
    address: SocketAddr,
    client: Option<Client>,
    reconnects: usize,
}

/// How a call on a channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It came back as it should.
    Succeeded,
    /// Nobody listens any more; the call was not sent.
    Refused,
}

impl Channel {
    /// Connects with the first call.
    #[must_use]
    pub fn new(address: SocketAddr) -> Channel {
        Channel { address, client: None, reconnects: 0 }
    }

    /// Connections that were replaced.
    #[must_use]
    pub fn reconnects(&self) -> usize {
        self.reconnects
    }

    /// Makes an echo call.
    ///
    /// # Errors
    ///
    /// When a call that the gateway took has failed.
    pub async fn call(&mut self) -> Result<Outcome> {
        for _ in 0..MOST_RECONNECTS {
            let client = match self.client.take() {
                Some(client) => client,
                None => match Client::connect(self.address).await {
                    Ok(client) if client.spoken().await => client,
                    // Accepted by the kernel, as the listener closed.
                    Ok(_) => continue,
                    Err(_) => return Ok(Outcome::Refused),
                },
            };
            match echo(&client).await {
                Ok(()) => {
                    self.client = Some(client);
                    return Ok(Outcome::Succeeded);
                }
                Err(Some(failure)) => bail!("a call that was taken: {failure}"),
                Err(None) => self.reconnects += 1,
            }
        }
        bail!("no connection lives long enough for a call")
    }
}

/// One call. `None` is a failure of a call that nobody has seen.
async fn echo(client: &Client) -> Result<(), Option<Failure>> {
    if !client.goaways().is_empty() {
        return Err(None);
    }
    let mut call = client.start("Echo", &[]).await.map_err(|_| None)?;
    let stream = call.stream_id();
    let outcome = async {
        call.send(b"echo").await?;
        call.end_sending()?;
        call.rest().await
    };
    match outcome.await {
        Ok(1) => Ok(()),
        Ok(count) => Err(Some(Failure { code: UNKNOWN, why: format!("{count} messages came back") })),
        // The last stream that the gateway has taken was one before this.
        Err(_) if client.goaways().iter().any(|goaway| goaway.last_stream < stream) => Err(None),
        Err(failure) => Err(Some(failure)),
    }
}
