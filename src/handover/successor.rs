//! The old process's side: it offers its sockets, and goes on serving until somebody else does.

use std::fs::Permissions;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::{Described, GO, Kept, Offer, READY, VERSION, check_peer};

/// How long accepting rests when it fails.
const PAUSE: Duration = Duration::from_millis(50);

/// Where a new process finds this one.
#[derive(Debug)]
pub(crate) struct Offering {
    listener: UnixListener,
    path: PathBuf,
    /// Where it is until it is published.
    fresh: PathBuf,
}

/// A new process that serves.
#[derive(Debug)]
pub(crate) struct Successor {
    stream: UnixStream,
}

impl Offering {
    /// Listens beside this path: what can go wrong does so before the process that is there is relieved.
    ///
    /// # Errors
    ///
    /// When something else than a socket is there, or nothing can be put there.
    pub(crate) fn prepare(path: &Path) -> io::Result<Offering> {
        if std::fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket"));
        }
        // Renamed when it listens: whoever finds the path can connect.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(fresh);
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        let offering = Offering { listener, path: path.to_owned(), fresh };
        std::fs::set_permissions(&offering.fresh, Permissions::from_mode(0o600))?;
        Ok(offering)
    }

    /// Takes the place of the process before.
    pub(crate) fn publish(&self) {
        if let Err(error) = std::fs::rename(&self.fresh, &self.path) {
            tracing::error!(%error, path = %self.path.display(), "no new process will find this one");
        }
    }

    /// Waits for a process that has taken the sockets and serves.
    pub(crate) async fn successor(&self, kept: &[Kept]) -> Successor {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no new process can be accepted");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            match offer(stream, kept).await {
                Ok(successor) => return successor,
                Err(error) => tracing::warn!(%error, "a new process did not take over: this one goes on"),
            }
        }
    }
}

impl Drop for Offering {
    fn drop(&mut self) {
        // What has been published is no longer there, and is not removed: another process may have taken the place.
        let _ = std::fs::remove_file(&self.fresh);
    }
}

impl Successor {
    /// Tells it that this process drains.
    pub(crate) async fn go(mut self) {
        if let Err(error) = self.stream.write_all(GO).await {
            tracing::warn!(%error, "the new process does not hear that this one drains");
        }
    }
}

async fn offer(mut stream: UnixStream, kept: &[Kept]) -> io::Result<Successor> {
    check_peer(&stream)?;
    tracing::info!("a new process prepares to take over");
    let described =
        |kept: &Kept| Described { what: kept.what.clone(), address: kept.address.clone(), has_file: kept.has_file };
    let sockets = kept.iter().map(described).collect();
    let mut line = serde_json::to_vec(&Offer { version: VERSION, pid: std::process::id(), sockets })?;
    line.push(b'\n');
    let sent = stream.async_io(Interest::WRITABLE, || send(&stream, &line, kept)).await?;
    stream.write_all(&line[sent..]).await?;
    let mut answer = [0; READY.len()];
    stream.read_exact(&mut answer).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it ended before it served"),
        _ => error,
    })?;
    if answer != READY {
        return Err(io::Error::other("it says something else than that it is ready"));
    }
    Ok(Successor { stream })
}

/// Sends the sockets with the first bytes of the line.
fn send(stream: &UnixStream, line: &[u8], kept: &[Kept]) -> io::Result<usize> {
    let descriptors: Vec<BorrowedFd<'_>> = kept.iter().map(|kept| kept.socket.as_fd()).collect();
    let message = SendAncillaryMessage::ScmRights(&descriptors);
    let mut space = vec![MaybeUninit::uninit(); message.size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(message) {
        return Err(io::Error::other("the sockets do not fit into a message"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(line)], &mut control, SendFlags::empty())?)
}
