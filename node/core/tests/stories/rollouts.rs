//! From one revision to the next, step by step.

use std::time::Duration;

use dunlin_core::face::{Ack, Exit, ProblemKind, Reply, Request, RolloutOrder};
use dunlin_core::query::{self, RolloutRow};
use dunlin_gossip::model::{
    Canary, FailureAction, Promotion, RestartCondition, RolloutPolicy, Service, UpdateOrder, UpdatePolicy,
};

use super::flock::{Flock, key, service};
use super::{refused, written};

fn version(replicas: u32, version: &str) -> Service {
    let mut service = service(replicas);
    service.spec.environment.insert("VERSION".into(), version.into());
    service
}

fn say(flock: &mut Flock, n: usize, order: RolloutOrder) -> Reply {
    let timeout = Duration::from_secs(5);
    let id = flock.request(n, Request::Rollout { service: key("web"), order, ack: Ack::Default, timeout });
    flock.reply(id)
}

fn row(flock: &Flock, n: usize) -> RolloutRow {
    query::rollouts(flock.hosts[n].node.as_ref().expect("it is up")).remove(0)
}

/// How many replicas run this version.
fn at(flock: &Flock, version: &str) -> usize {
    let all = flock.hosts.iter().flat_map(|host| host.running.values());
    all.filter(|spec| spec.environment.get("VERSION").is_some_and(|v| v == version)).count()
}

/// How many run on only for those who still have their addresses.
fn going(flock: &Flock) -> usize {
    let own = |n: usize| flock.ps(n).into_iter().filter(move |row| row.node == format!("n{n}"));
    (0..flock.hosts.len()).flat_map(own).filter(|row| row.phase == "stopping").count()
}

fn update(update: UpdatePolicy) -> RolloutPolicy {
    RolloutPolicy { update, ..RolloutPolicy::default() }
}

#[test]
fn a_new_version_that_starts_first_is_there_before_the_old_one_goes() {
    let mut flock = Flock::new(3);
    let policy = update(UpdatePolicy { order: UpdateOrder::StartFirst, parallelism: 2, ..UpdatePolicy::default() });
    flock.deploy_so(0, &[("web", version(4, "1"))], policy);
    flock.until("four are up", 5, |f| at(f, "1") == 4 && f.is_up("web", 4));
    flock.deploy_so(1, &[("web", version(4, "2"))], policy);
    let mut least = usize::MAX;
    let mut most = 0;
    for _ in 0..2_000 {
        flock.run(Duration::from_millis(5));
        least = least.min(at(&flock, "1") + at(&flock, "2"));
        most = most.max(at(&flock, "1") + at(&flock, "2") - going(&flock));
    }
    assert_eq!((least, at(&flock, "1"), at(&flock, "2")), (4, 0, 4), "{}", flock.describe());
    assert!((5..=6).contains(&most), "two at a time, not {most}");
    assert_eq!(row(&flock, 2).state, "done");
}

#[test]
fn canaries_wait_for_a_word_and_those_who_lose_their_node_stay_what_they_were() {
    let mut flock = Flock::new(4);
    let canary = Some(Canary { count: 1, promotion: Promotion::ByHand });
    let policy = RolloutPolicy { canary, ..RolloutPolicy::default() };
    flock.deploy_so(0, &[("web", version(6, "1"))], policy);
    flock.until("six are up", 5, |f| f.is_up("web", 6));
    flock.deploy_so(1, &[("web", version(6, "2"))], policy);
    flock.until("the canary is up", 10, |f| at(f, "2") == 1 && f.is_up("web", 6));
    let lost = (0..4).find(|n| flock.hosts[*n].running.values().all(|s| s.environment["VERSION"] == "1"));
    let lost = lost.filter(|n| *n != 1).unwrap_or(3);
    flock.kill(lost);
    flock.until("what was lost is up again", 15, |f| f.is_up("web", 6));
    flock.run(Duration::from_secs(20));
    assert_eq!((at(&flock, "1"), at(&flock, "2")), (5, 1), "{}", flock.describe());
    let asked = (0..4).find(|n| *n != lost && *n != 1).expect("another");
    assert_eq!(row(&flock, asked).state, "canary");
    written(&say(&mut flock, asked, RolloutOrder::Promote));
    flock.until("all follow", 20, |f| at(f, "2") == 6 && row(f, asked).state == "done");
    let (kind, text) = refused(&say(&mut flock, asked, RolloutOrder::Promote));
    assert_eq!((kind, text.contains("no canaries wait")), (ProblemKind::BadRequest, true), "{text}");
}

#[test]
fn a_pause_holds_until_somebody_resumes() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", version(3, "1"))]);
    flock.until("three are up", 5, |f| f.is_up("web", 3));
    written(&say(&mut flock, 1, RolloutOrder::Pause));
    let reply = flock.deploy(2, &[("web", version(3, "2"))]);
    assert!(written(&reply).warnings[0].contains("rollout resume"), "{reply:?}");
    flock.run(Duration::from_secs(20));
    assert_eq!((at(&flock, "1"), at(&flock, "2"), row(&flock, 0).state), (3, 0, "paused"));
    written(&say(&mut flock, 0, RolloutOrder::Resume));
    flock.until("all are new", 20, |f| at(f, "2") == 3 && f.is_up("web", 3));
    assert!(refused(&say(&mut flock, 0, RolloutOrder::Resume)).1.contains("neither paused nor failed"));
}

#[test]
fn the_way_back_leads_to_any_kept_revision() {
    let mut flock = Flock::new(3);
    for number in ["1", "2", "3"] {
        flock.deploy(0, &[("web", version(2, number))]);
        flock.until("it is there", 20, |f| at(f, number) == 2 && f.is_up("web", 2));
    }
    let revisions = row(&flock, 2).revisions;
    assert_eq!(revisions.iter().map(|r| r.state).collect::<Vec<_>>(), ["in-force", "kept", "kept"]);
    let first = dunlin_gossip::model::RevisionId::parse(&revisions[2].revision);
    written(&say(&mut flock, 1, RolloutOrder::Undo { to: first }));
    flock.until("the first is back", 20, |f| at(f, "1") == 2 && f.is_up("web", 2));
    assert_eq!(row(&flock, 0).revision, revisions[2].revision, "it is the same revision again");
    written(&say(&mut flock, 2, RolloutOrder::Undo { to: None }));
    flock.until("the third is back", 20, |f| at(f, "3") == 2 && f.is_up("web", 2));
    let unknown = dunlin_gossip::model::RevisionId(5);
    assert!(refused(&say(&mut flock, 2, RolloutOrder::Undo { to: Some(unknown) })).1.contains("is not kept"));
}

#[test]
fn a_failure_pauses_and_a_new_attempt_may_succeed() {
    let mut flock = Flock::new(3);
    let policy = update(UpdatePolicy { on_failure: FailureAction::Pause, ..UpdatePolicy::default() });
    flock.deploy_so(0, &[("web", version(3, "1"))], policy);
    flock.until("three are up", 5, |f| f.is_up("web", 3));
    let mut next = version(3, "2");
    next.spec.restart.condition = RestartCondition::Any;
    flock.deploy_so(0, &[("web", next)], policy);
    flock.until("the first is new", 10, |f| at(f, "2") == 1);
    let (n, alloc) = (0..3)
        .find_map(|n| {
            let running = &flock.hosts[n].running;
            running.iter().find(|(_, s)| s.environment["VERSION"] == "2").map(|(id, _)| (n, *id))
        })
        .expect("it runs");
    flock.exit(n, alloc, Exit::Code(3));
    flock.run(Duration::from_secs(20));
    let failed = row(&flock, 2);
    assert_eq!((failed.state, failed.failures.len()), ("failed", 1), "{failed:?}");
    assert!(failed.detail.contains("exited with code 3"), "{}", failed.detail);
    assert!(at(&flock, "1") >= 1, "those whose turn had not come stay: {}", flock.describe());
    written(&say(&mut flock, 1, RolloutOrder::Resume));
    flock.until("all are new", 30, |f| at(f, "2") == 3 && f.is_up("web", 3));
    flock.until("it is done", 20, |f| (row(f, 0).state, row(f, 0).failures.len()) == ("done", 0));
}
