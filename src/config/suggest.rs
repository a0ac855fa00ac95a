//! "Did you mean".

/// The candidate that `wrong` is most likely a misspelling of, if any is near enough.
pub(crate) fn closest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = folded(wrong);
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&wrong, &folded(candidate)), candidate))
        .filter(|(likeness, candidate)| *likeness > 0.84 || is_one_typo(&wrong, candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `closest` as the words behind a caret.
pub(crate) fn did_you_mean<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(wrong, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// Case and separators are what people vary most.
fn folded(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

fn is_one_typo(folded_wrong: &str, candidate: &str) -> bool {
    candidate.len() > 2 && strsim::osa_distance(folded_wrong, &folded(candidate)) == 1
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_misspelling_finds_its_word_and_a_stranger_finds_none() {
        let keys = ["lb_policy", "name", "endpoints", "type", "health_checks", "connect_timeout"];
        for (wrong, right) in [
            ("lb_polcy", Some("lb_policy")),
            ("lbPolicy", Some("lb_policy")),
            ("endpoint", Some("endpoints")),
            ("health-check", Some("health_checks")),
            ("nmae", Some("name")),
            ("tyep", Some("type")),
            ("circuit_breakers", None),
            ("x", None),
        ] {
            assert_eq!(closest(wrong, keys), right, "{wrong}");
        }
    }
}
