//! A sample.

fn main() {}
