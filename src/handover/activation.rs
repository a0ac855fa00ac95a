//! Sockets from a service manager: `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (sd_listen_fds(3)).

use std::io;
use std::os::fd::OwnedFd;

use super::{Sockets, Source};
use crate::socket::ListeningSocket;

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// Adds the sockets that the service manager has passed. There are none where the variables are not set, or are another
/// process's.
///
/// # Errors
///
/// When the variables make no sense, or a descriptor is no listening socket of TCP or Unix.
pub(crate) fn passed(sockets: &mut Sockets, variable: &dyn Fn(&str) -> Option<String>) -> io::Result<()> {
    let is_ours = variable("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
    let Some(count) = variable("LISTEN_FDS").filter(|_| is_ours) else { return Ok(()) };
    let Ok(count) = count.parse::<u16>() else {
        return Err(io::Error::other(format!("LISTEN_FDS is no number: `{count}`")));
    };
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    for descriptor in FIRST..FIRST + i32::from(count) {
        let name = names.next().unwrap_or_default();
        let problem = |error: io::Error| {
            let what = format!("the service manager passed descriptor {descriptor} (`{name}`)");
            io::Error::new(error.kind(), format!("{what}, which cannot be used: {error}"))
        };
        let socket = listening(descriptor).map_err(problem)?;
        let socket = ListeningSocket::inherited(socket, false).map_err(problem)?;
        let address = socket.address().map_err(problem)?;
        sockets.add(Source::ServiceManager, name.to_owned(), address, socket);
    }
    Ok(())
}

/// The socket behind a descriptor's number.
///
/// Code without `unsafe` cannot own a descriptor that it has only the number of. It can have the kernel make another one of it:
/// the first stays open, as it does in the service manager itself.
#[cfg(target_os = "linux")]
fn listening(descriptor: i32) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(own, descriptor, PidfdGetfdFlags::empty())?;
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("it does not listen"));
    }
    Ok(socket)
}

#[cfg(not(target_os = "linux"))]
fn listening(_: i32) -> io::Result<OwnedFd> {
    Err(io::Error::other("sockets are taken from a service manager on Linux alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(variables: &[(&str, &str)]) -> Result<(), String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        super::passed(&mut Sockets::default(), &variable).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_ours_is_left_alone_and_nonsense_is_an_error() {
        let own = std::process::id().to_string();
        assert_eq!(passed(&[]), Ok(()));
        assert_eq!(passed(&[("LISTEN_FDS", "2")]), Ok(()));
        assert_eq!(passed(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "1")]), Ok(()));
        let error = passed(&[("LISTEN_FDS", "two"), ("LISTEN_PID", &own)]).expect_err("no number");
        assert_eq!(error, "LISTEN_FDS is no number: `two`");
    }
}
