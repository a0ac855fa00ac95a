//! Where lines are written, and what becomes of those that cannot be.

use std::io::{self, ErrorKind, Write};

/// A file or a stream that takes lines.
pub(super) struct Output {
    out: Box<dyn Write + Send>,
    /// The rest of a line that was written in part: it goes first when writing works again, so that lines stay whole.
    torn: Vec<u8>,
    /// It has been said.
    failing: bool,
}

impl Output {
    pub(super) fn new(out: Box<dyn Write + Send>) -> Output {
        Output { out, torn: Vec::new(), failing: false }
    }

    /// Writes to this from now on. The rest of a torn line is lost with what has its beginning.
    pub(super) fn go_on_in(&mut self, out: Box<dyn Write + Send>) {
        *self = Output::new(out);
    }

    /// Writes whole lines. What cannot be written is lost, which is said once until it works again.
    pub(super) fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        match self.try_write(lines) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                tracing::error!(%error, "the access log cannot be written");
                self.failing = true;
            }
            Err(_) => {}
        }
    }

    fn try_write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut torn = std::mem::take(&mut self.torn);
        let (written, result) = write_part(&mut self.out, &torn);
        if let Err(error) = result {
            torn.drain(..written);
            self.torn = torn;
            return Err(error);
        }
        let (written, result) = write_part(&mut self.out, lines);
        if let Err(error) = result {
            self.torn = rest_of_line(lines, written).to_vec();
            return Err(error);
        }
        self.out.flush()
    }
}

/// Writes as much as can be, and says how much that was.
fn write_part(out: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// What is left of the line that `written` bytes end in; nothing where they end with it.
fn rest_of_line(lines: &[u8], written: usize) -> &[u8] {
    if written == 0 || lines[written - 1] == b'\n' {
        return &[];
    }
    let rest = &lines[written..];
    let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
    &rest[..end]
}
