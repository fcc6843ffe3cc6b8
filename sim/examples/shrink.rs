//! Makes a failing seed small and tells it: `shrink SCENARIO NODES SEED [BUDGET]`. In a build with planted bugs,
//! `DUNLIN_CANARY=NAME` plants one, and SEED is the first of as many seeds as it takes to find it.

use dunlin_sim::cli::{RunOptions, run, shrink, tell, trace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [scenario, nodes, seed, rest @ ..] = words.as_slice() else { return Err("shrink SCENARIO NODES SEED".into()) };
    #[cfg(feature = "canary")]
    if let Ok(name) = std::env::var("DUNLIN_CANARY") {
        use dunlin_gossip::canary::{Bug, plant};
        let bug = Bug::ALL.iter().find(|bug| bug.name() == name).ok_or("no such bug")?;
        plant(Some(*bug));
    }
    let mut seed: u64 = seed.parse()?;
    let mut options = RunOptions {
        scenario: scenario.clone(),
        nodes: Some(nodes.parse()?),
        seeds: seed..=seed,
        jobs: 1,
        json: false,
    };
    let mut outcomes = run(&options)?;
    while cfg!(feature = "canary") && outcomes[0].violations.is_empty() && seed < 5_000 {
        seed += 1;
        options.seeds = seed..=seed;
        outcomes = run(&options)?;
    }
    let file = std::env::temp_dir().join(format!("shrink-{}-{seed}.yaml", std::process::id()));
    std::fs::write(&file, trace(&options, &outcomes[0])?)?;
    let budget = rest.first().map_or(Ok(2_000), |word| word.parse())?;
    let shrunk = shrink(&file.display().to_string(), budget, &mut |_| {})?;
    println!(
        "{} runs\n{}\n{}\n{}",
        shrunk.runs,
        shrunk.violation.detail,
        shrunk.scenario.text(),
        tell(&shrunk.scenario)
    );
    Ok(())
}
