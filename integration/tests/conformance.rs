//! What RFC 9113 and RFC 7541 ask of a server, each from raw frames: the 147 cases that public conformance tests know, in our own
//! words, and some more. Requests are gRPC calls.

#![allow(clippy::unwrap_used)]

#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/connection.rs"]
mod connection;
#[path = "conformance/frames.rs"]
mod frames;
#[path = "conformance/hpack.rs"]
mod hpack;
#[path = "conformance/messages.rs"]
mod messages;
#[path = "conformance/streams.rs"]
mod streams;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;

use case::{Case, Outcome};
use weir_integration::peers::backend::Backend;
use weir_integration::peers::setup::Setup;

/// Where Weir does not do what it must, and why. A case that is right after all fails here too.
const OTHERWISE: &[(&str, &str)] = &[
    (
        "3.4: PING in the place of the client's SETTINGS",
        "h2 waits for SETTINGS; the connection ends when the time for its beginning does",
    ),
    ("8.3: a pseudo-header in trailers", "h2 drops it, so that it reaches no backend, and does not tell"),
];

/// Where the error is found, and its connection or stream ends with another code: h2 says PROTOCOL_ERROR for whatever is wrong
/// with a frame or a header block, and for frames on streams that it has forgotten.
const OTHER_CODE: &[&str] = &[
    "4.3: a header block that cannot be decoded",
    "5.1: DATA after the end of the request",
    "5.1: HEADERS after the end of the request",
    "5.1: HEADERS after RST_STREAM",
    "6.1: DATA on a stream that is not open",
    "6.3: PRIORITY of another length",
    "6.4: RST_STREAM of another length",
    "6.5: SETTINGS that acknowledge with a payload",
    "6.5: SETTINGS of another length",
    "6.5.2: SETTINGS_INITIAL_WINDOW_SIZE over 2^31 - 1",
    "6.7: PING of another length",
    "6.9: WINDOW_UPDATE of another length",
    "7541 2.3.3: an index beyond the tables",
    "7541 2.3.3: the index of a name beyond the tables",
    "7541 4.2: a size update at the end of a block",
    "7541 5.2: more than seven bits of padding",
    "7541 5.2: padding of zeros",
    "7541 5.2: EOS in a text",
    "7541 6.1: index 0",
    "7541 6.3: a size over SETTINGS_HEADER_TABLE_SIZE",
    "7541 5.1: an integer that does not end",
    "7541 5.2: a text longer than its block",
];

fn cases() -> Vec<Case> {
    [connection::CASES, streams::CASES, frames::CASES, messages::CASES, hpack::CASES].concat()
}

/// How each case ends, a few at a time.
fn outcomes(address: SocketAddr, cases: &[Case]) -> Vec<(&Case, Outcome)> {
    let lanes: Vec<&[Case]> = cases.chunks(cases.len().div_ceil(8)).collect();
    thread::scope(|scope| {
        let run = |lane: &'_ [Case]| lane.iter().map(|case| case.run(address)).collect::<Vec<_>>();
        let lanes: Vec<_> = lanes.iter().map(|lane| (lane, scope.spawn(move || run(lane)))).collect();
        lanes.into_iter().flat_map(|(lane, running)| lane.iter().zip(running.join().unwrap())).collect()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_that_a_client_can_keep_or_break() {
    // Another server in front of the same backend may be looked at, to compare.
    let of = |name: &str| std::env::var(name).ok().map(|address| address.parse::<SocketAddr>().unwrap());
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let backend = Backend::start_on(of("CONFORMANCE_BACKEND").unwrap_or(local)).await.unwrap();
    let gateway = Setup::to([backend.address]).start(1).unwrap();
    let cases = cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let address = of("CONFORMANCE_ADDRESS").unwrap_or(gateway.listener("grpc").unwrap());
    let outcomes = tokio::task::block_in_place(|| outcomes(address, &cases));
    let mut surprises = Vec::new();
    let (mut right, mut other_code) = (0, 0);
    for (case, outcome) in &outcomes {
        let is_known = OTHERWISE.iter().any(|(name, _)| *name == case.name);
        let is_other_code = OTHER_CODE.contains(&case.name);
        let (as_noted, what) = match outcome {
            Outcome::Right => (!is_known && !is_other_code, "is right, and noted as wrong".to_owned()),
            Outcome::OtherCode(code) => (is_other_code, format!("ends with error {code}")),
            Outcome::Wrong(why) => (is_known, why.clone()),
        };
        right += usize::from(matches!(outcome, Outcome::Right));
        other_code += usize::from(matches!(outcome, Outcome::OtherCode(_)));
        if !as_noted {
            surprises.push(format!("{}: {what}", case.name));
        }
    }
    println!("{} cases: {right} right, {other_code} under another code", outcomes.len());
    assert!(surprises.is_empty(), "not as noted:\n{}", surprises.join("\n"));
}
