//! Concurrent writes: which is in force everywhere, what is shown of them, and how they are settled.

use crate::flock::{Flock, key, service, stack};
use dunlin_core::face::{Ack, Reply, Request};
use dunlin_core::query::{self, ConflictRow};
use dunlin_gossip::model::{Mode, Service};
use dunlin_gossip::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);

fn of_version(replicas: u32, version: &str) -> Service {
    let mut service = service(replicas);
    service.spec.environment.insert("VERSION".to_string(), version.to_string());
    service
}

/// Two nodes that run `web` and `db`, and do not hear each other any more.
fn parted() -> Flock {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", of_version(1, "1")), ("db", service(1))]);
    flock.until("both are up", 5, |f| f.is_up("web", 1) && f.is_up("db", 1));
    flock.cut.insert((0, 1));
    flock.run(Duration::from_secs(1));
    flock
}

fn ask(flock: &mut Flock, n: usize, request: Request) {
    let id = flock.request(n, request);
    assert!(matches!(flock.reply(id), Reply::Written(_)));
}

fn remove(flock: &mut Flock, n: usize) {
    ask(flock, n, Request::Remove { stack: stack(), ack: Ack::Default, timeout: TIMEOUT });
}

fn scale(flock: &mut Flock, n: usize, name: &str, replicas: u32) {
    ask(flock, n, Request::Scale { service: key(name), replicas, ack: Ack::Default, timeout: TIMEOUT });
}

/// What is in force of a service at a node: how many, and of which version.
fn in_force(flock: &Flock, n: usize, name: &str) -> Option<(Mode, Option<String>)> {
    let force = flock.hosts[n].node.as_ref()?.view().services().get(&key(name))?;
    Some((force.service.mode, force.service.spec.environment.get("VERSION").cloned()))
}

fn heal(flock: &mut Flock) {
    flock.cut.clear();
    flock.until("both hold the same", 60, |f| {
        let root = |n: usize| f.hosts[n].node.as_ref().map(|node| node.gossip().state().sync_root());
        root(0) == root(1)
    });
}

#[test]
fn a_deploy_keeps_what_it_names_unchanged_against_a_concurrent_removal() {
    let mut flock = parted();
    flock.deploy(0, &[("web", of_version(1, "2")), ("db", service(1))]);
    flock.run(Duration::from_millis(10));
    remove(&mut flock, 1);
    heal(&mut flock);
    for n in [0, 1] {
        assert_eq!(in_force(&flock, n, "web"), Some((Mode::Replicated(1), Some("2".to_string()))));
        assert_eq!(in_force(&flock, n, "db"), Some((Mode::Replicated(1), None)), "the deploy named it");
    }
}

#[test]
fn an_update_wins_over_a_concurrent_removal_of_the_stack() {
    for scaled_first in [true, false] {
        let mut flock = parted();
        if scaled_first {
            scale(&mut flock, 0, "web", 2);
            remove(&mut flock, 1);
        } else {
            remove(&mut flock, 1);
            scale(&mut flock, 0, "web", 2);
        }
        heal(&mut flock);
        for n in [0, 1] {
            assert_eq!(in_force(&flock, n, "web"), Some((Mode::Replicated(2), Some("1".to_string()))));
            assert_eq!(in_force(&flock, n, "db"), None, "nobody updated it");
        }
    }
}

#[test]
fn a_scaling_says_nothing_of_what_else_belongs_to_the_stack() {
    let mut flock = parted();
    flock.deploy(1, &[("web", of_version(1, "1")), ("db", service(1)), ("cache", service(1))]);
    flock.run(Duration::from_millis(10));
    scale(&mut flock, 0, "db", 2);
    heal(&mut flock);
    for n in [0, 1] {
        assert_eq!(in_force(&flock, n, "cache"), Some((Mode::Replicated(1), None)), "added by a concurrent deploy");
        assert_eq!(in_force(&flock, n, "db"), Some((Mode::Replicated(2), None)), "written last");
    }
}

fn listed(flock: &Flock, n: usize) -> Vec<ConflictRow> {
    query::conflicts(flock.hosts[n].node.as_ref().expect("it runs"))
}

/// The rows of both nodes, which must be the same.
fn alike(flock: &Flock) -> Vec<ConflictRow> {
    let rows = listed(flock, 0);
    assert_eq!(rows, listed(flock, 1), "every node shows the same");
    rows
}

fn resolve(flock: &mut Flock, n: usize, what: &str, version: &str) {
    let named = query::conflict_named(flock.hosts[n].node.as_ref().expect("it runs"), what);
    let [(_, register)] = named.as_slice() else { panic!("{what} is one conflict: {named:?}") };
    let keep = u64::from_str_radix(version, 16).expect("a version");
    ask(flock, n, Request::Resolve { register: register.clone(), keep, ack: Ack::Default, timeout: TIMEOUT });
    flock.run(Duration::from_secs(1));
}

/// Both sides deploy: the second node's `web` is in force, the first one's had a `cache` besides.
fn deployed_apart() -> Flock {
    let mut flock = parted();
    flock.deploy(0, &[("web", of_version(1, "2")), ("db", service(1)), ("cache", service(1))]);
    flock.run(Duration::from_millis(10));
    flock.deploy(1, &[("web", of_version(2, "3")), ("db", service(1))]);
    heal(&mut flock);
    flock
}

#[test]
fn both_versions_are_shown_alike_and_one_is_kept() {
    let mut flock = deployed_apart();
    let rows = alike(&flock);
    let whats: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
    assert_eq!(whats, ["shop", "shop/web"], "db is written alike on both sides");
    let web = &rows[1].versions;
    assert_eq!((web.len(), web[0].in_force, web[1].in_force), (2, true, false));
    assert_eq!((web[0].node.as_str(), web[1].node.as_str(), web[1].author.as_str()), ("n1", "n0", "ann"));
    assert!(web[0].hlc > web[1].hlc && web[0].at_ms > 0 && web[0].difference.is_empty());
    let fields: Vec<_> = web[1].difference.iter().map(|f| (f.field.as_str(), f.here.as_deref())).collect();
    assert_eq!(fields, [("mode", Some("Replicated 1")), ("spec.environment.VERSION", Some("2"))]);
    let services = &rows[0].versions[1].difference[0];
    assert_eq!(services.here.as_deref(), Some("cache, db, web"));

    let older = web[1].version.clone();
    resolve(&mut flock, 1, "web", &older);
    assert_eq!(in_force(&flock, 0, "web"), Some((Mode::Replicated(1), Some("2".to_string()))));
    assert_eq!(alike(&flock).len(), 0, "the stack's manifest was written again by who had seen both");
}

#[test]
fn a_stack_is_settled_as_one_of_its_deploys_would_have_it() {
    let mut flock = deployed_apart();
    let older = alike(&flock)[0].versions[1].version.clone();
    resolve(&mut flock, 1, "shop", &older);
    for n in [0, 1] {
        assert_eq!(in_force(&flock, n, "web"), Some((Mode::Replicated(1), Some("2".to_string()))));
        assert_eq!(in_force(&flock, n, "cache"), Some((Mode::Replicated(1), None)));
    }
    assert_eq!(alike(&flock), []);
}

#[test]
fn an_update_against_a_removal_is_shown_and_settled_either_way() {
    for keep_removal in [true, false] {
        let mut flock = parted();
        scale(&mut flock, 0, "web", 2);
        remove(&mut flock, 1);
        heal(&mut flock);
        let rows = alike(&flock);
        let web = rows.iter().find(|row| row.what == "shop/web").expect("it is in conflict");
        assert!(web.versions[0].in_force && !web.versions[0].removed && web.versions[1].removed);
        let kept = web.versions[usize::from(keep_removal)].version.clone();
        resolve(&mut flock, 0, "shop/web", &kept);
        assert_eq!(in_force(&flock, 1, "web").is_none(), keep_removal);
        assert_eq!(alike(&flock), []);
    }
}

#[test]
fn a_later_deploy_settles_what_it_writes_and_a_stale_choice_is_refused() {
    let mut flock = deployed_apart();
    let rows = alike(&flock);
    let named = query::conflict_named(flock.hosts[0].node.as_ref().expect("it runs"), "shop/web");
    flock.deploy(0, &[("web", of_version(1, "4")), ("db", service(1))]);
    flock.run(Duration::from_secs(1));
    assert_eq!(alike(&flock), []);
    let keep = u64::from_str_radix(&rows[1].versions[1].version, 16).expect("a version");
    let register = named[0].1.clone();
    let id = flock.request(0, Request::Resolve { register, keep, ack: Ack::Default, timeout: TIMEOUT });
    let Reply::Problem(problem) = flock.reply(id) else { panic!("nobody chose among what is there now") };
    assert!(problem.text.contains("dunlin conflicts"), "{problem}");
}

/// One service more in a stack, or one less, at a node.
fn add(flock: &mut Flock, n: usize, name: &str) {
    let specification = Box::new(of_version(1, name));
    ask(flock, n, Request::Add { service: key(name), specification, ack: Ack::Default, timeout: TIMEOUT });
}

fn names(flock: &Flock, n: usize) -> Vec<String> {
    let services = query::services(flock.hosts[n].node.as_ref().expect("it is up"));
    services.into_iter().map(|row| row.service).collect()
}

#[test]
fn what_is_added_to_a_stack_at_the_same_moment_is_all_in_force() {
    // To one that is there, and to one that nobody has heard of.
    for deployed in [true, false] {
        let mut flock = Flock::new(2);
        if deployed {
            flock.deploy(0, &[("web", service(1))]);
            flock.until("it is up", 5, |f| f.is_up("web", 1));
        }
        flock.cut.insert((0, 1));
        flock.run(Duration::from_secs(1));
        add(&mut flock, 0, "left");
        add(&mut flock, 1, "right");
        heal(&mut flock);
        flock.until("both run", 20, |f| f.is_up("left", 1) && f.is_up("right", 1));
        let all = |f: &Flock| (0..2).map(|n| names(f, n)).collect::<Vec<_>>();
        let mut expected = vec!["shop/left", "shop/right"];
        expected.extend(deployed.then_some("shop/web"));
        assert_eq!(all(&flock), [expected.clone(), expected.clone()]);
        assert!(query::conflicts(flock.hosts[0].node.as_ref().expect("it is up")).is_empty());
        // What is written next has both in it; who boots later comes to the same.
        flock.kill_agent(1);
        flock.boot(1);
        flock.run(Duration::from_secs(12));
        assert_eq!(names(&flock, 1), expected);
        add(&mut flock, 1, "third");
        flock.run(Duration::from_secs(2));
        expected.insert(2, "shop/third");
        assert_eq!(all(&flock), [expected.clone(), expected.clone()]);
        let drop = |name| Request::Drop { service: key(name), ack: Ack::Default, timeout: TIMEOUT };
        ask(&mut flock, 0, drop("left"));
        flock.until("it is gone", 10, |f| !names(f, 1).contains(&"shop/left".to_string()));
        expected.remove(0);
        assert_eq!(all(&flock)[1], expected, "the others stay");
        for name in ["right", "third", "web"].into_iter().take(2 + usize::from(deployed)) {
            ask(&mut flock, 1, drop(name));
            flock.run(Duration::from_secs(1));
        }
        assert!(query::stacks(flock.hosts[0].node.as_ref().expect("it is up")).is_empty(), "so does the stack");
    }
}

#[test]
fn a_removal_beside_an_addition_takes_away_only_what_it_names() {
    let mut flock = parted();
    add(&mut flock, 0, "job");
    let drop = Request::Drop { service: key("db"), ack: Ack::Default, timeout: TIMEOUT };
    ask(&mut flock, 1, drop);
    heal(&mut flock);
    flock.until("it is so", 20, |f| f.is_up("job", 1) && (0..2).all(|n| names(f, n) == ["shop/job", "shop/web"]));
    // Long after the tombstone is gone as well, for who boots then.
    flock.run(Duration::from_secs(3 * 3_600));
    flock.kill_agent(0);
    flock.boot(0);
    flock.run(Duration::from_secs(12));
    assert_eq!(names(&flock, 0), ["shop/job", "shop/web"]);
}
