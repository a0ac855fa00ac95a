//! The new process's side: it takes the sockets, starts, and says so.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{GO, LONGEST_OFFER, Offer, READY, Sockets, Source, VERSION, check_peer};
use crate::socket::ListeningSocket;

/// A process that serves answers at once. One that does not hangs, and is not taken over from.
const ANSWER: Duration = Duration::from_secs(10);

/// The most descriptors that the kernel passes with one message (SCM_MAX_FD).
const MOST_SOCKETS: usize = 253;

/// The process to take over from.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
    /// Its process id.
    pub(crate) pid: u32,
}

impl Predecessor {
    /// Asks the process at this path for its sockets. `None` where there is no such process.
    ///
    /// # Errors
    ///
    /// When there is one, and it does not hand them over.
    pub(crate) async fn find(path: &Path, sockets: &mut Sockets) -> io::Result<Option<Predecessor>> {
        let mut stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            // The second is what a process leaves behind that has ended.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        check_peer(&stream)?;
        let (offer, descriptors) =
            timeout(ANSWER, receive(&mut stream)).await.map_err(|_| io::Error::other("no answer"))??;
        if offer.version != VERSION {
            let theirs = offer.version;
            return Err(io::Error::other(format!("it hands over by version {theirs}, and this one by {VERSION}")));
        }
        if offer.sockets.len() != descriptors.len() {
            return Err(io::Error::other("it did not send what it described"));
        }
        for (described, descriptor) in offer.sockets.into_iter().zip(descriptors) {
            let socket = ListeningSocket::inherited(descriptor, described.has_file)?;
            sockets.add(Source::Predecessor, described.what, described.address, socket);
        }
        Ok(Some(Predecessor { stream, pid: offer.pid }))
    }

    /// Has it drain: this process serves.
    pub(crate) async fn relieve(mut self) {
        let relieved = async {
            self.stream.write_all(READY).await?;
            let mut answer = [0; GO.len()];
            self.stream.read_exact(&mut answer).await
        };
        // Whether it drains or has died, its sockets are served from here.
        match timeout(ANSWER, relieved).await {
            Ok(Ok(_)) => tracing::info!(pid = self.pid, "taken over: the process before drains"),
            _ => tracing::warn!(pid = self.pid, "the process before does not say that it drains"),
        }
    }
}

/// An offer is a line; the descriptors come with its first bytes.
async fn receive(stream: &mut UnixStream) -> io::Result<(Offer, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let received =
            stream.async_io(Interest::READABLE, || receive_part(stream, &mut line, &mut descriptors)).await?;
        if received == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hands over to somebody else, or ends"));
        }
        if line.len() > LONGEST_OFFER {
            return Err(io::Error::other("what it sends is no offer"));
        }
    }
    Ok((serde_json::from_slice(&line)?, descriptors))
}

fn receive_part(stream: &UnixStream, line: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // This process starts no other one that could inherit a descriptor; where the kernel can close them, it does.
    #[cfg(target_os = "linux")]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = RecvFlags::empty();
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    line.extend_from_slice(&bytes[..received]);
    Ok(received)
}
