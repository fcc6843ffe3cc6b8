//! The report: recording changes nothing, the page is whole, bounded and holds what a reader needs, and no text becomes markup.

use std::path::PathBuf;

use dunlin_sim::cli::{Report, RunOptions, Watch, run, run_reported};
use serde_json::Value;

/// A scenario that cannot keep its promises: the host it kills runs nothing to be missed, and one fault cannot bite.
const BROKEN: &str = r#"
name: "<script>alert('x')</script> & \"co\""
about: "</style><img src=x onerror=alert(1)>"
hosts: 4
services:
  - {name: web, replicas: 1/host, cpu-milli: 200, memory: 64MiB, ready: 100ms}
timeline:
  - {at: 1s, kill-processes: 1}
  - {at: 3s, deploy: }
  - {at: 6s, crash-hosts: 1}
  - {at: 12s, restart: kept-disk}
settle: 5s
end: 20s
"#;

fn options(scenario: &str, seeds: std::ops::RangeInclusive<u64>) -> RunOptions {
    RunOptions { scenario: scenario.to_owned(), nodes: None, seeds, jobs: 2, json: false }
}

fn reported(options: &RunOptions) -> Report {
    run_reported(options, &Watch::default()).expect("it runs").1
}

fn broken_file() -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("broken <i>.yaml");
    std::fs::write(&path, BROKEN).expect("a file");
    path.display().to_string()
}

/// Reads markup strictly: quoted attributes, known entities, and every tag closed in order. Gives the tags' names.
fn tags(page: &str) -> Result<Vec<String>, String> {
    let (mut open, mut seen): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut rest = page.strip_prefix("<!doctype html>").ok_or("no document type")?;
    while let Some(start) = rest.find('<') {
        let (text, from) = rest.split_at(start);
        let in_style = open.last().is_some_and(|tag| tag == "style");
        if !in_style {
            for part in text.split('&').skip(1) {
                let entity = part.split(';').next().unwrap_or_default();
                if !["amp", "lt", "gt", "quot", "#39"].contains(&entity) {
                    return Err(format!("a bare ampersand before {part:.20}"));
                }
            }
        }
        let end = from.find('>').ok_or("a tag without an end")?;
        let (tag, after) = (&from[1..end], &from[end + 1..]);
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop().ok_or_else(|| format!("</{name}> closes nothing"))?;
            if last != name {
                return Err(format!("</{name}> closes <{last}>"));
            }
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default().to_owned();
        if tag.matches('"').count() % 2 != 0 || name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(format!("<{tag}> is no tag"));
        }
        seen.push(name.clone());
        if !tag.ends_with('/') && name != "meta" {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(seen) } else { Err(format!("left open: {open:?}")) }
}

#[test]
fn a_run_takes_the_same_course_whether_or_not_it_is_recorded() -> Result<(), String> {
    for scenario in ["kill-one", "partition-heal", "conflicting-writes"] {
        let options = RunOptions { nodes: Some(5), ..options(scenario, 3..=3) };
        let plain = run(&options)?;
        let (recorded, _) = run_reported(&options, &Watch::default())?;
        assert_eq!(plain[0].trace_hash, recorded[0].trace_hash, "{scenario}");
        assert_eq!(plain[0].events, recorded[0].events, "{scenario}");
    }
    Ok(())
}

#[test]
fn the_page_is_well_formed_and_asks_nobody_for_anything() -> Result<(), String> {
    for seeds in [1..=1, 1..=3] {
        let page = reported(&RunOptions { nodes: Some(6), ..options("kill-one", seeds) }).html;
        let tags = tags(&page)?;
        for tag in ["h1", "svg", "path", "polygon", "table", "details", "style"] {
            assert_eq!(tags.iter().any(|seen| seen == tag), tag != "polygon", "{tag}: no promise was broken");
        }
        assert!(!tags.iter().any(|tag| ["script", "link", "img", "iframe"].contains(&tag.as_str())));
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("url("));
        assert!(page.contains("Every promise was kept") && page.contains("crash-hosts"));
    }
    Ok(())
}

#[test]
fn broken_promises_are_told_with_the_command_that_shows_them_again() -> Result<(), String> {
    let file = broken_file();
    let page = reported(&options(&file, 1..=2)).html;
    let tags = tags(&page)?;
    assert!(!tags.iter().any(|tag| ["script", "img", "i"].contains(&tag.as_str())), "text became markup");
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;co&quot;"));
    assert!(page.contains("2 of 2 seeds broke a promise"));
    assert!(page.contains("`kill-processes` has had no effect"));
    assert!(tags.iter().any(|tag| tag == "polygon"), "the timeline shows when");
    let again = format!("dunlin sim run '{}' --seed 2", file.replace('<', "\u{1}").replace('>', "\u{2}"));
    let again = again.replace('\'', "&#39;").replace('\u{1}', "&lt;").replace('\u{2}', "&gt;");
    assert!(page.contains(&again), "{again}");
    Ok(())
}

/// A flock that has no time to put right what it breaks.
const TOO_SHORT: &str = "name: short\nabout: too little time\nhosts: 5\nstart: running\nservices:\n  - {name: web, replicas: 3/host}\n\
                         timeline:\n  - {at: 3s, crash-hosts: 1}\nsettle: 1s\nend: 4s\n";

#[test]
fn of_a_broken_promise_the_messages_are_drawn_that_led_to_it() -> Result<(), Box<dyn std::error::Error>> {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("short.yaml");
    std::fs::write(&path, TOO_SHORT)?;
    let report = reported(&options(&path.display().to_string(), 1..=1));
    let (tags, document): (_, Value) = (tags(&report.html)?, serde_json::from_str(&report.json)?);
    assert!(report.html.contains("What led to it") && tags.iter().any(|tag| tag == "circle"), "{document}");
    let past = &document["pasts"][0];
    let hosts: Vec<u64> = past["hosts"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let messages = past["messages"].as_array().ok_or("messages")?;
    assert!(!messages.is_empty() && messages.len() <= 40, "{past}");
    for message in messages {
        let ends = [&message["from"], &message["to"]].map(Value::as_u64);
        assert!(ends.iter().all(|end| end.is_some_and(|end| hosts.contains(&end))), "{message}: {hosts:?}");
        assert!(message["sent_s"].as_f64() <= past["at_s"].as_f64(), "{message}");
    }
    Ok(())
}

#[test]
fn a_failover_is_told_step_by_step() -> Result<(), Box<dyn std::error::Error>> {
    let report = reported(&RunOptions { nodes: Some(8), ..options("kill-one", 2..=2) });
    let document: Value = serde_json::from_str(&report.json)?;
    let all = document["failovers"].as_array().ok_or("failovers")?;
    assert!(!all.is_empty(), "kill-one kills a busy host");
    for of in all {
        let keys = ["suspected_s", "known_s", "claimed_s", "started_s", "ready_s", "named_s", "named_by_all_s"];
        let steps: Vec<f64> = keys.iter().filter_map(|key| of[*key].as_f64()).collect();
        assert!(steps.len() == keys.len() && steps.is_sorted(), "{of}");
        assert!(of["from"] != of["to"], "{of}");
    }
    let longest = all.iter().filter_map(|of| of["ready_s"].as_f64()).fold(0.0, f64::max);
    assert_eq!(Some(longest), document["runs"][0]["failover_s"]["max"].as_f64(), "the figure and the steps are one");
    assert!(report.html.contains("Why failovers took as long as they did"));
    let letters = document["states"]["letters"].as_array().ok_or("letters")?;
    let samples = document["series"]["at_s"].as_array().map_or(0, Vec::len);
    assert_eq!(letters.len(), 8);
    assert!(letters.iter().all(|of| of.as_str().map(str::len) == Some(samples)));
    assert!(
        letters.iter().any(|of| of.as_str().is_some_and(|text| text.trim().contains(' '))),
        "one was gone for a while"
    );
    Ok(())
}

#[test]
fn what_is_sent_is_told_by_kind() -> Result<(), Box<dyn std::error::Error>> {
    let document: Value = serde_json::from_str(&reported(&options("conflicting-writes", 1..=1)).json)?;
    let column = |name: &str| -> Vec<u64> {
        document["series"][name].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
    };
    let kinds = ["probe", "control", "push", "sync", "link"].map(|kind| column(&format!("{kind}_bytes_per_s")));
    for (at, all) in column("bytes_per_s").iter().enumerate() {
        let sum: u64 = kinds.iter().filter_map(|kind| kind.get(at)).sum();
        // Each is rounded down to whole bytes a second.
        assert!(*all >= sum && *all <= sum + 5, "{all} and {sum}");
    }
    assert!(kinds.iter().all(|kind| kind.iter().sum::<u64>() > 0), "writes of all kinds travel");
    Ok(())
}

#[test]
fn the_document_holds_the_runs_and_what_was_recorded() -> Result<(), Box<dyn std::error::Error>> {
    let options = RunOptions { nodes: Some(6), ..options("kill-one", 1..=2) };
    let (outcomes, report) = run_reported(&options, &Watch::default())?;
    let document: Value = serde_json::from_str(&report.json)?;
    assert_eq!(document["runs"][1]["trace_hash"], outcomes[1].trace_hash.as_str());
    let actions: Vec<&str> =
        document["timeline"].as_array().into_iter().flatten().filter_map(|m| m["action"].as_str()).collect();
    assert_eq!(actions, ["crash-hosts", "restart"]);
    assert_eq!(document["timeline"][0]["until_s"], document["timeline"][1]["at_s"], "a crash lasts until the restart");

    let series = document["series"].as_object().ok_or("series")?;
    let column =
        |name: &str| -> Vec<u64> { series[name].as_array().into_iter().flatten().filter_map(Value::as_u64).collect() };
    let samples = series["at_s"].as_array().map_or(0, Vec::len);
    assert!((500..=600).contains(&samples), "{samples}");
    for (name, values) in series.iter().filter(|(name, _)| *name != "at_s") {
        assert_eq!(values.as_array().map(Vec::len), Some(samples), "{name}");
    }
    // What the figures say, seen in the series: one host was gone for a while and its replicas were not ready for a while.
    assert_eq!(column("nodes_up").iter().skip(10).min(), Some(&5));
    assert_eq!(column("nodes_up").last(), Some(&6));
    let wanted = column("wanted");
    assert_eq!(wanted.last().copied(), Some(u64::from(outcomes[0].replicas)));
    assert_eq!(column("ready").last(), wanted.last());
    let lacking = column("ready").iter().zip(&wanted).filter(|(ready, wanted)| ready < wanted).count();
    assert!(lacking > 0, "a failover leaves a gap");
    assert_eq!((column("states").last(), column("agree").last()), (Some(&1), Some(&6)));
    assert!(column("stale").iter().any(|stale| *stale > 0), "names of the dead are answered for a moment");
    assert_eq!((column("stale").last(), column("missing").last()), (Some(&0), Some(&0)));

    let placements = document["placements"].as_array().ok_or("placements")?;
    assert_eq!(placements.len() as u64, wanted.last().copied().unwrap_or(0).min(64));
    let moved = placements.iter().filter(|of| of["stays"].as_array().is_some_and(|stays| stays.len() > 1)).count();
    assert!(moved > 0, "some replica came to run elsewhere");
    Ok(())
}
