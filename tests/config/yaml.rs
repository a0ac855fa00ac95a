//! What of YAML works, seen in the plan that comes of it.

use std::time::Duration;

use weir::config::Plan;
use weir::config::plan::Balance;

use super::{load, with};

fn plan(text: &str) -> Plan {
    load(text, "f.yaml").unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

#[test]
fn merge_keys_give_what_the_mapping_does_not_say_itself() {
    let text = with("", "lb_policy: Rand\nconnect_timeout: 7s\nidle_timeout: 1m")
        .replace("- name: orders\n", "- &base\n      name: orders\n")
        + "    - <<: *base
      name: second
      connect_timeout: 8s
    - <<: [{connect_timeout: 9s}, *base]
      name: third
";
    let plan = plan(&text);
    let timeouts: Vec<_> = plan.clusters.iter().map(|cluster| cluster.connect_timeout.as_secs()).collect();
    assert_eq!(timeouts, [7, 8, 9], "a mapping's own key wins, then the first of those merged");
    assert!(plan.clusters.iter().all(|cluster| cluster.idle_timeout == Some(Duration::from_secs(60))));
    assert!(plan.clusters.iter().all(|cluster| cluster.endpoints[0].location.to_string().ends_with(":50051")));
}

#[test]
fn an_error_in_an_anchored_value_is_told_once_where_it_stands() {
    let text = with("", "lb_policy: Rand\nhttp2: &h {stream_window: 1}")
        + "    - {name: second, lb_policy: Rand, http2: *h, endpoints: []}
";
    let errors = load(&text, "f.yaml").unwrap_err();
    assert_eq!(errors.list().len(), 1, "{errors}");
    assert!(text.lines().nth(errors.list()[0].place.line as usize - 1).unwrap().contains("&h"), "{errors}");
}

#[test]
fn the_same_file_in_other_clothes() {
    let plain = with("", "lb_policy: Rand\nconnect_timeout: 7s");
    let expected = plan(&plain).to_yaml().unwrap();
    let json: serde_json::Value = serde_yaml::from_str(&plain).unwrap();
    for (clothes, text) in [
        ("a byte order mark", format!("\u{feff}{plain}")),
        ("line ends of Windows", plain.replace('\n', "\r\n")),
        ("a document start and end", format!("---\n{plain}...\n")),
        ("comments", plain.replace("lb_policy: Rand", "lb_policy: Rand # by chance\n\n      # 7 s\n")),
        ("JSON in one line", json.to_string()),
        ("JSON in many lines", format!("{json:#}")),
        ("quotes", plain.replace("Rand", "\"R\\x61nd\"").replace("7s", "'7s'")),
        ("a block scalar", plain.replace("7s", ">-\n        7s\n")),
    ] {
        assert_eq!(plan(&text).to_yaml().unwrap(), expected, "{clothes}");
    }
}

#[test]
fn a_number_where_text_is_meant_is_its_text() {
    let text =
        with("", "lb_policy: Rand").replace("name: orders", "name: 1.10").replace("cluster: orders", "cluster: 1.10");
    assert_eq!(&*plan(&text).clusters[0].name, "1.10");
}

#[test]
fn the_environment_gives_text_and_numbers() {
    let endpoint = r#"address: "${WEIR_TEST_TEXT}.internal", port: "${WEIR_TEST_EMPTY:-50052}""#;
    let text = with("", "lb_policy: ${WEIR_TEST_UNSET:-LeastRequest}");
    let plan = plan(&text.replace("address: 127.0.0.1, port: 50051", endpoint));
    let cluster = &plan.clusters[0];
    assert_eq!(cluster.balance, Balance::LeastRequest);
    assert_eq!(cluster.endpoints[0].location.to_string(), "abc.internal:50052");
}

#[test]
fn a_key_with_nothing_behind_it_is_no_key() {
    let plain = plan(&with("", "lb_policy: Rand")).to_yaml().unwrap();
    let empty = with("config:", "lb_policy: Rand\nhttp2:\nhealth_checks: ~\nconnect_timeout: null");
    assert_eq!(plan(&empty).to_yaml().unwrap(), plain);
}

#[test]
fn a_prefix_of_characters_is_pointed_out() {
    let notices = |prefix: &str| plan(&with("", "lb_policy: Rand").replace("prefix: /", prefix)).notices;
    let notices_of_a_package = notices("prefix: /shop.");
    assert_eq!(notices_of_a_package.len(), 1);
    assert!(notices_of_a_package[0].text.contains("whole segments"), "{}", notices_of_a_package[0].text);
    assert!(notices("prefix: /shop.Orders").is_empty());
}
