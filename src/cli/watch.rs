//! Notices that a file has changed.
//!
//! It is read once a second. What the kernel could tell instead is one story for a file that is written to, another for one
//! that is renamed into its place, a third for the links that Kubernetes swaps, and none at all on some file systems.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How often the file is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// A file whose content is watched, whatever its path leads to by then.
#[derive(Debug)]
pub(super) struct Watch {
    path: PathBuf,
    /// What was last said to be there.
    told: Content,
    /// What was there when last looked at.
    seen: Content,
}

/// What is in the file, or why that cannot be read.
type Content = Result<Vec<u8>, ErrorKind>;

impl Watch {
    /// What is there now is known.
    pub(super) fn new(path: &Path) -> Watch {
        let content = read(path);
        Watch { path: path.to_owned(), told: content.clone(), seen: content }
    }

    /// Waits until something else is there.
    pub(super) async fn changed(&mut self) {
        let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.look() {
                return;
            }
        }
    }

    /// True when something else is there that was there the last time too: half of a file may be a good configuration of half
    /// as much.
    fn look(&mut self) -> bool {
        let now = read(&self.path);
        let settled = now == self.seen && now != self.told;
        if settled {
            self.told.clone_from(&now);
        }
        self.seen = now;
        settled
    }
}

fn read(path: &Path) -> Content {
    std::fs::read(path).map_err(|error| error.kind())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_change_is_told_once_and_once_it_has_settled() {
        let folder = tempfile::tempdir().expect("a folder");
        let (a, b, link) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("link"));
        fs::write(&a, "1").expect("a file");
        fs::write(&b, "2").expect("a file");
        symlink(&a, &link).expect("a link");
        let mut watch = Watch::new(&link);
        assert!(!watch.look());
        // As Kubernetes swaps the folder of a ConfigMap.
        symlink(&b, folder.path().join("next")).expect("a link");
        fs::rename(folder.path().join("next"), &link).expect("a swap");
        assert_eq!([watch.look(), watch.look(), watch.look()], [false, true, false]);
        fs::write(&b, "3").expect("a file");
        assert!(!watch.look(), "it may be half of what is being written");
        fs::write(&b, "34").expect("a file");
        assert_eq!([watch.look(), watch.look()], [false, true]);
        fs::remove_file(&b).expect("a file");
        assert_eq!([watch.look(), watch.look(), watch.look()], [false, true, false]);
    }
}
