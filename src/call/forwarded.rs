//! What a request says about the way that it came: nobody's word but ours where a listener is an edge.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::config::plan::ForwardingHeaders;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Fields that proxies set and backends believe.
const TRUSTED: [HeaderName; 7] = [
    FORWARDED,
    FORWARDED_FOR,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-real-ip"),
];

/// Does with a request's forwarding headers as its listener says.
pub(super) fn apply(rule: ForwardingHeaders, peer: Option<IpAddr>, headers: &mut HeaderMap) {
    if rule == ForwardingHeaders::Pass {
        return;
    }
    for name in &TRUSTED {
        headers.remove(name);
    }
    if rule == ForwardingHeaders::Replace
        && let Some(Ok(value)) = peer.map(|peer| HeaderValue::try_from(peer.to_canonical().to_string()))
    {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_by_a_unix_socket_comes_for_nobody() {
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("1.2.3.4"));
        apply(ForwardingHeaders::Replace, None, &mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn a_strangers_word_counts_only_where_it_may() {
        for (rule, expected) in [
            (ForwardingHeaders::Pass, vec!["1.2.3.4", "5.6.7.8"]),
            (ForwardingHeaders::Remove, vec![]),
            (ForwardingHeaders::Replace, vec!["192.0.2.1"]),
        ] {
            let mut headers = HeaderMap::new();
            for value in ["1.2.3.4", "5.6.7.8"] {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
            }
            headers.insert("x-forwarded-client-cert", HeaderValue::from_static("Subject=me"));
            headers.insert("x-other", HeaderValue::from_static("stays"));
            apply(rule, Some("::ffff:192.0.2.1".parse().expect("an address")), &mut headers);
            let found: Vec<_> =
                headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().expect("text")).collect();
            assert_eq!(found, expected);
            assert_eq!(headers.contains_key("x-forwarded-client-cert"), rule == ForwardingHeaders::Pass);
            assert!(headers.contains_key("x-other"));
        }
    }
}
