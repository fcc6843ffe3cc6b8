//! Work that runs to completion: it is done once, whatever dies.

use std::time::Duration;

use dunlin_core::face::{Ack, Exit, ProblemKind, Reply, Request};
use dunlin_core::query::{self, AllocationRow, ServiceRow};
use dunlin_gossip::model::{Job, Mode, RestartCondition, Service, Share, Waves};

use super::flock::{Flock, id, key, service, stack};
use super::{refused, written};

fn job(job: Job) -> Service {
    let mut service = service(1);
    service.mode = Mode::Job(job);
    service.spec.health = None;
    service.spec.restart.condition = RestartCondition::OnFailure;
    service
}

fn row(flock: &Flock, n: usize) -> ServiceRow {
    query::services(flock.hosts[n].node.as_ref().expect("it is up")).remove(0)
}

fn phases(rows: &[AllocationRow]) -> Vec<(&str, &'static str)> {
    rows.iter().map(|row| (row.replica.split_once('.').expect("a slot").1, row.phase)).collect()
}

/// Ends a slot's process, wherever it runs.
fn end(flock: &mut Flock, slot: &str, exit: Exit) -> usize {
    let is_of = |spec: &dunlin_core::face::StartSpec| spec.replica.slot.to_string() == slot;
    let found = flock
        .hosts
        .iter()
        .enumerate()
        .find_map(|(n, host)| host.running.iter().find(|(_, spec)| is_of(spec)).map(|(alloc, _)| (n, *alloc)));
    let (n, alloc) = found.expect("it runs");
    flock.exit(n, alloc, exit);
    n
}

fn slots(flock: &Flock) -> Vec<String> {
    flock.placed("sum").into_iter().map(|(slot, _)| slot).collect()
}

fn starts(flock: &Flock) -> usize {
    flock.hosts.iter().map(|host| host.starts.len()).sum()
}

fn all_say(state: &'static str) -> impl Fn(&Flock) -> bool {
    move |flock| (0..flock.hosts.len()).all(|n| flock.hosts[n].node.is_none() || row(flock, n).state == state)
}

#[test]
fn a_job_is_worked_off_so_many_slots_at_a_time_and_not_again() {
    let mut flock = Flock::new(3);
    let five = job(Job { completions: 5, parallelism: 2, ..Job::default() });
    written(&flock.deploy(0, &[("sum", five.clone())]));
    flock.until("two are under way", 5, |f| slots(f) == ["1", "2"]);
    flock.run(Duration::from_secs(10));
    assert_eq!(slots(&flock), ["1", "2"], "no third");
    assert_eq!((row(&flock, 2).state, row(&flock, 2).kind), ("running", "job"));
    end(&mut flock, "2", Exit::Code(0));
    flock.until("the third follows", 5, |f| slots(f) == ["1", "3"]);
    for slot in ["3", "4", "1", "5"] {
        flock.until("it runs", 5, |f| slots(f).iter().any(|s| s == slot));
        end(&mut flock, slot, Exit::Code(0));
    }
    flock.until("all say so", 5, all_say("complete"));
    let done = row(&flock, 1);
    assert_eq!((done.succeeded, done.failed, done.replicas_wanted, done.running), (5, 0, 5, 0));
    let exited = |row: &AllocationRow| (row.phase, row.exit_code) == ("exited", Some(0));
    flock.until("claims say so as well", 5, |f| f.ps(1).len() == 5 && f.ps(1).iter().all(exited));
    // The same again is nothing to do, and neither is another way of doing it; something else is.
    written(&flock.deploy(2, &[("sum", five.clone())]));
    let faster = Job { completions: 5, parallelism: 3, ..Job::default() };
    written(&flock.deploy(1, &[("sum", job(faster))]));
    flock.run(Duration::from_secs(10));
    assert_eq!(starts(&flock), 5);
    let mut other = five.clone();
    other.spec.environment.insert("VERSION".into(), "2".into());
    written(&flock.deploy(1, &[("sum", other)]));
    flock.until("it begins anew", 5, |f| slots(f) == ["1", "2"]);
    // Back to what was done once: a deploy that changes the revision is one that runs it.
    written(&flock.deploy(2, &[("sum", five)]));
    flock.until("it begins anew", 20, |f| slots(f) == ["1", "2"] && starts(f) == 9);
}

#[test]
fn what_is_done_stays_done_when_its_node_is_gone_for_good() {
    let mut flock = Flock::new(3);
    written(&flock.deploy(0, &[("sum", job(Job { completions: 6, ..Job::default() }))]));
    flock.until("all are under way", 5, |f| slots(f).len() == 6);
    let gone = end(&mut flock, "1", Exit::Code(0));
    for slot in ["2", "3", "4"] {
        end(&mut flock, slot, Exit::Code(0));
    }
    flock.until("it is known", 5, |f| (0..3).all(|n| row(f, n).succeeded == 4));
    let asked = (gone + 1) % 3;
    let rest = flock.placed("sum").iter().filter(|(_, n)| *n == gone).count();
    flock.kill(gone);
    flock.until("what was under way there is done elsewhere", 20, |f| slots(f) == ["5", "6"]);
    let timeout = Duration::from_secs(5);
    let request = flock.request(asked, Request::RemoveNode { node: id(gone), ack: Ack::Default, timeout });
    let _removed = flock.reply(request);
    flock.run(Duration::from_secs(90));
    assert_eq!(starts(&flock), 6 + rest, "what is done is not done again\n{}", flock.describe());
    let rows = flock.ps(asked);
    assert_eq!(phases(&rows)[..4], [("1", "exited"), ("2", "exited"), ("3", "exited"), ("4", "exited")]);
    end(&mut flock, "5", Exit::Code(0));
    end(&mut flock, "6", Exit::Code(0));
    flock.until("it is complete", 5, all_say("complete"));
}

#[test]
fn a_slot_that_fails_is_tried_again_until_its_limit_and_then_the_job_has_failed() {
    let mut flock = Flock::new(2);
    let two = job(Job { completions: 3, parallelism: 1, backoff_limit: 2, ..Job::default() });
    written(&flock.deploy(0, &[("sum", two.clone())]));
    for _ in 0..3 {
        flock.until("it runs", 10, |f| slots(f) == ["1"]);
        end(&mut flock, "1", Exit::Code(3));
        flock.until("that is seen", 5, |f| slots(f).is_empty());
    }
    flock.until("all say so", 5, all_say("failed"));
    flock.run(Duration::from_secs(30));
    assert_eq!(starts(&flock), 3, "neither again nor the next");
    let failed = flock.ps(1).remove(0);
    assert_eq!((failed.phase, failed.exit_code, failed.restarts), ("failed", Some(3), 2));
    // The same deploy tries again what failed.
    written(&flock.deploy(1, &[("sum", two)]));
    flock.until("it is tried again", 5, |f| slots(f) == ["1"]);
    end(&mut flock, "1", Exit::Code(0));
    flock.until("the next follows", 5, |f| slots(f) == ["2"]);
}

#[test]
fn a_slot_that_takes_too_long_has_failed() {
    let mut flock = Flock::new(2);
    let timeout = Some(Duration::from_secs(20));
    written(&flock.deploy(0, &[("sum", job(Job { timeout, ..Job::default() }))]));
    flock.until("it runs", 5, |f| slots(f) == ["1"]);
    flock.run(Duration::from_secs(15));
    end(&mut flock, "1", Exit::Code(1));
    flock.until("it is tried again", 5, |f| slots(f) == ["1"]);
    flock.until("its time is over", 10, all_say("failed"));
    assert!(slots(&flock).is_empty());
    flock.until("the others know why", 5, |f| f.ps(1)[0].detail.starts_with("not done within 20 s"));
}

#[test]
fn an_end_that_no_agent_watched_counts_and_what_was_not_done_is_done_again() {
    let mut flock = Flock::new(2);
    written(&flock.deploy(0, &[("sum", job(Job { completions: 2, ..Job::default() }))]));
    flock.until("both run", 5, |f| slots(f).len() == 2);
    let (_, n) = flock.placed("sum")[0].clone();
    let mine: Vec<_> = flock.hosts[n].running.keys().copied().collect();
    flock.kill_agent(n);
    mine.iter().for_each(|alloc| flock.exit(n, *alloc, Exit::Code(0)));
    flock.boot(n);
    flock.until("it is told", 20, |f| row(f, 1 - n).succeeded >= mine.len());
    flock.run(Duration::from_secs(10));
    assert_eq!(starts(&flock), 2);
}

#[test]
fn a_global_job_is_done_once_on_each_node() {
    let mut flock = Flock::new(3);
    let mut each = job(Job::default());
    each.mode = Mode::GlobalJob(Job::default());
    written(&flock.deploy(0, &[("sum", each)]));
    flock.until("it runs on each", 5, |f| f.placed("sum").len() == 3);
    while let Some((slot, _)) = flock.placed("sum").pop() {
        end(&mut flock, &slot, Exit::Code(0));
    }
    flock.until("all say so", 5, all_say("complete"));
    flock.kill_agent(1);
    flock.boot(1);
    flock.run(Duration::from_secs(15));
    assert_eq!((starts(&flock), row(&flock, 1).kind), (3, "global-job"));
}

#[test]
fn what_cannot_be_a_job_is_refused() {
    let mut flock = Flock::new(2);
    let mut again = job(Job::default());
    again.spec.restart.condition = RestartCondition::Any;
    let (kind, text) = refused(&flock.deploy(0, &[("sum", again)]));
    assert_eq!(kind, ProblemKind::BadRequest);
    assert!(text.contains("shop/sum: a job is not run again once it has finished"), "{text}");
    let services = [(dunlin_gossip::model::ServiceName::new("sum"), job(Job::default()))];
    let services = services.into_iter().filter_map(|(name, s)| Some((name.ok()?, s))).collect();
    let waves = Some(Waves { first: Share::Nodes(1), wait: Duration::from_secs(1) });
    let timeout = Duration::from_secs(5);
    let request =
        Request::Deploy { stack: stack(), services, policies: Default::default(), waves, ack: Ack::Default, timeout };
    let request = flock.request(0, request);
    let (_, text) = refused(&flock.reply(request));
    assert!(text.contains("a job cannot be tried on the nodes of a first wave"), "{text}");
    assert!(matches!(flock.deploy(0, &[("sum", service(1))]), Reply::Written(_)));
    assert_eq!(row(&flock, 0).service, key("sum").to_string());
}
