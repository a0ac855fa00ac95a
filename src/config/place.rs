//! Where something stands in the file.

/// A stretch of one line of the file. Lines and columns count from 1, columns in characters.
///
/// Line 0 is the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The first character.
    pub column: u32,
    /// How many characters the caret underlines; at least one is shown.
    pub length: u32,
}

impl Place {
    /// The file as a whole.
    pub const FILE: Place = Place { line: 0, column: 0, length: 0 };
}
