//! Agents and nodes that die, come back, fail or leave, and what becomes of their work.

use super::*;

#[test]
fn a_dead_node_is_replaced_and_its_names_go() {
    let mut flock = Flock::new(4);
    flock.deploy(0, &[("web", service(4))]);
    flock.until("four are up", 2, |f| f.is_up("web", 4));
    let before = flock.now;
    flock.kill(3);
    flock.until("four are up on three nodes", 10, |f| f.is_up("web", 4));
    assert!(flock.now.since(before) < Duration::from_secs(4), "{:?}", flock.now.since(before));
    flock.boot(3);
    flock.run(Duration::from_secs(15));
    assert!(flock.is_up("web", 4), "{}", flock.describe());
    assert!(flock.placed("web").iter().all(|(_, n)| *n != 3), "what runs well stays where it is");
}

#[test]
fn an_agent_that_comes_back_adopts_what_runs() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", service(4))]);
    flock.until("four are up", 2, |f| f.is_up("web", 4));
    let starts: usize = flock.hosts.iter().map(|h| h.starts.len()).sum();
    let placed = flock.placed("web");
    let killed = *flock.hosts[1].running.keys().next().expect("it runs");
    flock.kill_agent(1);
    flock.run(Duration::from_millis(300));
    flock.boot(1);
    flock.run(Duration::from_secs(10));
    assert!(flock.is_up("web", 4), "{}", flock.describe());
    assert_eq!(flock.placed("web"), placed);
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), starts);
    // And again, this time with an exit that nobody watched.
    flock.kill_agent(1);
    flock.exit(1, killed, Exit::Code(1));
    flock.run(Duration::from_millis(300));
    flock.boot(1);
    flock.until("the ended one runs again", 5, |f| f.is_up("web", 4));
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), starts + 1);
    assert!(flock.hosts[1].running.contains_key(&killed), "under the same claim");
}

#[test]
fn all_agents_killed_at_once_come_back_with_their_services() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 2, |f| f.is_up("web", 3));
    (0..3).for_each(|n| flock.kill(n));
    (0..3).for_each(|n| flock.boot(n));
    flock.until("three are up again", 15, |f| f.is_up("web", 3));
}

#[test]
fn after_a_boot_of_all_nothing_that_runs_is_touched_and_lost_work_waits_ten_seconds() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 2, |f| f.is_up("web", 3));
    let starts = |f: &Flock| f.hosts.iter().map(|h| h.starts.len()).sum::<usize>();
    let (before, kept) = (starts(&flock), flock.placed("web"));
    flock.kill(2);
    (0..2).for_each(|n| flock.kill_agent(n));
    (0..2).for_each(|n| flock.boot(n));
    let booted = flock.now;
    let adopted = |f: &Flock, n: usize| f.ps(n).iter().filter(|r| r.ready && r.node != "n2").count() == 2;
    flock.until("what runs is adopted at once", 2, |f| adopted(f, 0) && adopted(f, 1));
    flock.run(Duration::from_secs(8) - flock.now.since(booted));
    assert_eq!(starts(&flock), before, "nobody was up before to tell whether the third is only slow");
    flock.until("the lost replica is taken over", 5, |f| f.is_up("web", 3));
    assert!(flock.now.since(booted) < Duration::from_secs(12), "{:?}", flock.now.since(booted));
    assert_eq!(starts(&flock), before + 1);
    assert!(kept.iter().filter(|(_, n)| *n != 2).all(|stayed| flock.placed("web").contains(stayed)));
}

#[test]
fn a_claim_of_an_older_disk_is_not_taken_back_when_peers_know_its_end() {
    let mut flock = Flock::new(2);
    let mut large = service(2);
    large.spec.reservation.cpu_milli = 600;
    flock.deploy(0, &[("web", large)]);
    flock.until("one is up on each node", 3, |f| f.is_up("web", 2));
    let second = flock.placed("web")[1].1;
    let older = flock.hosts[second].disk.clone();
    let timeout = Duration::from_secs(5);
    let id = flock.request(0, Request::Scale { service: key("web"), replicas: 1, ack: Ack::Default, timeout });
    written(&flock.reply(id));
    flock.until("the second is gone", 3, |f| f.is_up("web", 1));
    flock.kill(second);
    flock.hosts[second].disk = older;
    flock.look_around = Duration::from_secs(2);
    flock.boot(second);
    flock.run(Duration::from_secs(10));
    assert_eq!(flock.hosts[second].starts.len(), 1, "{}", flock.describe());
    assert!(flock.is_up("web", 1));
}

#[test]
fn nothing_starts_beside_what_was_found_running_without_a_claim() {
    let mut flock = Flock::new(1);
    let mut large = service(1);
    large.spec.reservation.cpu_milli = 600;
    flock.deploy(0, &[("web", large)]);
    flock.until("it is up", 3, |f| f.is_up("web", 1));
    flock.kill_agent(0);
    flock.forget_claims(0);
    flock.hosts[0].stubborn = true;
    flock.boot(0);
    flock.run(Duration::from_secs(20));
    assert_eq!(flock.hosts[0].starts.len(), 1, "there is no room for two: {}", flock.describe());
    flock.hosts[0].stubborn = false;
    flock.until("it is told again, and makes way", 40, |f| f.hosts[0].starts.len() == 2 && f.is_up("web", 1));
}

#[test]
fn an_agent_away_for_too_long_gives_its_surplus_up_when_it_is_back() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 2, |f| f.is_up("web", 3));
    flock.kill_agent(1);
    flock.until("its replica is taken over, beside the one that runs on", 5, |f| f.placed("web").len() == 4);
    flock.run(Duration::from_secs(20));
    let elsewhere: Vec<_> = flock.placed("web").into_iter().filter(|(_, n)| *n != 1).collect();
    flock.boot(1);
    flock.until("the surplus is gone", 5, |f| f.is_up("web", 3));
    assert_eq!(flock.placed("web"), elsewhere, "the newer claim wins, on every node");
    flock.run(Duration::from_secs(20));
    assert!(flock.is_up("web", 3) && flock.placed("web") == elsewhere, "{}", flock.describe());
}

#[test]
fn after_a_partition_one_of_two_claims_yields() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", service(2))]);
    flock.until("two are up", 2, |f| f.is_up("web", 2));
    flock.cut.insert((0, 1));
    flock.until("both sides run everything", 60, |f| f.placed("web").len() == 4);
    flock.cut.clear();
    flock.until("the surplus is gone", 30, |f| f.is_up("web", 2));
    flock.run(Duration::from_secs(10));
    assert!(flock.is_up("web", 2));
}

#[test]
fn a_failed_disk_ends_acceptance() {
    let mut flock = Flock::new(2);
    flock.later(0, Duration::ZERO, Input::Gossip(GossipInput::PersistFailed("no space left".to_string())));
    let (kind, text) = refused(&flock.deploy(0, &[("web", service(1))]));
    assert_eq!(kind, ProblemKind::Unavailable);
    assert!(text.contains("disk failed"), "{text}");
    assert!(matches!(flock.deploy(1, &[("web", service(2))]), Reply::Written(_)));
    flock.run(Duration::from_secs(3));
    assert!(flock.hosts[0].starts.is_empty());
}

#[test]
fn each_change_of_a_member_is_told_with_its_reason() {
    use dunlin_gossip::face::{MemberReason, MemberState};
    let mut flock = Flock::new(2);
    let told = |f: &Flock| -> Vec<(MemberState, MemberReason)> {
        f.hosts[0].events.iter().filter_map(|event| event.member).collect()
    };
    flock.hosts[0].events.clear();
    flock.cut.insert((0, 1));
    flock.until("it is doubted", 10, |f| told(f) == [(MemberState::Suspect, MemberReason::Silence)]);
    flock.cut.clear();
    let refuted = [(MemberState::Suspect, MemberReason::Silence), (MemberState::Alive, MemberReason::Refuted)];
    flock.until("it answers after all", 10, |f| told(f) == refuted);

    flock.hosts[0].events.clear();
    flock.cut.insert((0, 1));
    let lost = [(MemberState::Suspect, MemberReason::Silence), (MemberState::Down, MemberReason::Silence)];
    flock.until("it is given up", 20, |f| told(f) == lost);
    flock.cut.clear();
    flock.until("it is back", 30, |f| told(f).get(2).is_some_and(|(state, _)| *state == MemberState::Alive));

    flock.hosts[0].events.clear();
    flock.request(1, Request::Leave);
    flock.until("it said goodbye", 10, |f| told(f).contains(&(MemberState::Left, MemberReason::Left)));
    let words: Vec<&str> = flock.hosts[0].events.iter().map(|event| event.text.as_str()).collect();
    assert!(words.contains(&"left (said goodbye)"), "{words:?}");
}

#[test]
fn a_node_that_leaves_hands_its_work_over() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 3, |f| f.is_up("web", 3));
    let id = flock.request(2, Request::Leave);
    assert_eq!(flock.reply(id), Reply::Held);
    flock.run(Duration::from_millis(100));
    flock.kill(2);
    flock.until("three are up on two nodes", 5, |f| f.is_up("web", 3));
}

#[test]
fn a_newcomer_gets_the_roster_and_a_namesake_is_refused() {
    let mut flock = Flock::new(2);
    let id = flock.request(0, Request::Admit(flock::entry(5)));
    let Reply::Admitted(admission) = flock.reply(id) else { panic!("admitted") };
    assert_eq!(admission.records.len(), 3);
    let namesake = RosterEntry { node: flock::id(6), ..flock::entry(1) };
    let id = flock.request(0, Request::Admit(namesake));
    let (kind, text) = refused(&flock.reply(id));
    assert_eq!(kind, ProblemKind::Denied);
    assert!(text.contains("is named n1 already; choose another with --name"), "{text}");
}
