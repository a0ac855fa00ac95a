//! From a method's path and metadata to its route.

use std::collections::HashMap;
use std::rc::Rc;

use http::HeaderMap;

use crate::config::plan::{Pattern, Rest, Route, Segment};

/// The routes of a listener, as a tree over path segments.
///
/// A look-up takes as long as its path has segments, however many routes there are.
#[derive(Debug)]
pub(crate) struct Router<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    literal: HashMap<Box<str>, Node<T>>,
    any: Option<Box<Node<T>>>,
    /// Routes whose path ends here.
    exact: Vec<Candidate<T>>,
    /// Routes that take whatever follows.
    rest: Vec<Candidate<T>>,
}

#[derive(Debug)]
struct Candidate<T> {
    route: Route,
    /// The rest must not be empty.
    needs_more: bool,
    target: Rc<T>,
}

impl<T> Router<T> {
    /// A router over `routes`, each with what it leads to.
    pub(crate) fn new(routes: impl IntoIterator<Item = (Route, Rc<T>)>) -> Router<T> {
        let mut root = Node::new();
        for (route, target) in routes {
            root.insert(route, target);
        }
        root.sort();
        Router { root }
    }

    /// The most specific route for this path and metadata: segment by segment, a literal goes before `:name` and `*`,
    /// and these before `**` and a prefix; at equal paths, more conditions on metadata go first.
    pub(crate) fn find(&self, path: &str, metadata: &HeaderMap) -> Option<&Rc<T>> {
        let path = path.strip_prefix('/').unwrap_or(path);
        self.root.find(if path.is_empty() { None } else { Some(path) }, metadata)
    }
}

impl<T> Node<T> {
    fn new() -> Node<T> {
        Node { literal: HashMap::new(), any: None, exact: Vec::new(), rest: Vec::new() }
    }

    fn insert(&mut self, route: Route, target: Rc<T>) {
        let Pattern { segments, rest } = route.pattern.clone();
        let mut node = self;
        for segment in segments {
            node = match segment {
                Segment::Literal(text) => node.literal.entry(text.into()).or_insert_with(Node::new),
                Segment::Any => node.any.get_or_insert_with(|| Box::new(Node::new())),
            };
        }
        let candidate = Candidate { route, needs_more: rest == Rest::Some, target };
        match rest {
            Rest::Nothing => node.exact.push(candidate),
            Rest::Any | Rest::Some => node.rest.push(candidate),
        }
    }

    fn sort(&mut self) {
        for list in [&mut self.exact, &mut self.rest] {
            list.sort_by_key(|candidate| std::cmp::Reverse((candidate.route.headers.len(), candidate.needs_more)));
        }
        self.literal.values_mut().for_each(Node::sort);
        if let Some(any) = &mut self.any {
            any.sort();
        }
    }

    fn find(&self, path: Option<&str>, metadata: &HeaderMap) -> Option<&Rc<T>> {
        #[cfg(test)]
        tests::VISITED.set(tests::VISITED.get() + 1);
        let pick = |list: &'_ Vec<Candidate<T>>, more: bool| {
            list.iter().position(|candidate| (more || !candidate.needs_more) && candidate.takes(metadata))
        };
        let Some(path) = path else {
            return pick(&self.exact, false)
                .map(|at| &self.exact[at].target)
                .or_else(|| pick(&self.rest, false).map(|at| &self.rest[at].target));
        };
        let (segment, tail) = match path.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (path, None),
        };
        self.literal
            .get(segment)
            .and_then(|node| node.find(tail, metadata))
            .or_else(|| self.any.as_ref().and_then(|node| node.find(tail, metadata)))
            .or_else(|| pick(&self.rest, true).map(|at| &self.rest[at].target))
    }
}

impl<T> Candidate<T> {
    fn takes(&self, metadata: &HeaderMap) -> bool {
        self.route.headers.iter().all(|wanted| {
            metadata
                .get_all(&wanted.name)
                .iter()
                .any(|value| wanted.values.iter().any(|one| one.as_bytes() == value.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::HeaderMatch;

    thread_local! {
        /// Nodes that look-ups of this thread have come by.
        pub(super) static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    fn route(path: &str, headers: &[(&'static str, &str)]) -> Route {
        let (path, rest) = match path.strip_suffix("/**") {
            Some(path) => (path, Rest::Some),
            None => match path.strip_suffix("/...") {
                Some(path) => (path, Rest::Any),
                None => (path, Rest::Nothing),
            },
        };
        let segments = path
            .split('/')
            .filter(|text| !text.is_empty())
            .map(|text| if text == "*" { Segment::Any } else { Segment::Literal(text.to_owned()) })
            .collect();
        let headers = headers
            .iter()
            .map(|(name, value)| HeaderMatch {
                name: http::HeaderName::from_static(name),
                values: vec![(*value).to_owned()],
            })
            .collect();
        Route {
            id: path.into(),
            pattern: Pattern { segments, rest },
            headers,
            cluster: 0,
            subset: None,
            timeouts: Default::default(),
            on_drain: Default::default(),
            call_policy: None,
        }
    }

    fn find(routes: Vec<Route>, path: &str, metadata: &HeaderMap) -> Option<usize> {
        let router = Router::new(routes.into_iter().enumerate().map(|(at, route)| (route, Rc::new(at))));
        router.find(path, metadata).map(|at| **at)
    }

    #[test]
    fn the_most_specific_wins_whatever_the_order() {
        let table = || {
            vec![
                route("/...", &[]),
                route("/pkg.S/**", &[]),
                route("/pkg.S/*", &[]),
                route("/pkg.S/M", &[]),
                route("/*/M", &[]),
            ]
        };
        let none = HeaderMap::new();
        for (path, expected) in [("/pkg.S/M", 3), ("/pkg.S/N", 2), ("/other/M", 4), ("/other/N", 0), ("/pkg.S/N/x", 1)]
        {
            assert_eq!(find(table(), path, &none), Some(expected), "{path}");
            let mut reversed = table();
            reversed.reverse();
            assert_eq!(find(reversed, path, &none), Some(4 - expected), "{path} reversed");
        }
    }

    #[test]
    fn a_prefix_takes_whole_segments() {
        let none = HeaderMap::new();
        assert_eq!(find(vec![route("/a/...", &[])], "/a", &none), Some(0));
        assert_eq!(find(vec![route("/a/...", &[])], "/a/b", &none), Some(0));
        assert_eq!(find(vec![route("/a/...", &[])], "/ab", &none), None);
        assert_eq!(find(vec![route("/a/**", &[])], "/a", &none), None);
    }

    #[test]
    fn more_conditions_go_first_and_all_must_hold() {
        let table = || {
            vec![
                route("/s/m", &[]),
                route("/s/m", &[("env", "canary"), ("user", "a")]),
                route("/s/m", &[("env", "canary")]),
            ]
        };
        let mut metadata = HeaderMap::new();
        assert_eq!(find(table(), "/s/m", &metadata), Some(0));
        metadata.append("env", http::HeaderValue::from_static("stable"));
        metadata.append("env", http::HeaderValue::from_static("canary"));
        assert_eq!(find(table(), "/s/m", &metadata), Some(2));
        metadata.insert("user", http::HeaderValue::from_static("a"));
        assert_eq!(find(table(), "/s/m", &metadata), Some(1));
    }
    #[test]
    fn ten_thousand_routes_take_no_more_steps_than_ten() {
        let none = HeaderMap::new();
        let steps = |services: usize| {
            let shapes = ["/...", "/*", "/M", "/N/**", "/*/M"];
            let each = |service| shapes.map(|shape| route(&format!("/pkg.S{service}{shape}"), &[]));
            let routes = (0..services).flat_map(each).chain([route("/*/M", &[]), route("/...", &[])]);
            let router = Router::new(routes.map(|route| (route, Rc::new(()))));
            VISITED.set(0);
            for path in ["/pkg.S0/M", "/pkg.S1/Other", "/pkg.S1/N/x/y", "/elsewhere/M", "/elsewhere/N"] {
                assert!(router.find(path, &none).is_some(), "{path}");
            }
            VISITED.get()
        };
        assert_eq!(steps(2_000), steps(2));
    }
}
