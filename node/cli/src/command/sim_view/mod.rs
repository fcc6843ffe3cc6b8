//! `dunlin sim view`: a report for a terminal, in eighty columns. What it shows comes from the document alone, so that a report of
//! another day, of another machine or of a run that is made now looks the same.

mod parts;

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use dunlin_sim::cli::RunOptions;
use serde_json::{Value, json};

use super::{Done, sim};
use crate::failure::Failure;
use crate::render;

/// Columns of a terminal that everybody has.
const WIDTH: usize = 80;
/// Columns that are drawings, behind a name.
const PLOT: usize = 56;

/// A page that is being written, with or without colours.
struct Page {
    text: String,
    has_colour: bool,
}

/// Colours mean the same everywhere: what is bad, what is good, what stands back.
#[derive(Clone, Copy)]
enum Ink {
    Red,
    Green,
    Faint,
    Bold,
}

impl Page {
    fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Red => 31,
            Ink::Green => 32,
            Ink::Faint => 2,
            Ink::Bold => 1,
        };
        if self.has_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn head(&mut self, title: &str, about: &str) {
        let line = format!("\n{}{}", self.ink(Ink::Bold, title), self.ink(Ink::Faint, &format!("  {about}")));
        self.line(&line);
    }
}

pub(super) fn run(what: &str, nodes: Option<u32>, seed: Option<u64>, json: bool) -> Done {
    let document = document(what, nodes, seed)?;
    if json {
        render::json(&document)?;
    } else {
        render::print_line(view(&document, std::io::stdout().is_terminal()).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The report that is meant: a document that is there, or that of a run that is made now.
fn document(what: &str, nodes: Option<u32>, seed: Option<u64>) -> Result<Value, Failure> {
    if let Some(document) = stored(what)? {
        if nodes.is_some() || seed.is_some() {
            let remedy = "give a scenario to have one run with other nodes or another seed";
            return Err(Failure::usage(format!("{what} is the document of a run that is over"), remedy));
        }
        return Ok(document);
    }
    let recorded = dunlin_sim::cli::load(what).ok().and_then(|scenario| scenario.recorded);
    let seed = seed.or_else(|| recorded.map(|recorded| recorded.seed)).unwrap_or(1);
    let options = RunOptions { scenario: what.to_owned(), nodes, seeds: seed..=seed, jobs: 1, json: false };
    let (_, report) = sim::watched(&options, |watch| dunlin_sim::cli::run_reported(&options, watch))?;
    serde_json::from_str(&report.json).map_err(|e| Failure::failed(format!("the report cannot be read: {e}")))
}

/// The document in a file, or in the folder of a report; none if it is something else. What `sim run --json` prints becomes a
/// report without anything that happened over time.
pub(super) fn stored(what: &str) -> Result<Option<Value>, Failure> {
    let path = Path::new(what);
    let folder = path.is_dir();
    let path = if folder { path.join("report.json") } else { path.to_path_buf() };
    if !path.is_file() && !folder {
        return Ok(None);
    }
    let bad = |e: &dyn std::fmt::Display| {
        let remedy = "give the folder of a report, a report.json, or what `dunlin sim run --json` printed";
        Failure::usage(format!("{}: {e}", path.display()), remedy)
    };
    let text = std::fs::read_to_string(&path).map_err(|e| bad(&e))?;
    let is_json = text.trim_start().starts_with(['{', '[']);
    if !is_json {
        return Ok(None);
    }
    let document: Value = serde_json::from_str(&text).map_err(|e| bad(&e))?;
    let runs = match &document {
        Value::Array(runs) => runs.clone(),
        Value::Object(fields) if fields.contains_key("runs") => return Ok(Some(document)),
        one => vec![one.clone()],
    };
    if runs.is_empty() || runs.iter().any(|run| run.get("trace_hash").is_none()) {
        return Err(bad(&"this is no document of a run"));
    }
    let seed = runs.first().and_then(|run| run.get("seed")).cloned();
    Ok(Some(json!({"runs": runs, "shown_seed": seed})))
}

/// The whole page.
fn view(document: &Value, has_colour: bool) -> String {
    let mut page = Page { text: String::new(), has_colour };
    parts::summary(&mut page, document);
    parts::timeline(&mut page, document);
    parts::convergence(&mut page, document);
    parts::failovers(&mut page, document);
    parts::traffic(&mut page, document);
    parts::placements(&mut page, document);
    page.text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(what: &str, nodes: u32) -> Value {
        document(what, Some(nodes), Some(1)).expect("it runs")
    }

    #[test]
    fn a_view_fits_a_terminal_and_has_colours_only_there() {
        let document = of("kill-one", 9);
        let plain = view(&document, false);
        for part in
            ["every promise was kept", "Timeline", "crash-hosts", "Convergence", "Failover", "Traffic", "Placements"]
        {
            assert!(plain.contains(part), "no {part}:\n{plain}");
        }
        assert!(!plain.contains('\x1b'), "{plain}");
        let wide = plain.lines().find(|line| line.chars().count() > WIDTH);
        assert_eq!(wide, None, "{plain}");
        assert!(view(&document, true).contains("\x1b[32m"), "good is green");
    }

    #[test]
    fn documents_of_runs_are_shown_without_what_they_do_not_have() {
        let document = of("kill-one", 5);
        let file = std::env::temp_dir().join(format!("dunlin-view-{}.json", std::process::id()));
        let name = file.display().to_string();
        std::fs::write(&file, document["runs"].to_string()).expect("a file");
        let runs = stored(&name).expect("it can be read").expect("a document");
        let text = view(&runs, false);
        assert!(text.contains("failover") && !text.contains("Placements"), "{text}");
        std::fs::write(&file, "{\"nodes\": 3}").expect("a file");
        let other = stored(&name).expect_err("no run");
        std::fs::remove_file(&file).expect("it was made");
        assert!(format!("{other:?}").contains("no document of a run"), "{other:?}");
        assert_eq!(stored("kill-one").expect("no file"), None);
    }

    #[test]
    fn what_a_document_lacks_or_has_wrong_is_left_out() {
        for odd in [
            json!({"runs": [{"trace_hash": "x", "violations": [{}, 3]}], "timeline": 7, "series": {"at_s": [], "agree": [1]}}),
            json!({"runs": [{"trace_hash": "x"}], "timeline": [{"at_s": 1e300}], "placements": [{"replica": "a", "stays": [{"host": -1}]}]}),
            json!({"runs": [], "failovers": [{"ready_s": 1e12}], "series": {"at_s": [1], "nodes_up": [0], "agree": [5]}}),
        ] {
            let text = view(&odd, false);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
    }
}
