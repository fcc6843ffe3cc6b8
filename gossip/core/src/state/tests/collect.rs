//! What is let go of, when, and what never comes back.

use super::super::hours::Hours;
use super::*;

fn flock(n: u8) -> Vec<State> {
    let mut states: Vec<State> = (1..=n).map(|n| State::new(actor(n, 1))).collect();
    let facts: Vec<Record> = (1..=n).map(|n| states[0].stage_fact(NOW, RecordId::roster(node(n)), b"in")).collect();
    states.iter_mut().for_each(|state| merge_all(state, &facts));
    states
}

fn spread(states: &mut [State], record: &Record) {
    states.iter_mut().for_each(|state| merge_all(state, [record]));
}

fn publish(states: &mut [State], wall: Wall) {
    for n in 0..states.len() {
        if let Some(record) = states[n].publish_hours(wall) {
            spread(states, &record);
        }
    }
}

#[test]
fn nothing_is_stamped_in_a_published_hour() {
    let mut state = flock(1).remove(0);
    write(&mut state, NOW, key(1), Some(b"x"));
    let later = Wall(NOW.0 + 2 * HOUR);
    let record = state.publish_hours(later).unwrap();
    let hours: Hours = codec::decode(record.payload().unwrap()).unwrap();
    assert_eq!((hours.below, hours.digests.len()), (1_002, 1));
    assert_eq!(state.publish_hours(later), None, "nothing new to say");
    // The wall clock falls back an hour and a half; the promise holds, also after a boot from disk.
    let back = Wall(NOW.0 + HOUR / 2);
    assert!(state.stage_desired(back, &Asker::default(), &[(key(2), None)]).0.hour() >= hours.below);
    assert!(state.stage_fact(back, RecordId::roster(node(9)), b"").hlc().hour() >= hours.below);
    let mut again = State::new(actor(1, 2));
    again.restore(record.clone());
    assert!(again.stage_desired(back, &Asker::default(), &[(key(2), None)]).0.hour() >= hours.below);
    // Nor does the bound on how far another's stamp moves us lift it, when we learn it from a peer.
    let mut lost = State::new(actor(1, 3));
    let _any = lost.merge(record, Wall(NOW.0 - 9 * HOUR));
    assert!(lost.stage_desired(Wall(NOW.0 - 9 * HOUR), &Asker::default(), &[(key(2), None)]).0.hour() >= hours.below);
}

#[test]
fn an_hour_with_a_staged_record_stays_open() {
    let mut state = flock(1).remove(0);
    let (hlc, records) = state.stage_desired(NOW, &Asker::default(), &[(key(1), Some(vec![1]))]);
    let later = Wall(NOW.0 + 5 * HOUR);
    let hours = |r: &Record| codec::decode::<Hours>(r.payload().unwrap()).unwrap();
    assert_eq!(hours(&state.publish_hours(later).unwrap()).below, hlc.hour());
    merge_all(&mut state, &records);
    assert_eq!(hours(&state.publish_hours(later).unwrap()).below, 1_005);
}

#[test]
fn tombstones_go_once_all_agree_and_nothing_comes_back() {
    let mut states = flock(3);
    let alive = write(&mut states[0], NOW, key(1), Some(b"x"));
    let kept = write(&mut states[0], NOW, key(2), Some(b"kept"));
    spread(&mut states, &alive);
    spread(&mut states, &kept);
    let gone = write(&mut states[1], NOW, key(1), None);
    merge_all(&mut states[0], [&gone]);
    let later = Wall(NOW.0 + 2 * HOUR);
    publish(&mut states, later);
    let partly = states[0].settle().unwrap();
    spread(&mut states, &partly);
    assert!(!states[0].ledger.is_settled(gone.hlc()), "node 3 lacks the deletion");
    merge_all(&mut states[2], [&gone]);
    publish(&mut states, later);
    let settled: Vec<Record> = states.iter_mut().filter_map(State::settle).collect();
    assert_eq!(settled, vec![settled[0].clone(); 3], "the fact is nobody's opinion");
    spread(&mut states, &settled[0]);
    spread(&mut states, &partly);
    for state in &mut states {
        let root = state.root();
        assert_eq!(state.settle(), None);
        assert_eq!(state.collect(Instant::from_millis(1)), Collected::default());
        let early = Instant::from_millis(1) + Duration::from_secs(599);
        assert_eq!(state.collect(early), Collected::default());
        let dropped = state.collect(Instant::from_millis(1) + Duration::from_secs(600));
        assert_eq!(dropped.persist, vec![PersistOp::Delete { slot: gone.slot() }]);
        assert_eq!(dropped.ids, vec![key(1)]);
        assert_eq!((state.root(), state.siblings(&key(1)).len()), (root, 0));
        assert_eq!(state.merge(alive.clone(), later), Merge::Refused(MergeRefusal::Settled));
        assert_eq!(state.merge(kept.clone(), later), Merge::Known);
        assert!(state.stage_desired(NOW, &Asker::default(), &[(key(3), None)]).0.hour() >= 1_002);
    }
    let mut empty = State::new(actor(4, 1));
    empty.begin_first_copy();
    merge_all(&mut empty, contents(&states[0]).iter().rev());
    empty.end_first_copy();
    assert_eq!(empty.root(), states[0].root());
}

#[test]
fn another_roster_settles_nothing() {
    let mut states = flock(2);
    let later = Wall(NOW.0 + HOUR);
    publish(&mut states, later);
    assert!(states[1].settle().is_some());
    let third = states[0].stage_fact(later, RecordId::roster(node(3)), b"in");
    spread(&mut states, &third);
    assert_eq!(states[1].settle(), None);
    let removed = states[0].stage_fact(later, RecordId::removal(node(3)), b"out");
    spread(&mut states, &removed);
    assert!(states[1].settle().is_some(), "a removed node has no say");
}

#[test]
fn digests_count_only_under_the_roster_they_were_made_for() {
    let mut states = flock(3);
    let later = Wall(NOW.0 + HOUR);
    publish(&mut states, later);
    assert!(states[0].settle().is_some());
    let fourth = states[0].stage_fact(later, RecordId::roster(node(4)), b"in");
    let removed = states[0].stage_fact(later, RecordId::removal(node(4)), b"out");
    spread(&mut states, &fourth);
    spread(&mut states, &removed);
    let third = states[0].stage_fact(later, RecordId::removal(node(3)), b"out");
    spread(&mut states, &third);
    // The first had the roster of these publications while it held them, and knows all whom their authors knew.
    assert!(states[0].settle().is_some());
    assert_eq!(states[1].settle(), None, "the second looks only now");
    publish(&mut states[..2], later);
    assert!(states[1].settle().is_some());
}

/// Lets so many hours end, has everybody publish and settle them, and collects.
fn let_hours_end(states: &mut [State], wall: Wall, now: &mut Instant) {
    publish(states, wall);
    let settled = states[0].settle().expect("all agree");
    spread(states, &settled);
    for state in states.iter_mut() {
        let _none_due = state.collect(*now);
    }
    *now += Duration::from_secs(600);
    for state in states.iter_mut() {
        let _dropped = state.collect(*now);
    }
}

#[test]
fn what_one_writer_ended_is_forgotten_and_stays_ended() {
    let mut states = flock(3);
    let id = RecordId::allocation(node(1), AllocId(7));
    let claim = states[0].stage_actual(NOW, id.clone(), Some(b"claim"));
    let end = states[0].stage_actual(NOW, id.clone(), None);
    spread(&mut states, &claim);
    spread(&mut states, &end);
    let later = Wall(NOW.0 + 2 * HOUR);
    let mut now = Instant::from_millis(1);
    let_hours_end(&mut states, Wall(later.0 + HOUR), &mut now);
    for state in &mut states {
        assert_eq!(state.siblings(&id), []);
        assert_eq!(state.merge(end.clone(), later), Merge::Refused(MergeRefusal::Settled), "nobody needs it again");
    }
}

#[test]
fn a_removed_node_leaves_one_fact_behind() {
    let mut states = flock(3);
    let mut third = State::new(actor(3, 1));
    let records = [
        third.stage_actual(NOW, RecordId::header(node(3)), Some(&header(&[]))),
        third.stage_actual(NOW, RecordId::allocation(node(3), AllocId(1)), Some(b"x")),
    ];
    records.iter().for_each(|record| spread(&mut states, record));
    let admission = states[0].siblings(&RecordId::roster(node(3)))[0].clone();
    let removal = states[0].stage_fact(NOW, RecordId::removal(node(3)), b"out");
    spread(&mut states[..2], &removal);
    for state in &mut states[..2] {
        assert_eq!(
            state.of_writer(node(3), Kind::HEADER).count() + state.of_writer(node(3), Kind::ALLOCATION).count(),
            0
        );
        assert_eq!(state.siblings(&RecordId::roster(node(3))), []);
        for late in records.iter().chain([&admission]) {
            assert_eq!(state.merge(late.clone(), NOW), Merge::Refused(MergeRefusal::Voided));
        }
    }
    // Whoever hears of the removal first and of the node later ends up the same.
    let mut other = State::new(actor(9, 1));
    merge_all(&mut other, contents(&states[0]).iter().chain(&records).chain([&admission]));
    assert_eq!(other.root(), states[0].root());
}

#[test]
fn a_forgotten_node_is_admitted_again_by_a_later_admission_only() {
    let mut states = flock(3);
    let mut third = State::new(actor(3, 1));
    let head = third.stage_actual(NOW, RecordId::header(node(3)), Some(&header(&[])));
    spread(&mut states, &head);
    let admission = states[0].siblings(&RecordId::roster(node(3)))[0].clone();
    let forgotten = states[0].stage_forgetting(Wall(NOW.0 + HOUR), node(3));
    spread(&mut states[..2], &forgotten);
    for state in &mut states[..2] {
        assert_eq!(state.rostered().collect::<Vec<_>>(), [node(1), node(2)]);
        assert_eq!(state.merge(head.clone(), NOW), Merge::Refused(MergeRefusal::Voided));
        assert_eq!(state.merge(admission.clone(), NOW), Merge::Known);
    }
    assert!(states[2].is_left_behind_by(&forgotten) && !states[1].is_left_behind_by(&forgotten));
    let again = states[1].stage_fact(Wall(NOW.0 + 2 * HOUR), RecordId::roster(node(3)), b"again");
    spread(&mut states[..2], &again);
    assert!(states[..2].iter().all(|state| state.rostered().count() == 3 && state.forgotten(node(3)).is_none()));
}

#[test]
fn the_key_of_a_forgotten_node_is_remembered_for_a_year() {
    let mut states = flock(2);
    let admission = states[0].siblings(&RecordId::roster(node(3))).first().cloned();
    assert_eq!(admission, None);
    let entry = states[0].stage_fact(NOW, RecordId::roster(node(3)), b"in");
    spread(&mut states, &entry);
    let gone = states[0].stage_forgetting(NOW, node(3));
    spread(&mut states, &gone);
    let (mut now, year) = (Instant::from_millis(1), 365 * 24 * HOUR);
    let_hours_end(&mut states, Wall(NOW.0 + year / 2), &mut now);
    assert!(states[0].forgotten(node(3)).is_some());
    let_hours_end(&mut states, Wall(NOW.0 + year + 2 * HOUR), &mut now);
    for state in &mut states {
        assert_eq!(state.siblings(&RecordId::roster(node(3))), []);
        // Its old admission brings it back no more: it needs a token.
        assert_eq!(state.merge(entry.clone(), NOW), Merge::Refused(MergeRefusal::Settled));
    }
}

#[test]
fn hours_that_settled_without_a_node_leave_it_behind() {
    let mut states = flock(3);
    let disk: Vec<Record> = contents(&states[2]);
    let late = write(&mut states[0], Wall(NOW.0 + 2 * HOUR), key(1), Some(b"x"));
    spread(&mut states, &late);
    let mut now = Instant::from_millis(1);
    let_hours_end(&mut states, Wall(NOW.0 + 5 * HOUR), &mut now);
    let fact = states[0].value(&settled_id()).unwrap().clone();
    assert!(states.iter().all(|state| !state.is_left_behind_by(&fact)));
    let boot = |disk: &[Record], generation| {
        let mut state = State::new(actor(3, generation));
        disk.iter().for_each(|record| state.restore(record.clone()));
        state.end_restore();
        state
    };
    // The same disk is not behind, one from before those hours is, and a newcomer that copies is not.
    assert!(!boot(&contents(&states[2]), 2).is_left_behind_by(&fact));
    let mut old = boot(&disk, 2);
    assert!(old.is_left_behind_by(&fact));
    old.begin_first_copy();
    assert!(!old.is_left_behind_by(&fact));
    // Even one that closes its hours before it hears of those is found out: by what others hold of it, and by itself.
    let mut hasty = boot(&disk, 2);
    let hours = hasty.publish_hours(Wall(NOW.0 + 9 * HOUR)).unwrap();
    merge_all(&mut hasty, [&hours]);
    assert!(!hasty.is_left_behind_by(&fact));
    let before = states[0].value(&hours::hours_id(node(3))).unwrap().clone();
    assert!(hasty.is_left_behind_by(&before));
    merge_all(&mut states[0], [&hours]);
    assert_eq!(states[0].take_proofs(), [before]);
    // A boot that remembers gives no such proof.
    let mut whole = boot(&contents(&states[1]), 2);
    let hours = whole.publish_hours(Wall(NOW.0 + 9 * HOUR)).unwrap();
    merge_all(&mut states[1], [&hours]);
    assert_eq!(states[1].take_proofs(), []);
}

#[test]
fn nobody_is_forgotten_by_less_than_a_majority() {
    let mut states = flock(4);
    let term = Duration::from_secs(3_600);
    let away = codec::encode(&Away { nodes: vec![(node(4), 3_600)] });
    for (n, wanted) in [(0, vec![]), (1, vec![]), (2, vec![node(4)])] {
        let record = states[n].stage_actual(NOW, away::away_id(node(n as u8 + 1)), Some(&away));
        spread(&mut states, &record);
        assert_eq!(states[3].overdue(term), wanted);
    }
}

#[test]
fn a_context_names_only_whom_somebody_may_still_have_to_be_told_of() {
    let mut states = flock(3);
    let mut now = Instant::from_millis(1);
    let mut wall = NOW;
    for boot in 2_u8..60 {
        // Each time another boot of another node writes the same register.
        let writer = usize::from(boot % 3);
        let me = states[writer].me();
        states[writer] = states[writer].held_by(Actor { generation: Generation(u64::from(boot)), ..me });
        let record = write(&mut states[writer], wall, key(1), Some(&[boot]));
        spread(&mut states, &record);
        let Stamp::Context(context) = record.stamp() else { panic!("a desired record") };
        let seen = &context.seen;
        assert!(seen.len() <= 2, "{} authors after {boot} boots", seen.len());
        assert!(states.iter().all(|state| state.siblings(&key(1)).len() == 1 && state.root() == states[0].root()));
        wall = Wall(wall.0 + 2 * HOUR);
        let_hours_end(&mut states, wall, &mut now);
    }
}
