//! Files that nobody would write: whatever stands in one, reading it ends with a plan or with errors, never in a panic.

use std::fs;
use std::path::Path;

use super::load;

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // xorshift64
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

const ODDITIES: [&str; 32] = [
    "",
    " ",
    "\t",
    "-",
    ":",
    "? ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "!x ",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "#",
    "---\n",
    "...\n",
    "null",
    "~",
    "0",
    "-1",
    "99999999999999999999",
    "1e400",
    "${X",
    "${X:-1}",
    "\u{0}",
    "\u{1f600}é",
];

fn mutate(lines: &mut Vec<String>, random: &mut Random) {
    let at = random.below(lines.len());
    match random.below(7) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[random.below(lines.len())].clone()),
        2 => {
            let other = random.below(lines.len());
            lines.swap(at, other);
        }
        3 => lines[at].insert_str(0, "  "),
        4 => lines[at] = lines[at].trim_start().to_owned(),
        5 => {
            let value = ODDITIES[random.below(ODDITIES.len())];
            let key = lines[at].split_once(':').map_or("key", |(key, _)| key).to_owned();
            lines[at] = format!("{key}: {value}");
        }
        _ => {
            let boundaries: Vec<usize> = lines[at].char_indices().map(|(index, _)| index).collect();
            let index = boundaries.get(random.below(boundaries.len())).copied().unwrap_or(0);
            lines[at].insert_str(index, ODDITIES[random.below(ODDITIES.len())]);
        }
    }
}

#[test]
fn no_mutation_of_a_configuration_makes_reading_it_panic() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let originals: Vec<String> = ["full.yaml", "pixiu.yaml", "balance.yaml"]
        .iter()
        .map(|name| fs::read_to_string(conf.join(name)).unwrap())
        .collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut refused = 0;
    for round in 0..1500 {
        let mut lines: Vec<String> = originals[round % originals.len()].lines().map(str::to_owned).collect();
        for _ in 0..=random.below(4) {
            if !lines.is_empty() {
                mutate(&mut lines, &mut random);
            }
        }
        // The message is rendered too: a place beyond the end of a line must not matter.
        match load(&lines.join("\n"), "f.yaml") {
            Ok(plan) => drop(plan.to_yaml().unwrap()),
            Err(errors) => {
                refused += 1;
                assert!(!errors.list().is_empty() && !errors.to_string().is_empty());
            }
        }
    }
    assert!(refused > 500, "only {refused} were refused: the mutations have become too tame");
}

/// Aliases of aliases: a few lines that stand for a billion values.
#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let errors = load(&text, "f.yaml").unwrap_err();
    assert!(errors.to_string().contains("aliases that add up to more than"), "{errors}");
}
