//! Gathers small DATA frames that arrive together into one a stream, before h2 sees them.
//!
//! The frames of a stream carry its bytes, and their boundaries mean nothing (RFC 9113 6.1). h2 needs some 3,000
//! instructions to take a frame in and to give it out again; joining two here takes a fiftieth of that. A server that
//! streams small messages sends a frame for each, in turns with those of its other streams.
//!
//! Only whole frames that follow each other without any other between them are gathered. DATA of different streams may change
//! places (RFC 9113 5: streams are independent), nothing else does. Flow control counts payloads, and so sees the same.

use std::cell::RefCell;

use super::meter::{HEADER, Seen};

/// Frames larger than this are worth neither the copies nor the wait for them.
const SMALL: usize = 4 * 1024;

/// HTTP/2's smallest maximum frame (RFC 9113 4.2), which h2 takes as it stands.
const LARGEST: usize = 16 * 1024;

/// Places in which the group of a stream is looked for. Two streams that want the same one are gathered in parts.
const PLACES: usize = 256;

const DATA: u8 = 0x0;
const END_STREAM: u8 = 0x1;

thread_local! {
    static GATHER: RefCell<Gather> = const { RefCell::new(Gather::new()) };
}

/// Gives `work` the worker's own [`Gather`], which is empty before and after.
pub(super) fn with<T>(work: impl FnOnce(&mut Gather) -> T) -> T {
    GATHER.with_borrow_mut(work)
}

/// What was seen of one read.
#[derive(Debug)]
pub(super) struct Gather {
    frames: Vec<Small>,
    groups: Vec<Group>,
    runs: Vec<Run>,
    /// The latest group of a stream that has this place. What an earlier read has left here names no group of that stream.
    places: [u32; PLACES],
    scratch: Vec<u8>,
    /// There is something to rewrite.
    pays: bool,
}

/// A small DATA frame.
#[derive(Debug)]
struct Small {
    payload: usize,
    length: usize,
    /// The next frame that goes into the same one.
    next: Option<usize>,
}

/// Frames that become one.
#[derive(Debug)]
struct Group {
    stream: u32,
    first: usize,
    last: usize,
    length: usize,
    ended: bool,
}

/// Frames that follow each other: bytes `start..end`. Its groups go up to the next run's first.
#[derive(Debug)]
struct Run {
    start: usize,
    end: usize,
    first_group: usize,
    /// There are fewer groups than frames, or a group that is nothing.
    pays: bool,
}

impl Gather {
    const fn new() -> Gather {
        Gather {
            frames: Vec::new(),
            groups: Vec::new(),
            runs: Vec::new(),
            places: [0; PLACES],
            scratch: Vec::new(),
            pays: false,
        }
    }

    /// Takes note of the next frame of a read of `size` bytes.
    pub(super) fn add(&mut self, seen: Seen, size: usize) {
        if !is_small_data(&seen, size) {
            return;
        }
        let Seen { end, length, flags, stream, .. } = seen;
        let (start, ended) = (end - HEADER, flags & END_STREAM != 0);
        let at = self.frames.len();
        self.frames.push(Small { payload: end, length, next: None });
        let run = self.run_at(start, end + length);
        let place = stream as usize / 2 % PLACES;
        let group = self.places[place] as usize;
        let begun = self.runs[run].first_group;
        match self.groups.get_mut(group) {
            // What follows an end is the peer's mistake, and h2's to say.
            Some(open) if open.stream == stream && group >= begun && !open.ended && open.length + length <= LARGEST => {
                self.frames[open.last].next = Some(at);
                open.last = at;
                open.length += length;
                open.ended = ended;
                self.pays_in(run);
            }
            _ => {
                self.places[place] = self.groups.len() as u32;
                self.groups.push(Group { stream, first: at, last: at, length, ended });
                if length == 0 && !ended {
                    self.pays_in(run);
                }
            }
        }
    }

    /// The run that a frame at `start` belongs to, which then ends at `end`.
    fn run_at(&mut self, start: usize, end: usize) -> usize {
        match self.runs.last_mut() {
            Some(run) if run.end == start => run.end = end,
            _ => self.runs.push(Run { start, end, first_group: self.groups.len(), pays: false }),
        }
        self.runs.len() - 1
    }

    fn pays_in(&mut self, run: usize) {
        self.runs[run].pays = true;
        self.pays = true;
    }

    /// Writes each run of frames as its groups. Returns how many of `bytes` are left.
    ///
    /// An empty DATA frame that ends nothing vanishes: it means nothing, and h2 ends a connection that has brought it a
    /// hundred in its life, with everybody's calls.
    pub(super) fn rewrite(&mut self, bytes: &mut [u8]) -> usize {
        let kept = if self.pays { self.gathered(bytes) } else { bytes.len() };
        self.frames.clear();
        self.groups.clear();
        self.runs.clear();
        self.pays = false;
        kept
    }

    fn gathered(&mut self, bytes: &mut [u8]) -> usize {
        let (mut read, mut kept) = (0, 0);
        for (at, run) in self.runs.iter().enumerate().filter(|(_, run)| run.pays) {
            self.scratch.clear();
            let groups = run.first_group..self.runs.get(at + 1).map_or(self.groups.len(), |next| next.first_group);
            for group in &self.groups[groups] {
                group.write(&self.frames, bytes, &mut self.scratch);
            }
            bytes.copy_within(read..run.start, kept);
            kept += run.start - read;
            bytes[kept..kept + self.scratch.len()].copy_from_slice(&self.scratch);
            kept += self.scratch.len();
            read = run.end;
        }
        bytes.copy_within(read.., kept);
        kept + bytes.len() - read
    }
}

/// True for a frame that lies within the read as a whole, and that END_STREAM and nothing else may be said of: with padding
/// h2 must see it as it is.
fn is_small_data(seen: &Seen, size: usize) -> bool {
    seen.kind == DATA
        && seen.flags & !END_STREAM == 0
        && seen.length <= SMALL
        && seen.end >= HEADER
        && seen.end + seen.length <= size
}

impl Group {
    fn write(&self, frames: &[Small], bytes: &[u8], out: &mut Vec<u8>) {
        if self.length == 0 && !self.ended {
            return;
        }
        let length = (self.length as u32).to_be_bytes();
        let stream = self.stream.to_be_bytes();
        out.extend_from_slice(&[length[1], length[2], length[3], DATA, u8::from(self.ended)]);
        out.extend_from_slice(&stream);
        let mut next = Some(self.first);
        while let Some(at) = next {
            let frame = &frames[at];
            out.extend_from_slice(&bytes[frame.payload..frame.payload + frame.length]);
            next = frame.next;
        }
    }
}

#[cfg(test)]
mod tests;
