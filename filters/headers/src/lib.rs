//! Headers filter.
