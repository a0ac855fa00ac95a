//! The comparison of Weir with other proxies, and the guard over what a call costs: `integration/benches/` runs them.

pub mod backend;
pub mod bed;
pub mod case;
pub mod compare;
mod corked;
pub mod guard;
pub mod load;
pub mod machine;
pub mod measure;
pub mod options;
pub mod peer;
pub mod report;
pub mod results;
pub mod role;
pub mod siege;
pub mod splice;
pub mod usage;
