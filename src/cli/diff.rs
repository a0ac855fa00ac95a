//! `weir diff`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use super::{DiffArgs, EXIT_CONFIG, EXIT_DIFFERS, counted, load, print};
use crate::config::diff::{Change, Part, diff as changes_of};
use crate::registry::Registry;
use crate::socket::Address;

/// How long a gateway may take to say how many connections it has.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn diff(args: &DiffArgs, registry: &Registry) -> ExitCode {
    let (old, new) = match (load(&args.old, registry), load(&args.new, registry)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    let changes = changes_of(&old, &new);
    let metrics = match args.admin.as_ref().map(metrics).transpose() {
        Ok(metrics) => metrics,
        Err(error) => {
            eprintln!("error: {}: {error}", args.admin.as_ref().map(Address::to_string).unwrap_or_default());
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if changes.is_empty() {
        return print("no difference\n");
    }
    for change in &changes {
        let printed = print(&format!("{change}{}", concerned(change, metrics.as_deref())));
        if printed != ExitCode::SUCCESS {
            return printed;
        }
    }
    print(&format!("{}\n", summary(&changes)));
    ExitCode::from(EXIT_DIFFERS)
}

fn summary(changes: &[Change]) -> String {
    let count = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count();
    let (drains, fixed) = (count(|change| change.drains), count(|change| change.is_fixed));
    let refused = if fixed > 0 { "; a reload is refused, it takes a restart" } else { "" };
    format!("{}, {} drain{refused}", counted(changes.len(), "change"), counted(drains, "listener"))
}

/// How many connections a change concerns, by what a gateway says of itself.
fn concerned(change: &Change, metrics: Option<&str>) -> String {
    let (Some(metrics), true) = (metrics, change.drains || change.reconnects) else { return String::new() };
    let series = match &change.part {
        Part::Listener(name) => format!("weir_downstream_connections{{listener=\"{name}\"}} "),
        Part::Cluster(name) => format!("weir_upstream_connections{{cluster=\"{name}\"}} "),
        Part::Root | Part::Route => return String::new(),
    };
    let open = metrics.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or("0");
    format!("    => {} open now\n", counted(open.parse().unwrap_or(0), "connection"))
}

/// What the gateway with this admin address says at `/metrics`.
fn metrics(address: &Address) -> io::Result<String> {
    let answer = match address {
        Address::Ip(address) => {
            let socket = TcpStream::connect_timeout(address, PATIENCE)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            ask(socket)?
        }
        Address::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            ask(socket)?
        }
    };
    match answer.starts_with("HTTP/1.1 200") {
        true => Ok(answer),
        false => Err(io::Error::other("that is no admin listener of Weir")),
    }
}

fn ask(mut socket: impl Read + Write) -> io::Result<String> {
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
