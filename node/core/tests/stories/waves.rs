//! Deploys that some nodes act on first.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_core::face::{Ack, Reply, Request};
use dunlin_core::query::{self, WaveRow};
use dunlin_gossip::model::{Mode, Service, ServiceName, Share, Waves};
use dunlin_gossip::time::Duration;

use crate::flock::{Flock, key, service, stack};
use crate::{refused, written};

const WAIT: Duration = Duration::from_secs(5);

fn in_waves(flock: &mut Flock, n: usize, first: Share, services: &[(&str, Service)]) -> Reply {
    let services = services.iter().map(|(name, s)| (ServiceName::new(name).expect("a name"), s.clone())).collect();
    let waves = Some(Waves { first, wait: WAIT });
    let timeout = Duration::from_secs(5);
    let request =
        Request::Deploy { stack: stack(), services, policies: BTreeMap::new(), waves, ack: Ack::All, timeout };
    let id = flock.request(n, request);
    flock.reply(id)
}

fn newer(replicas: u32) -> Service {
    let mut newer = service(replicas);
    newer.spec.environment.insert("NEW".into(), "yes".into());
    newer
}

fn wave(flock: &Flock, n: usize) -> Option<WaveRow> {
    let rows = query::stacks(flock.hosts[n].node.as_ref()?);
    rows.into_iter().find_map(|row| row.wave)
}

/// The first nodes of the wave that is on, as a host sees them.
fn first(flock: &Flock, n: usize) -> BTreeSet<usize> {
    let row = wave(flock, n).expect("a wave is on");
    let is_named = |m: &usize| row.nodes.iter().any(|node| node.node == flock.hosts[*m].header.name.to_string());
    (0..flock.hosts.len()).filter(is_named).collect()
}

/// The hosts on which something of the new revision runs.
fn new_on(flock: &Flock) -> BTreeSet<usize> {
    let is_new = |n: &usize| flock.hosts[*n].running.values().any(|spec| spec.environment.contains_key("NEW"));
    (0..flock.hosts.len()).filter(is_new).collect()
}

fn global(newer: bool) -> Service {
    let mut global = if newer { self::newer(1) } else { service(1) };
    global.mode = Mode::Global;
    global
}

#[test]
fn the_others_follow_when_all_stayed_well_on_the_first() {
    let mut flock = Flock::new(4);
    written(&flock.deploy(0, &[("web", service(8))]));
    flock.until("all replicas run", 20, |f| f.is_up("web", 8));
    let before = flock.now;
    written(&in_waves(&mut flock, 0, Share::Nodes(1), &[("web", newer(8))]));
    let acting = first(&flock, 0);
    assert_eq!((acting.len(), acting == first(&flock, 3)), (1, true), "all know who is first");
    flock.run(Duration::from_secs(4));
    assert_eq!(new_on(&flock), acting, "what the first node runs has changed, and nothing else");
    let row = wave(&flock, 3).expect("it is on");
    assert_eq!((row.nodes[0].state, row.stays), ("acting", false));
    let told = flock.ps(3).into_iter().filter(|row| row.detail.contains("first wave")).count();
    assert!(told >= 4, "ps says why the others keep their revision");
    flock.until("the others have followed", 30, |f| {
        new_on(f).len() == 4 && f.is_up("web", 8) && (0..4).all(|n| wave(f, n).is_none())
    });
    assert!(flock.now > before + WAIT, "not before the wait was over");
    flock.until("nothing old is left", 30, |f| {
        let running = f.hosts.iter().flat_map(|host| host.running.values());
        running.filter(|spec| spec.environment.contains_key("NEW")).count() == 8
            && f.hosts.iter().map(|host| host.running.len()).sum::<usize>() == 8
    });
}

#[test]
fn an_agent_that_starts_again_holds_the_wave_and_whoever_boots_meanwhile_comes_to_the_same_answer() {
    let mut flock = Flock::new(4);
    written(&flock.deploy(0, &[("agent", global(false))]));
    flock.until("it runs everywhere", 20, |f| f.is_up("agent", 4));
    written(&in_waves(&mut flock, 0, Share::Percent(26), &[("agent", global(true)), ("extra", newer(2))]));
    let acting = first(&flock, 0);
    assert_eq!(acting.len(), 2, "26 in 100 of 4, rounded up");
    flock.run(Duration::from_secs(2));
    assert_eq!(new_on(&flock), acting);
    let one = *acting.first().expect("two");
    let other = (0..4).find(|n| !acting.contains(n)).expect("two others");
    for n in [one, other] {
        flock.kill_agent(n);
        flock.boot(n);
    }
    flock.run(Duration::from_secs(60));
    assert_eq!(new_on(&flock), acting, "nobody else has followed");
    for n in 0..4 {
        let row = wave(&flock, n).expect("it is still on");
        let states: BTreeSet<&str> = row.nodes.iter().map(|node| node.state).collect();
        assert_eq!((row.stays, states.contains("restarted")), (true, true), "{}", row.text);
    }
    assert!(refused(&scale(&mut flock, 0)).1.contains("--activate"));
    // The same file at once.
    let all = [("agent", global(true)), ("extra", newer(2))];
    written(&flock.deploy(other, &all));
    flock.until("all have followed", 60, |f| {
        new_on(f).len() == 4 && f.is_up("agent", 4) && f.is_up("extra", 2) && (0..4).all(|n| wave(f, n).is_none())
    });
}

fn scale(flock: &mut Flock, n: usize) -> Reply {
    let (ack, timeout) = (Ack::Default, Duration::from_secs(5));
    let request = flock.request(n, Request::Scale { service: key("extra"), replicas: 3, ack, timeout });
    flock.reply(request)
}

#[test]
fn a_new_stack_begins_with_one_replica_and_an_old_deploy_takes_a_wave_back() {
    let mut flock = Flock::new(5);
    written(&in_waves(&mut flock, 1, Share::Nodes(2), &[("web", newer(6))]));
    flock.run(Duration::from_secs(4));
    let running: usize = flock.hosts.iter().map(|host| host.running.len()).sum();
    assert_eq!(running, 1, "the first replica alone");
    written(&flock.deploy(4, &[("web", service(6))]));
    flock.until("the plain deploy is in force", 30, |f| {
        new_on(f).is_empty() && f.is_up("web", 6) && (0..5).all(|n| wave(f, n).is_none())
    });
    // A removal takes one along as well.
    written(&in_waves(&mut flock, 0, Share::Nodes(1), &[("web", newer(6))]));
    let (ack, timeout) = (Ack::All, Duration::from_secs(5));
    let remove = flock.request(2, Request::Remove { stack: stack(), ack, timeout });
    written(&flock.reply(remove));
    flock.until("nothing runs", 30, |f| f.hosts.iter().all(|host| host.running.is_empty()));
    assert!(flock.hosts.iter().all(|host| query::stacks(host.node.as_ref().expect("it runs")).is_empty()));
}

#[test]
fn what_cannot_be_a_first_wave_is_no_wave() {
    let mut flock = Flock::new(2);
    written(&in_waves(&mut flock, 0, Share::Nodes(2), &[("web", newer(2))]));
    assert!(wave(&flock, 0).is_none(), "everybody is no first wave");
    flock.until("it runs", 20, |f| f.is_up("web", 2));
}

#[test]
fn a_replica_that_cannot_run_holds_the_wave() {
    let mut flock = Flock::new(3);
    written(&flock.deploy(0, &[("web", service(3))]));
    flock.until("all replicas run", 20, |f| f.is_up("web", 3));
    flock.hosts.iter_mut().for_each(|host| host.broken = true);
    written(&in_waves(&mut flock, 0, Share::Nodes(1), &[("web", newer(3))]));
    flock.run(Duration::from_secs(90));
    assert!(new_on(&flock).is_empty(), "nothing new could be started");
    let kept = flock.hosts.iter().map(|host| host.running.len()).sum::<usize>();
    assert!(kept >= 2, "what runs on the others goes on");
    let row = wave(&flock, 0).expect("it is on");
    assert_eq!((row.stays, row.nodes[0].state), (true, "refused"));
    flock.hosts.iter_mut().for_each(|host| host.broken = false);
    flock.run(Duration::from_secs(1_800));
    assert!(wave(&flock, 0).is_some(), "it does not go on because the refusal was long ago");
}
