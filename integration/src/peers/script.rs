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
    /// `status=5`: trailers-only; `status=14:200` with a pushback of 200.
    Status(u8, Option<String>),
    /// `keep`: as `hold`, once the request has ended.
    Keep,
    /// `late=14`: once the request has ended, headers, then trailers with this status; `late=14:200` with a pushback.
    Late(u8, Option<String>),
    /// `fail=14`: headers, one message, then trailers with this status.
    Fail(u8),
    /// `read=10,14`: this many bytes of the request, then trailers-only with the status.
    Read(usize, u8),
    /// `page=503`: an error page with this HTTP status.
    Page(u16),
    /// `say=3,0,100`: messages of these sizes, then trailers with status 0.
    Say(Vec<usize>),
    /// `void`: once the request has ended, headers, and the end without trailers.
    Void,
    /// `reset=8`: headers, one message, and a reset with this code.
    Reset(u32),
    /// `abort=8`: nothing but a reset with this code.
    Abort(u32),
    /// `refuse`: nothing but a reset with REFUSED_STREAM.
    Refuse,
    /// `drop`: nothing but the end of the connection.
    Drop,
    /// `lose`: headers, one message, and the end of the connection.
    Lose,
    /// `tear`: headers, half a message, and the end of the connection.
    Tear,
}

impl Script {
    /// Reads the script of an attempt before which there were so many: one of several between semicolons, the last of which
    /// repeats.
    ///
    /// # Errors
    ///
    /// When there is none of this name, or a number is none.
    pub fn of_attempt(text: &str, previous: usize) -> Result<Script> {
        let count = text.split(';').count();
        Script::parse(text.split(';').nth(previous.min(count - 1)).unwrap_or_default())
    }

    /// Reads a script.
    ///
    /// # Errors
    ///
    /// When there is none of this name, or a number is none.
    pub fn parse(text: &str) -> Result<Script> {
        let (verb, argument) = text.split_once('=').unwrap_or((text, ""));
        let status = || -> Result<(u8, Option<String>)> {
            let (code, pushback) = argument.split_once(':').unwrap_or((argument, ""));
            Ok((code.parse().context("a status")?, Some(pushback.to_owned()).filter(|_| argument.contains(':'))))
        };
        Ok(match verb {
            "echo" => Script::Echo,
            "hold" => Script::Hold,
            "keep" => Script::Keep,
            "silent" => Script::Silent,
            "status" => status().map(|(code, pushback)| Script::Status(code, pushback))?,
            "late" => status().map(|(code, pushback)| Script::Late(code, pushback))?,
            "fail" => Script::Fail(argument.parse().context("a status")?),
            "read" => {
                let (bytes, code) = argument.split_once(',').context("bytes and a status")?;
                Script::Read(bytes.parse().context("bytes")?, code.parse().context("a status")?)
            }
            "page" => Script::Page(argument.parse().context("an HTTP status")?),
            "say" => {
                let sizes = argument.split(',').map(str::parse).collect::<Result<_, _>>();
                Script::Say(sizes.context("message sizes")?)
            }
            "void" => Script::Void,
            "reset" => Script::Reset(argument.parse().context("a reset code")?),
            "abort" => Script::Abort(argument.parse().context("a reset code")?),
            "refuse" => Script::Refuse,
            "drop" => Script::Drop,
            "lose" => Script::Lose,
            "tear" => Script::Tear,
            _ => bail!("no script `{text}`"),
        })
    }
}
