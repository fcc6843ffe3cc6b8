//! Work that is done again and again: each run once, by nobody's command, whatever dies.

use std::collections::BTreeSet;
use std::time::Duration;

use dunlin_core::cron::parse;
use dunlin_core::face::{Ack, Exit, Reply, Request};
use dunlin_core::query::{self, ServiceRow};
use dunlin_gossip::model::{Cron, Job, Missed, Mode, Overlap, Prefer, RestartCondition, Service, Slot};
use dunlin_gossip::time::Wall;

use super::flock::{Flock, id, key, service};
use super::{refused, written};

fn each_minute() -> Cron {
    Cron::of(parse("* * * * *").expect("a calendar"), Job::default())
}

fn cron(cron: Cron) -> Service {
    let mut service = service(1);
    service.mode = Mode::Cron(cron);
    service.spec.health = None;
    service.spec.restart.condition = RestartCondition::OnFailure;
    service
}

fn row(flock: &Flock, n: usize) -> ServiceRow {
    query::services(flock.hosts[n].node.as_ref().expect("it is up")).remove(0)
}

/// The runs that are under way, and on which nodes.
fn under_way(flock: &Flock) -> Vec<(u64, usize)> {
    let hosts = flock.hosts.iter().enumerate();
    let of = |(n, host): (usize, &super::flock::Host)| {
        let due = |slot: Slot| if let Slot::Run(due, _) = slot { due } else { 0 };
        host.running.values().map(|spec| (due(spec.replica.slot), n)).collect::<Vec<_>>()
    };
    let mut all: Vec<(u64, usize)> = hosts.flat_map(of).collect();
    all.sort_unstable();
    all
}

/// Ends everything that runs.
fn end(flock: &mut Flock, exit: Exit) {
    for n in 0..flock.hosts.len() {
        let all: Vec<_> = flock.hosts[n].running.keys().copied().collect();
        all.into_iter().for_each(|alloc| flock.exit(n, alloc, exit));
    }
}

/// When runs were begun for, each start counted.
fn starts(flock: &Flock) -> Vec<u64> {
    let all = flock.hosts.iter().flat_map(|host| &host.starts);
    let due = |slot: Slot| if let Slot::Run(due, _) = slot { due } else { 0 };
    let mut all: Vec<u64> = all.map(|spec| due(spec.replica.slot)).collect();
    all.sort_unstable();
    all
}

/// The next whole minute.
fn minute(flock: &Flock) -> u64 {
    (flock.wall().0 / 60_000 + 1) * 60
}

#[test]
fn each_run_is_done_once_and_the_last_ones_are_kept() {
    let mut flock = Flock::new(3);
    let first = minute(&flock);
    let five = Cron { history: 3, ..each_minute() };
    written(&flock.deploy(0, &[("tidy", cron(five))]));
    flock.run(Duration::from_secs(5));
    let before = row(&flock, 1);
    assert_eq!((before.kind, before.state, before.replicas_wanted), ("cron", "scheduled", 0));
    assert_eq!(before.schedule.as_deref(), Some("* * * * * UTC"));
    assert_eq!(before.next_run_ms, Some(first * 1_000));
    for run in 0..6 {
        let due = first + run * 60;
        flock.until("it is due", 60, |f| under_way(f).iter().map(|(due, _)| *due).eq([due]));
        assert!(flock.wall().0 >= due * 1_000, "nobody begins before his clock says so");
        flock.until("all know", 2, |f| (0..3).all(|n| row(f, n).state == "running"));
        let spec = flock.hosts.iter().flat_map(|h| h.running.values()).next().expect("it runs").clone();
        assert_eq!(spec.environment["DUNLIN_REPLICA"], format!("{due}-1"));
        end(&mut flock, Exit::Code(0));
        flock.until("all know", 5, |f| (0..3).all(|n| row(f, n).state == "scheduled"));
    }
    // Those who held the ends of older runs have let them go, and run none of them again.
    flock.run(Duration::from_secs(30));
    for host in 0..3 {
        flock.kill_agent(host);
        flock.boot(host);
        flock.run(Duration::from_secs(13));
        end(&mut flock, Exit::Code(0));
    }
    flock.run(Duration::from_secs(20));
    end(&mut flock, Exit::Code(0));
    flock.run(Duration::from_secs(90));
    let all = starts(&flock);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each once: {all:?}");
    assert!(all.windows(2).all(|pair| pair[0] + 60 == pair[1]), "none left out: {all:?}");
    let rows = row(&flock, 0).runs;
    let dues: Vec<u64> = rows.iter().map(|run| run.due_ms / 1_000).collect();
    assert!(dues.len() >= 3 && dues.len() <= 5, "{rows:?}");
    assert!(rows.iter().filter(|run| run.state == "succeeded").count() >= 3, "{rows:?}");
    assert!(flock.ps(0).len() <= 5, "{:?}", flock.ps(0));
}

#[test]
fn a_run_whose_node_dies_is_done_elsewhere_however_late_it_is() {
    let mut flock = Flock::new(3);
    let first = minute(&flock);
    let soon = Cron { missed: Missed::Skip, overlap: Overlap::Forbid, ..each_minute() };
    written(&flock.deploy(0, &[("tidy", cron(soon))]));
    flock.until("it is due", 61, |f| !under_way(f).is_empty());
    let (due, on) = under_way(&flock)[0];
    assert_eq!(due, first);
    // While it is under way none that comes due is begun.
    flock.run(Duration::from_secs(150));
    assert_eq!(starts(&flock), [first]);
    flock.kill(on);
    flock.until("it is begun again", 30, |f| under_way(f).iter().any(|(due, n)| *due == first && *n != on));
    assert_eq!(starts(&flock), [first, first]);
    end(&mut flock, Exit::Code(0));
    flock.until("the next one follows", 61, |f| starts(f).len() == 3);
    assert!(starts(&flock)[2] > first + 150, "what came due meanwhile is skipped");
}

#[test]
fn runs_overlap_or_are_replaced_as_their_author_says() {
    let mut flock = Flock::new(2);
    let first = minute(&flock);
    written(&flock.deploy(0, &[("tidy", cron(each_minute()))]));
    flock.run(Duration::from_secs(130));
    assert_eq!(under_way(&flock).iter().map(|(due, _)| *due).collect::<Vec<_>>(), [first, first + 60]);
    // From the next run on, the earlier ones make way, those of an earlier deploy as well.
    let mut other = cron(Cron { overlap: Overlap::Replace, ..each_minute() });
    other.spec.environment.insert("VERSION".into(), "2".into());
    written(&flock.deploy(1, &[("tidy", other)]));
    flock.run(Duration::from_secs(10));
    assert_eq!(under_way(&flock).len(), 2, "what an earlier deploy began goes on");
    flock.until("they are replaced", 60, |f| under_way(f).iter().map(|(due, _)| *due).eq([first + 120]));
    flock.until("and again", 62, |f| under_way(f).iter().map(|(due, _)| *due).eq([first + 180]));
}

#[test]
fn of_what_all_missed_the_last_run_is_made_up_for_or_none() {
    for (missed, expected) in [(Missed::RunOnce, true), (Missed::Skip, false)] {
        let mut flock = Flock::new(2);
        let hourly = Cron { missed, ..Cron::of(parse("44 * * * *").expect("a calendar"), Job::default()) };
        written(&flock.deploy(0, &[("tidy", cron(hourly))]));
        flock.run(Duration::from_secs(5));
        (0..2).for_each(|n| flock.kill_agent(n));
        flock.run(Duration::from_secs(2 * 3_600));
        (0..2).for_each(|n| flock.boot(n));
        flock.run(Duration::from_secs(60));
        assert_eq!(starts(&flock).len(), usize::from(expected), "{missed:?}");
        let due = flock.wall().0 / 3_600_000 * 3_600 + 44 * 60;
        let last = if due * 1_000 > flock.wall().0 { due - 3_600 } else { due };
        assert!(starts(&flock).iter().all(|run| *run == last));
    }
}

#[test]
fn a_run_of_several_slots_goes_so_many_at_a_time_and_fails_as_a_whole() {
    let mut flock = Flock::new(2);
    let job = Job { completions: 3, parallelism: 1, backoff_limit: 0, ..Job::default() };
    written(&flock.deploy(0, &[("tidy", cron(Cron { job, ..each_minute() }))]));
    flock.until("the first slot", 61, |f| under_way(f).len() == 1);
    flock.run(Duration::from_secs(5));
    end(&mut flock, Exit::Code(0));
    flock.until("the second slot", 5, |f| starts(f).len() == 2);
    assert_eq!(under_way(&flock).len(), 1);
    end(&mut flock, Exit::Code(3));
    flock.run(Duration::from_secs(10));
    let begun: Vec<String> = flock.hosts.iter().flat_map(|h| &h.starts).map(|s| format!("{:?}", s.replica)).collect();
    assert_eq!(begun.len(), 2, "no third slot of a run that has failed: {begun:?} {}", flock.describe());
    let run = row(&flock, 1).runs.remove(0);
    assert_eq!((run.state, run.succeeded, run.failed), ("failed", 1, 1));
    flock.until("the next run begins all the same", 61, |f| starts(f).len() == 3);
}

#[test]
fn a_schedule_is_changed_suspended_and_removed() {
    let mut flock = Flock::new(2);
    let first = minute(&flock);
    written(&flock.deploy(0, &[("tidy", cron(each_minute()))]));
    flock.until("it is due", 61, |f| under_way(f).len() == 1);
    end(&mut flock, Exit::Code(0));
    let scale = |replicas| {
        let timeout = Duration::from_secs(5);
        Request::Scale { service: key("tidy"), replicas, ack: Ack::Default, timeout }
    };
    let request = flock.request(1, scale(0));
    assert!(matches!(flock.reply(request), Reply::Written(_)));
    flock.run(Duration::from_secs(150));
    assert_eq!((starts(&flock).len(), row(&flock, 0).state), (1, "suspended"));
    let request = flock.request(0, scale(1));
    assert!(matches!(flock.reply(request), Reply::Written(_)));
    flock.run(Duration::from_secs(2));
    assert_eq!(starts(&flock).len(), 1, "what was suspended is not made up for");
    flock.until("the next one", 61, |f| under_way(f).len() == 1);
    // The same again changes nothing; another hour does.
    written(&flock.deploy(1, &[("tidy", cron(each_minute()))]));
    flock.run(Duration::from_secs(3));
    assert_eq!(under_way(&flock).len(), 1);
    written(&flock.deploy(1, &[("tidy", cron(Cron::of(parse("0 0 1 1 *").expect("a calendar"), Job::default())))]));
    flock.run(Duration::from_secs(120));
    assert_eq!((under_way(&flock).len(), starts(&flock).len()), (1, 2), "what is under way goes on");
    written(&flock.deploy(1, &[("other", service(1))]));
    flock.until("it is gone", 10, |f| under_way(f).iter().all(|(due, _)| *due == 0));
    assert!(starts(&flock).contains(&first));
}

#[test]
fn a_node_begins_by_its_own_clock_only() {
    let mut flock = Flock::new(1);
    let due = minute(&flock);
    written(&flock.deploy(0, &[("tidy", cron(each_minute()))]));
    let rest = Wall(due * 1_000).0 - flock.wall().0;
    flock.run(Duration::from_millis(rest - 50));
    assert!(starts(&flock).is_empty());
    flock.until("it is due", 2, |f| starts(f) == [due]);
}

#[test]
fn what_cannot_be_scheduled_is_refused() {
    let mut flock = Flock::new(1);
    let mut lone = cron(each_minute());
    lone.spec.prefer = Prefer::Majority;
    let (_, text) = refused(&flock.deploy(0, &[("tidy", lone.clone())]));
    assert!(text.contains("shop/tidy: what runs to completion is done at least once"), "{text}");
    lone.mode = Mode::Job(Job::default());
    assert!(refused(&flock.deploy(0, &[("tidy", lone)])).1.contains("DUNLIN_EPOCH"));
    let mut never = each_minute();
    (never.calendar.days, never.calendar.months) = (1 << 30, 1 << 2);
    let (_, text) = refused(&flock.deploy(0, &[("tidy", cron(never))]));
    assert!(text.contains("'* * 30 2 *' never comes due"), "{text}");
    let zone = dunlin_gossip::model::ZoneName::new("Europe/Atlantis").expect("it could be one");
    let (_, text) = refused(&flock.deploy(0, &[("tidy", cron(Cron { zone, ..each_minute() }))]));
    assert!(text.contains("no time zone 'Europe/Atlantis'"), "{text}");
    assert_eq!(id(0), flock.hosts[0].id);
}
