//! Samples beside their goals: a Markdown table for people and the documentation, JSON for programs.

use serde_json::{Value, json};

/// One measured thing.
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// The goals of the median and of the worst sample, where there are any.
    pub(crate) goal_p50: Option<f64>,
    pub(crate) goal_worst: Option<f64>,
    pub(crate) samples: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(what: &str, unit: &'static str, goals: [Option<f64>; 2], samples: Vec<f64>) -> Self {
        let mut samples = samples;
        samples.sort_by(f64::total_cmp);
        let [goal_p50, goal_worst] = goals;
        Self { what: what.to_owned(), unit, goal_p50, goal_worst, samples }
    }

    fn p50(&self) -> Option<f64> {
        self.samples.get(self.samples.len() / 2).copied()
    }

    fn worst(&self) -> Option<f64> {
        self.samples.last().copied()
    }

    fn is_met(&self) -> bool {
        let within = |found: Option<f64>, goal: Option<f64>| goal.is_none_or(|goal| found.is_some_and(|f| f <= goal));
        within(self.p50(), self.goal_p50) && within(self.worst(), self.goal_worst)
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(v) if v.is_infinite() => "never".to_owned(),
        Some(v) if v >= 100.0 || v.fract() == 0.0 => format!("{v:.0}"),
        Some(v) if v >= 10.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.2}"),
    }
}

/// The table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut out =
        String::from("| what | unit | median | goal | worst | goal | samples | |\n|---|---|---|---|---|---|---|---|");
    for figure in figures {
        let cells = [
            figure.what.clone(),
            figure.unit.to_owned(),
            number(figure.p50()),
            number(figure.goal_p50),
            number(figure.worst()),
            number(figure.goal_worst),
            figure.samples.len().to_string(),
            if figure.is_met() { String::new() } else { "missed".to_owned() },
        ];
        out.push_str(&format!("\n| {} |", cells.join(" | ")));
    }
    out
}

/// The document.
pub(crate) fn json(figures: &[Figure]) -> Value {
    let row = |figure: &Figure| {
        json!({
            "what": figure.what,
            "unit": figure.unit,
            "p50": figure.p50(),
            "worst": figure.worst(),
            "goal_p50": figure.goal_p50,
            "goal_worst": figure.goal_worst,
            "met": figure.is_met(),
            "samples": figure.samples,
        })
    };
    figures.iter().map(row).collect()
}
