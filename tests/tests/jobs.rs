//! Work that runs to completion, on real agents: jobs of a Compose file, one program ad hoc, and a run by the calendar.

use std::time::Duration;

use dunlin_tests::cluster::{Cluster, PATIENCE, text};
use dunlin_tests::wait::until;
use serde_json::Value;

const JOBS: &str = "
services:
  sum:
    command: [sh, -c, 'echo slot $$DUNLIN_REPLICA']
    deploy: {mode: replicated-job, replicas: 3}
    x-dunlin: {job: {parallelism: 1}}
  each:
    command: [sh, -c, 'echo on $$DUNLIN_NODE']
    deploy: {mode: global-job}
";

const FAILING: &str = "
services:
  sum:
    command: [sh, -c, 'exit 3']
    deploy: {mode: replicated-job, restart_policy: {condition: none}}
";

const MINUTELY: &str = "
services:
  tidy:
    command: [sh, -c, 'echo due $$DUNLIN_REPLICA']
    x-dunlin: {schedule: {cron: '* * * * *', timezone: Asia/Kolkata, overlap: forbid, history: 2}}
";

fn row(cluster: &Cluster, n: usize, service: &str) -> Result<Value, String> {
    let rows = cluster.nodes[n].json(&["services"])?;
    let found = rows.as_array().and_then(|rows| rows.iter().find(|row| row["service"] == service).cloned());
    found.ok_or_else(|| rows.to_string())
}

fn deploy(cluster: &Cluster, name: &str, file: &str) -> std::process::Output {
    let path = cluster.nodes[0].dir.join(name);
    std::fs::write(&path, file).expect("a file");
    let path = path.display().to_string();
    cluster.nodes[0].run(&["deploy", "-f", &path, "--stack", "shop", "--wait"])
}

#[test]
fn jobs_of_a_file_are_worked_off_and_waited_for() {
    let cluster = Cluster::start(2);
    let done = deploy(&cluster, "jobs.yaml", JOBS);
    assert!(done.status.success(), "{}", text(&done.stderr));
    for (service, kind, slots) in [("shop/sum", "job", 3), ("shop/each", "global-job", 2)] {
        until("both nodes to know", PATIENCE, || {
            let found = row(&cluster, 1, service)?;
            let is_done = found["kind"] == kind && found["state"] == "complete" && found["succeeded"] == slots;
            if is_done { Ok(()) } else { Err(found.to_string()) }
        });
    }
    let logs = text(&cluster.nodes[1].run(&["logs", "shop/sum"]).stdout);
    for slot in 1..=3 {
        assert!(logs.contains(&format!("slot {slot}")), "{logs}");
    }
    let rows = cluster.nodes[0].json(&["ps", "shop/sum"]).expect("a listing");
    let codes: Vec<&Value> = rows.as_array().expect("rows").iter().map(|row| &row["exit_code"]).collect();
    assert_eq!(codes, [0, 0, 0]);
    let failed = deploy(&cluster, "failing.yaml", FAILING);
    let said = text(&failed.stderr);
    assert!(failed.status.code() == Some(1) && said.contains("shop/sum has failed"), "{said}");
}

#[test]
fn one_program_is_run_somewhere_with_its_output_and_its_code() {
    let cluster = Cluster::start(2);
    let (here, there) = (&cluster.nodes[0], &cluster.nodes[1]);
    let both = here.run(&["run", "--", "sh", "-c", "echo to out; echo to err >&2; exit 7"]);
    assert_eq!(both.status.code(), Some(7), "{}", text(&both.stderr));
    let said = text(&both.stdout);
    assert!(said.contains("to out\n") && said.contains("to err\n"), "{said}");
    // From another node, nothing is left of it.
    let args = ["run", "--rm", "--name", "far", "--node", &there.name, "-e", "WORD=$HOME", "--"];
    let far = here.run(&[&args[..], &["sh", "-c", "echo $DUNLIN_NODE $WORD"]].concat());
    assert!(far.status.success(), "{}", text(&far.stderr));
    assert_eq!(text(&far.stdout), format!("{} $HOME\n", there.name));
    until("it to be forgotten", PATIENCE, || match row(&cluster, 1, "default/far") {
        Err(_) => Ok(()),
        Ok(found) => Err(found.to_string()),
    });
    // Much output is neither cut nor doubled.
    let much = here.run(&["run", "--rm", "--", "seq", "1", "20000"]);
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).collect();
    assert!(much.status.success() && text(&much.stdout) == expected, "{} bytes", much.stdout.len());
    let killed = here.run(&["run", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137), "{}", text(&killed.stderr));
    let later = here.run(&["run", "-d", "--name", "later", "--", "true"]);
    assert_eq!((later.status.code(), text(&later.stdout).trim()), (Some(0), "default/later"));
    until("it to be complete", PATIENCE, || {
        let found = row(&cluster, 1, "default/later")?;
        if found["state"] == "complete" { Ok(()) } else { Err(found.to_string()) }
    });
    let again = there.run(&["run", "-d", "--name", "later", "--", "true"]);
    let said = text(&again.stderr);
    assert!(again.status.code() == Some(2) && said.contains("there is a service default/later already"), "{said}");
    let refused = here.run(&["run", "-it", "--", "sh"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let removed = here.run(&["rm", "default/later"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert_eq!(here.run(&["rm", "default/nothing"]).status.code(), Some(2));
}

#[test]
fn a_run_comes_by_the_calendar() {
    let cluster = Cluster::start(2);
    let done = deploy(&cluster, "cron.yaml", MINUTELY);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let known = row(&cluster, 0, "shop/tidy").expect("it is known at once");
    assert_eq!((known["kind"].as_str(), known["schedule"].as_str()), (Some("cron"), Some("* * * * * Asia/Kolkata")));
    let due = known["next_run_ms"].as_u64().expect("a time");
    assert_eq!(due % 60_000, 0);
    // Up to a minute until it is due.
    until("the run to be done", PATIENCE + Duration::from_secs(60), || {
        let found = row(&cluster, 1, "shop/tidy")?;
        let is_done = found["runs"].as_array().is_some_and(|runs| runs.iter().any(|run| run["state"] == "succeeded"));
        if is_done { Ok(()) } else { Err(found.to_string()) }
    });
    let logs = text(&cluster.nodes[1].run(&["logs", "shop/tidy"]).stdout);
    assert!(logs.contains(&format!("due {}-1", due / 1_000)), "{logs}");
    let table = text(&cluster.nodes[0].run(&["services"]).stdout);
    assert!(table.contains("cron, ") && table.contains("next 20"), "{table}");
    let bad = MINUTELY.replace("* * * * *", "0 0 31 2 *");
    let refused = deploy(&cluster, "bad.yaml", &bad);
    let said = text(&refused.stderr);
    let place = "bad.yaml:5:33: services.tidy.x-dunlin.schedule.cron: ";
    assert!(refused.status.code() == Some(2) && said.contains(place) && said.contains("never comes due"), "{said}");
}
