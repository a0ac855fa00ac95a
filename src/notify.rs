//! What a service manager is told: `sd_notify(3)`, a datagram of lines to the socket that `NOTIFY_SOCKET` names.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    manager: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// `None` where no service manager wants to know.
    ///
    /// # Errors
    ///
    /// When it names no socket: the service manager would wait for the start until it ends the process.
    pub(crate) fn new(variable: &dyn Fn(&str) -> Option<String>) -> io::Result<Option<Notifier>> {
        let Some(path) = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(None) };
        let problem = |error: io::Error| io::Error::new(error.kind(), format!("NOTIFY_SOCKET `{path}`: {error}"));
        let (manager, socket) = (address(&path).map_err(problem)?, UnixDatagram::unbound()?);
        Ok(Some(Notifier { socket, manager, watchdog: watchdog(variable) }))
    }

    /// Tells it. A service manager that does not listen must not hold up a gateway.
    pub(crate) fn tell(&self, lines: &str) {
        if let Err(error) = self.socket.send_to_addr(lines.as_bytes(), &self.manager) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }

    /// How often it wants to hear that all is well; `None` is never.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }
}

/// A path, or with `@` a name in Linux' abstract namespace.
fn address(path: &str) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = path.strip_prefix('@') {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(path)
}

/// Half the time after which the manager gives the process up, as sd_watchdog_enabled(3) advises.
fn watchdog(variable: &dyn Fn(&str) -> Option<String>) -> Option<Duration> {
    let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let micros = variable("WATCHDOG_USEC").filter(|_| is_ours)?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(micros) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(known: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let known: Vec<(String, String)> =
            known.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        move |name| known.iter().find(|(one, _)| one == name).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_manager_hears_by_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        let path = path.to_str().expect("a path of text");
        let known = [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", "30000000")];
        let notifier = Notifier::new(&variables(&known)).expect("a way").expect("a manager");
        notifier.tell("READY=1\n");
        let mut heard = [0; 64];
        let count = manager.recv(&mut heard).expect("a datagram");
        assert_eq!(&heard[..count], b"READY=1\n");
        assert_eq!(notifier.watchdog(), Some(Duration::from_secs(15)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_manager_hears_by_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("weir-notify-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("a socket");
        let notifier = Notifier::new(&variables(&[("NOTIFY_SOCKET", &format!("@{name}"))])).expect("a way");
        notifier.expect("a manager").tell("STOPPING=1\n");
        let mut heard = [0; 64];
        let count = manager.recv(&mut heard).expect("a datagram");
        assert_eq!(&heard[..count], b"STOPPING=1\n");
    }

    #[test]
    fn where_nobody_wants_to_know_there_is_none() {
        assert!(Notifier::new(&variables(&[])).expect("nothing wrong").is_none());
        let known = [("NOTIFY_SOCKET", ""), ("WATCHDOG_USEC", "1")];
        assert!(Notifier::new(&variables(&known)).expect("nothing wrong").is_none());
        let known = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
        assert_eq!(watchdog(&variables(&known)), None, "another process is meant");
    }
}
