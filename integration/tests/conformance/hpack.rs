//! RFC 7541: header blocks in every representation, and such as are none.

use weir_integration::peers::raw::{Raw, flag, kind};

use super::case::*;

/// `:method: POST` and `:scheme: http` of the static table, and the other fields of a call as literals.
fn indexed(rest: &[u8]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    block.extend(rest);
    block.extend(path(0x00));
    block.extend(&call_rest());
    block
}

/// `:path`, whose name stands in the static table at 4, in the representation with this first byte.
fn path(representation: u8) -> Vec<u8> {
    let mut field = vec![representation | 4, CALL[2].1.len() as u8];
    field.extend(CALL[2].1.as_bytes());
    field
}

/// What follows the path.
fn call_rest() -> Vec<u8> {
    weir_integration::peers::raw::block(&CALL[3..])
}

/// A call of this block is answered.
fn good(raw: &mut Raw, block: &[u8]) -> Expect {
    begin(raw);
    raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, block);
    Expect::Answer(1)
}

/// A call with this behind its fields cannot be decoded.
fn bad(raw: &mut Raw, behind: &[u8]) -> Expect {
    begin(raw);
    let block = [&call(&[])[..], behind].concat();
    raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block);
    Expect::Connection(&[COMPRESSION_ERROR])
}

/// A field of a call in this representation, with its name in the static table or as a literal.
fn with_path(representation: u8, is_indexed: bool) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    if is_indexed {
        block.extend(path(representation));
    } else {
        block.extend([representation, 5]);
        block.extend(b":path");
        block.push(CALL[2].1.len() as u8);
        block.extend(CALL[2].1.as_bytes());
    }
    block.extend(call_rest());
    block
}

pub(super) const CASES: &[Case] = &[
    Case { name: "7541 6.1: indexed fields of the static table", steps: |raw| good(raw, &indexed(&[])) },
    Case {
        name: "7541 6.1: an indexed field of the dynamic table",
        steps: |raw| {
            begin(raw);
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &with_path(0x40, true));
            // The first entry of the dynamic table: 62.
            let block = [&[0x83, 0x86, 0x80 | 62][..], &call_rest()].concat();
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, &block);
            Expect::Answer(3)
        },
    },
    Case { name: "7541 6.2.1: incremental indexing, indexed name", steps: |raw| good(raw, &with_path(0x40, true)) },
    Case { name: "7541 6.2.1: incremental indexing, new name", steps: |raw| good(raw, &with_path(0x40, false)) },
    Case { name: "7541 6.2.2: without indexing, indexed name", steps: |raw| good(raw, &with_path(0x00, true)) },
    Case { name: "7541 6.2.2: without indexing, new name", steps: |raw| good(raw, &with_path(0x00, false)) },
    Case { name: "7541 6.2.3: never indexed, indexed name", steps: |raw| good(raw, &with_path(0x10, true)) },
    Case { name: "7541 6.2.3: never indexed, new name", steps: |raw| good(raw, &with_path(0x10, false)) },
    Case {
        name: "7541 6.3: a size update at the beginning of a block",
        steps: |raw| good(raw, &[&[0x20][..], &indexed(&[])].concat()),
    },
    Case {
        name: "7541 6.3: two size updates at the beginning of a block",
        steps: |raw| good(raw, &[&[0x20, 0x3f, 0x80, 0x01][..], &indexed(&[])].concat()),
    },
    Case {
        name: "7541 5.2: Huffman's code",
        // `x-test: aaaa`: four times 00011, and padding.
        steps: |raw| good(raw, &[&call(&[])[..], b"\0\x06x-test\x83\x18\xc6\x3f"].concat()),
    },
    Case { name: "7541 2.3.3: an index beyond the tables", steps: |raw| bad(raw, &[0x80 | 70]) },
    Case {
        name: "7541 2.3.3: the index of a name beyond the tables",
        steps: |raw| bad(raw, &[0x7f, 0x07, 2, b'o', b'k']),
    },
    Case { name: "7541 4.2: a size update at the end of a block", steps: |raw| bad(raw, &[0x20]) },
    Case { name: "7541 5.2: more than seven bits of padding", steps: |raw| bad(raw, b"\0\x06x-test\x82\x1f\xff") },
    Case { name: "7541 5.2: padding of zeros", steps: |raw| bad(raw, b"\0\x06x-test\x81\x18") },
    Case { name: "7541 5.2: EOS in a text", steps: |raw| bad(raw, b"\0\x06x-test\x84\xff\xff\xff\xff") },
    Case { name: "7541 6.1: index 0", steps: |raw| bad(raw, &[0x80]) },
    Case {
        name: "7541 6.3: a size over SETTINGS_HEADER_TABLE_SIZE",
        steps: |raw| {
            begin(raw);
            let block = [&[0x3f, 0xe2, 0x1f][..], &indexed(&[])].concat();
            raw.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &block);
            Expect::Connection(&[COMPRESSION_ERROR])
        },
    },
    Case { name: "7541 5.1: an integer that does not end", steps: |raw| bad(raw, &[0xff; 12]) },
    Case { name: "7541 5.2: a text longer than its block", steps: |raw| bad(raw, b"\0\x06x-test\x14short") },
];
