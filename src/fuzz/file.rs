//! Any text as a configuration.

use crate::config::load_text;
use crate::registry::Registry;

/// A text is refused with at least one error that has words, or it makes a plan. The plan as a file makes the same plan.
///
/// # Panics
///
/// When that does not hold.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let load = |text: &str| load_text(text, "fuzz.yaml", &Registry::builtin(), &|_| None);
    let plan = match load(text) {
        Ok(plan) => plan,
        Err(errors) => {
            assert!(errors.to_string().contains("error: "), "nothing is said of what is wrong");
            return;
        }
    };
    let yaml = plan.to_yaml().expect("a plan can be written");
    // What is hidden cannot be read back.
    if yaml.contains("<hidden>") {
        return;
    }
    match load(&yaml) {
        Ok(again) => assert_eq!(again.to_yaml().expect("a plan can be written"), yaml),
        Err(errors) => panic!("what was written is refused: {errors}\n{yaml}"),
    }
}
