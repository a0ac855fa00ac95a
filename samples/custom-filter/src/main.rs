//! Weir with one filter more: the same commands, the same configuration, and `acme.filter.tenant` besides.

mod tenant;

fn main() {}
