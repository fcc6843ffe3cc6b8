//! Runs a scenario and prints its report as JSON: `run SCENARIO [NODES [FIRST_SEED [LAST_SEED [JOBS]]]]`. In a build with
//! planted bugs, `DUNLIN_CANARY=NAME` plants one.

use dunlin_sim::cli::{RunOptions, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "canary")]
    if let Ok(name) = std::env::var("DUNLIN_CANARY") {
        use dunlin_gossip::canary::{Bug, plant};
        plant(Some(Bug::named(&name).ok_or("DUNLIN_CANARY: no such bug")?));
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).map(|word| word.parse::<u64>()).transpose();
    let first = number(2)?.unwrap_or(1);
    let options = RunOptions {
        scenario: words.first().cloned().ok_or("which scenario? one of cold-start, steady, kill-one, ...")?,
        nodes: number(1)?.map(u32::try_from).transpose()?,
        seeds: first..=number(3)?.unwrap_or(first),
        jobs: usize::try_from(number(4)?.unwrap_or(1))?,
        json: true,
    };
    for outcome in run(&options)? {
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}
