//! A child process that ends with the value that owns it, and whose output can be awaited line by line.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

use crate::bench::usage;

/// How long any one event may take. Generous: it bounds a hang, it does not measure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long the last lines of a process may take after its end.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    grew: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    open_pipes: usize,
}

impl Process {
    /// Starts `command` and collects the lines of its stdout and stderr.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Process> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let output = Arc::new(Output::default());
        output.lock().open_pipes = 2;
        if let Some(pipe) = child.stdout.take() {
            collect(pipe, output.clone());
        }
        if let Some(pipe) = child.stderr.take() {
            collect(pipe, output.clone());
        }
        Ok(Process { child, name: name.to_owned(), output })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line for which `pick` returns something.
    ///
    /// # Errors
    ///
    /// When the process closes its output, or [`PATIENCE`] ends, before such a line. The error holds the output.
    pub fn wait_line<T>(&self, what: &str, mut pick: impl FnMut(&str) -> Option<T>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        let mut seen = 0;
        let mut lines = self.output.lock();
        loop {
            while let Some(line) = lines.lines.get(seen) {
                if let Some(found) = pick(line) {
                    return Ok(found);
                }
                seen += 1;
            }
            let left = end.saturating_duration_since(Instant::now());
            if lines.open_pipes == 0 || left.is_zero() {
                bail!("{}: no line with {what}; its output:\n{}", self.name, lines.lines.join("\n"));
            }
            lines = self.output.grew.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything printed so far, one line an element.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Sends a signal by name, such as `TERM`.
    ///
    /// # Errors
    ///
    /// When `kill` cannot be run or reports a failure.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let status = Command::new("kill").arg(format!("-{signal}")).arg(self.pid().to_string()).status()?;
        if !status.success() {
            bail!("kill -{signal} {} ({}) failed", self.pid(), self.name);
        }
        Ok(())
    }

    /// Whether the process has ended by now.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end of the process, and of its output.
    ///
    /// # Errors
    ///
    /// When it has not ended within [`PATIENCE`]; it is killed then, and the error holds its output.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.output.wait_end();
                return Ok(status);
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                bail!("{} did not end; its output:\n{}", self.name, self.lines().join("\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has been waited for has given its id back, and whoever has it now is not ours to look at.
        let below = match self.child.try_wait() {
            Ok(None) => usage::tree(self.pid()).unwrap_or_default(),
            _ => Vec::new(),
        };
        let _ = self.child.kill();
        let _ = self.child.wait();
        // nginx's workers outlive a master that is killed.
        for pid in below.into_iter().skip(1).filter_map(|pid| Pid::from_raw(pid.try_into().ok()?)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Output {
    /// What a process has printed may be read a little after its end. Its children may go on printing: they are not waited for.
    fn wait_end(&self) {
        let is_open = |lines: &mut Lines| lines.open_pipes > 0;
        drop(self.grew.wait_timeout_while(self.lock(), LAST_LINES, is_open));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets this process, and the children that it starts from now on, have this many files open: shells often grant 1,024.
///
/// # Errors
///
/// When the system's hard limit is lower.
pub fn raise_file_limit(files: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|granted| granted >= files) {
        return Ok(());
    }
    limit.current = Some(files);
    setrlimit(Resource::Nofile, limit)
        .with_context(|| format!("the tests need {files} open files; `ulimit -Hn` allows {:?}", limit.maximum))
}

/// Lets the running process `pid` have no more than this many files open.
///
/// # Errors
///
/// When it is not a process of this user.
pub fn cap_files(pid: u32, files: u64) -> Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process"))?;
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    prlimit(Some(process), Resource::Nofile, limit).with_context(|| format!("limiting the files of {pid}"))?;
    Ok(())
}

fn collect(pipe: impl Read + Send + 'static, output: Arc<Output>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            output.lock().lines.push(line);
            output.grew.notify_all();
        }
        output.lock().open_pipes -= 1;
        output.grew.notify_all();
    });
}
