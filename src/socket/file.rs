//! The file that a Unix socket has in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a listening socket. It goes with this, where it is this process's to take away.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: whoever comes later may have put another file there.
    identity: (u64, u64),
    ours: AtomicBool,
}

impl SocketFile {
    /// The file that is there now. `ours` says that this process has made it.
    pub(super) fn at(path: &Path, ours: bool) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)?, ours: AtomicBool::new(ours) })
    }

    /// From now on it goes with this, or does not.
    pub(super) fn set_ours(&self, ours: bool) {
        self.ours.store(ours, Ordering::Relaxed);
    }

    /// Gives it these permissions.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.ours.load(Ordering::Relaxed) && identity(&self.path).is_ok_and(|there| there == self.identity) {
            // It may be gone by now, and a folder that has become read-only keeps it: the next to bind takes it away.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let there = fs::symlink_metadata(path)?;
    Ok((there.dev(), there.ino()))
}

/// Makes place for a socket at a path: what a process left behind that was killed. Two processes that find the same remains
/// in the same moment may both take them away, and the first to bind then listens where nobody comes; a path of Unix cannot
/// be had as surely as a port.
///
/// # Errors
///
/// When somebody listens there, or something else is there than a socket.
pub(super) fn make_place(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock) => Err(error),
        // Connected, or so many wait that the kernel takes no more.
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

/// A socket that listens at a path, and its file.
pub(super) fn bind(path: &Path, mode: Option<u32>, backlog: i32) -> io::Result<(OwnedFd, SocketFile)> {
    make_place(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path, true)?;
    if let Some(mode) = mode {
        // Before it listens: until then nobody can connect, whatever the umask allows.
        file.set_mode(mode)?;
    }
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn bind_at(path: &Path) -> io::Result<(OwnedFd, SocketFile)> {
        bind(path, None, 1)
    }

    #[test]
    fn the_remains_of_a_process_are_taken_away_and_nothing_else() {
        let folder = folder();
        let path = folder.path().join("weir.sock");
        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "as kill -9 leaves it");
        let held = bind_at(&path).expect("nobody listens there");
        let error = bind_at(&path).expect_err("somebody listens there");
        assert_eq!((error.kind(), path.exists()), (io::ErrorKind::AddrInUse, true));
        drop(held);
        fs::write(&path, "text").expect("a file");
        let error = bind_at(&path).expect_err("it is no socket");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).expect("the file"), "text");
    }

    #[test]
    fn a_file_goes_with_its_socket_unless_it_is_somebody_elses() {
        let folder = folder();
        let path = folder.path().join("weir.sock");
        let (_socket, file) = bind_at(&path).expect("a socket");
        drop(file);
        assert!(!path.exists());

        let (_socket, file) = bind_at(&path).expect("a socket");
        fs::remove_file(&path).expect("it is there");
        let _other = UnixListener::bind(&path).expect("a socket");
        drop(file);
        assert!(path.exists(), "it is the other's");
    }

    #[test]
    fn a_file_that_was_given_away_stays() {
        let folder = folder();
        let path = folder.path().join("weir.sock");
        let (_socket, file) = bind_at(&path).expect("a socket");
        file.set_ours(false);
        drop(file);
        assert!(path.exists());
        drop(SocketFile::at(&path, true).expect("it is there"));
        assert!(!path.exists());
    }

    #[test]
    fn its_permissions_are_those_asked_for() {
        let folder = folder();
        let path = folder.path().join("weir.sock");
        let (_socket, file) = bind(&path, Some(0o600), 1).expect("a socket");
        let mode = || fs::metadata(&path).expect("it is there").mode() & 0o777;
        assert_eq!(mode(), 0o600);
        file.set_mode(0o660).expect("it is ours");
        assert_eq!(mode(), 0o660);
    }
}
