//! Who may come to a listener, and what is believed of what they say.

/// The connections that a listener takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Of all clients together; `None` is no limit.
    pub max_connections: Option<usize>,
    /// From one IPv4 address or one IPv6 network of 64 bits; `None` is no limit.
    pub max_connections_per_source: Option<usize>,
}

/// What happens to `x-forwarded-for` and its like in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingHeaders {
    /// They pass as all metadata does.
    #[default]
    Pass,
    /// They are removed, and `x-forwarded-for` is the address that the connection came from.
    Replace,
    /// They are removed.
    Remove,
}

impl ForwardingHeaders {
    /// All of them.
    pub const ALL: [ForwardingHeaders; 3] =
        [ForwardingHeaders::Pass, ForwardingHeaders::Remove, ForwardingHeaders::Replace];

    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ForwardingHeaders::Pass => "PASS",
            ForwardingHeaders::Remove => "REMOVE",
            ForwardingHeaders::Replace => "REPLACE",
        }
    }
}
