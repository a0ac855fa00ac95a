//! What a backend is told to do with a call.

use anyhow::{Context, Result, bail};

/// One way to serve a call, as the value of the [`DO`](super::backend::DO) key names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// `echo`, and the default: headers at once, each message back as it comes, trailers with status 0.
    Echo,
    /// `hold`: headers at once, trailers when the backend is released.
    Hold,
    /// `silent`: nothing until the backend is released, then as `echo`.
    Silent,
    /// `status=5`: trailers-only.
    Status(u8),
    /// `say=3,0,100`: messages of these sizes, then trailers with status 0.
    Say(Vec<usize>),
    /// `reset=8`: headers, one message, and a reset with this code.
    Reset(u32),
    /// `refuse`: nothing but a reset with REFUSED_STREAM.
    Refuse,
    /// `lose`: headers, one message, and the end of the connection.
    Lose,
    /// `tear`: headers, half a message, and the end of the connection.
    Tear,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// When there is none of this name, or a number is none.
    pub fn parse(text: &str) -> Result<Script> {
        let (verb, argument) = text.split_once('=').unwrap_or((text, ""));
        Ok(match verb {
            "echo" => Script::Echo,
            "hold" => Script::Hold,
            "silent" => Script::Silent,
            "status" => Script::Status(argument.parse().context("a status")?),
            "say" => {
                let sizes = argument.split(',').map(str::parse).collect::<Result<_, _>>();
                Script::Say(sizes.context("message sizes")?)
            }
            "reset" => Script::Reset(argument.parse().context("a reset code")?),
            "refuse" => Script::Refuse,
            "lose" => Script::Lose,
            "tear" => Script::Tear,
            _ => bail!("no script `{text}`"),
        })
    }
}
