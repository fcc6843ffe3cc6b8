//! The reference of scenario files, held against the reader: every example is read, and every key and action has one.

use std::collections::BTreeSet;

use dunlin_sim::cli::list;
use dunlin_sim::scenario::{parse, parse_with};

const PAGE: &str = include_str!("../../docs/src/reference/scenario.md");
/// What an example needs besides, by key.
const REST: &[(&str, &str)] = &[
    ("name", "name: example"),
    ("about", "about: an example of the page"),
    ("hosts", "hosts: 20"),
    ("settle", "settle: 1s"),
    ("end", "end: 500s"),
    ("services", "services: [{name: web, replicas: 1}]"),
];

/// The blocks of YAML, each with the line at which it begins.
fn examples() -> Vec<(usize, String)> {
    let (mut blocks, mut open): (Vec<(usize, String)>, bool) = (Vec::new(), false);
    for (line, text) in (1..).zip(PAGE.lines()) {
        match text {
            "```yaml" => {
                blocks.push((line, String::new()));
                open = true;
            }
            "```" => open = false,
            text if open => blocks.last_mut().into_iter().for_each(|(_, block)| block.push_str(&format!("{text}\n"))),
            _ => {}
        }
    }
    blocks
}

/// Whole scenarios of a block: lines of a timeline stand for themselves, keys are put among the others.
fn scenarios(block: &str) -> Vec<String> {
    let with_rest = |text: &str| {
        let has = |key: &str| text.lines().any(|line| line.starts_with(&format!("{key}:")));
        let rest = REST.iter().filter(|(key, _)| !has(key)).map(|(_, line)| format!("{line}\n"));
        rest.chain([text.to_owned()]).collect::<String>()
    };
    if block.starts_with("- ") {
        return block.lines().map(|line| with_rest(&format!("timeline:\n  {line}\n"))).collect();
    }
    vec![with_rest(block)]
}

/// The files that examples name.
fn file(name: &str) -> Result<(String, String), String> {
    let text = match name {
        "planetlab.txt" => "0\t30\n30\t0\n",
        "delays.csv" => "from,oslo,rome,lima\noslo,0.1,31.4,188.2\nrome,31.4,0.1,201.0\nlima,188.2,201.0,0.1\n",
        "compose.yaml" => "services: {api: {image: 'api:${TAG}', healthcheck: {test: [CMD, x]}}}",
        "outages.csv" => "node,down_start_s,down_end_s\n1,0,7200\n",
        _ => return Err("this example names a file that the test does not have".to_owned()),
    };
    Ok((name.to_owned(), text.to_owned()))
}

#[test]
fn every_example_is_read_and_written_so_that_it_reads_the_same() -> Result<(), String> {
    let blocks = examples();
    assert!(blocks.len() > 10, "found only {}", blocks.len());
    for (line, block) in blocks {
        for text in scenarios(&block) {
            let place = format!("scenario.md:{line}");
            let read = parse_with(&place, &text, &file).map_err(|e| format!("{e}\n{text}"))?;
            let written = read.text();
            assert_eq!(parse_with(&place, &written, &file)?, read, "{written}");
        }
    }
    Ok(())
}

/// The words that a refusal lists after these.
fn listed(text: &str, after: &str) -> BTreeSet<String> {
    let refusal = parse("x", text).expect_err("one key of it is unknown");
    let list = refusal.split_once(after).map(|(_, list)| list.to_owned());
    list.unwrap_or_default().split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_and_action_has_an_example() {
    let rest: String = REST.iter().map(|(_, line)| format!("{line}\n")).collect();
    let all: String = examples().into_iter().map(|(_, block)| block).collect();
    let actions = listed(&format!("{rest}timeline: [{{at: 1s, no-such: 1}}]\n"), "what can happen is ");
    let keys = listed(&format!("{rest}no-such: 1\n"), "keys here are ");
    let conditions = listed(&format!("{rest}network: {{no-such: 1}}\n"), "keys here are ");
    let limits = listed(&format!("{rest}limits: {{no-such: 1}}\n"), "keys here are ");
    assert!(actions.len() > 30 && keys.len() > 15 && conditions.len() > 5 && limits.len() > 5);
    for word in actions.iter().chain(&keys).chain(&conditions).chain(&limits) {
        assert!(all.contains(&format!("{word}:")), "`{word}` has no example in docs/src/reference/scenario.md");
    }
}

#[test]
fn every_built_in_scenario_stands_in_the_table() {
    let page = include_str!("../../docs/src/design/simulator.md");
    for (name, _) in list() {
        assert!(page.contains(&format!("`{name}`")), "`{name}` is not in docs/src/design/simulator.md");
    }
}
