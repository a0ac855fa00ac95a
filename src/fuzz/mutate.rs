//! Runs the targets for a moment each: seeds, and what chance makes of them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::{config, connection, frames, messages, metadata, proxy_protocol};
use crate::chance;

/// How long a target is run. More is libFuzzer's work.
const TIME: Duration = Duration::from_secs(2);

/// Words that open doors which chance would hardly find.
const WORDS: [&[u8]; 12] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
    &[0, 0, 5, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x41, 0x00],
    &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8],
    b": ",
    b"- {",
    b"${A:-b}",
    b"&a *a",
    b"99999999H",
    b"%41%zz",
    b"/a.B/Get/",
];

fn below(bound: usize) -> usize {
    ((chance::fraction() * bound as f64) as usize).min(bound.saturating_sub(1))
}

/// One seed, changed in a few places.
fn mutated(seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[below(seeds.len())].clone();
    for _ in 0..=below(6) {
        let at = below(bytes.len() + 1);
        match below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << below(8),
            1 if at < bytes.len() => bytes[at] = below(256) as u8,
            2 => bytes.insert(at, below(256) as u8),
            3 => drop(bytes.drain(at..(at + below(20)).min(bytes.len()))),
            4 => drop(bytes.splice(at..at, WORDS[below(WORDS.len())].iter().copied())),
            5 => {
                let other = &seeds[below(seeds.len())];
                let from = below(other.len() + 1);
                let part = other[from..(from + below(60)).min(other.len())].to_vec();
                drop(bytes.splice(at..at, part));
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Says what a target was given when it fails.
fn run(target: fn(&[u8]), seeds: &[Vec<u8>]) {
    struct Told<'a>(&'a [u8]);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("it was given {:02x?}: {}", self.0, String::from_utf8_lossy(self.0));
            }
        }
    }
    let began = Instant::now();
    let mut runs = 0;
    let mut once = |bytes: &[u8]| {
        let _told = Told(bytes);
        target(bytes);
        runs += 1;
    };
    seeds.iter().for_each(|seed| once(seed));
    while began.elapsed() < TIME {
        once(&mutated(seeds));
    }
    println!("{runs} runs");
}

/// The files of these folders that end so.
fn files(folders: &[&str], end: &str) -> Vec<Vec<u8>> {
    let files = folders.iter().flat_map(|folder| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        std::fs::read_dir(&folder).expect("a folder of the project").map(|file| file.expect("a file").path())
    });
    let files = files.filter(|file| file.extension().is_some_and(|kind| kind == end));
    files.map(|file| std::fs::read(file).expect("a file of the project")).collect()
}

#[test]
fn any_text_is_a_configuration_or_refused() {
    run(config, &files(&["conf", "tests/wrong"], "yaml"));
}

#[test]
fn any_frames_mean_the_same_after_gathering() {
    let data = [1, 0, 1, 20].into_iter().chain(7..27);
    let seeds = [Vec::new(), data.clone().collect(), data.clone().chain(data.clone()).chain(data).collect()];
    run(frames, &seeds.map(|seed: Vec<u8>| [vec![9], seed].concat()));
}

#[test]
fn any_pieces_make_the_same_messages() {
    let message = |size: u8| [vec![0, 0, 0, 0, size], vec![7; usize::from(size)]].concat();
    run(messages, &[[vec![255, 3], message(0), message(9), message(200)].concat(), [vec![8, 1], message(9)].concat()]);
}

#[test]
fn any_metadata_is_read() {
    let seeds = ["/a.B/Get", "/", "", "99999999n", "1H", "no 50% of gr\u{f6}\u{df}e", "%E2%82%AC", "14", "/x/y/z/**"];
    run(metadata, &seeds.map(|seed| seed.as_bytes().to_vec()));
}

#[test]
fn any_header_of_the_proxy_protocol_is_read() {
    let addresses = [&[0x21, 0x11, 192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 187][..], &[0x21, 0x21], &[7; 36]];
    let lines = ["PROXY TCP4 192.0.2.1 192.0.2.2 56324 443", "PROXY TCP6 2001:db8::1 ::1 1 2", "PROXY UNKNOWN"];
    let lines = lines.iter().map(|line| line.as_bytes().to_vec());
    run(proxy_protocol, &lines.chain([addresses[0].to_vec(), addresses[1..].concat()]).collect::<Vec<_>>());
}

#[test]
fn any_bytes_leave_the_gateway_up() {
    let head = [0, 0, 5, 1, 5, 0, 0, 0, 1, 0x83, 0x86, 0x84, 0x41, 0x00];
    let data = [0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let seed = |parts: &[&[u8]]| [&[1][..], &parts.concat()].concat();
    run(
        connection,
        &[seed(&[&head]), seed(&[&head, &data]), seed(&[&ping, &head, &ping]), b"\0GET / HTTP/1.1\r\n\r\n".to_vec()],
    );
}
