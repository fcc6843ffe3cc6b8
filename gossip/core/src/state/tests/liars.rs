//! Whatever a faulty writer sends, nodes that have heard of the same records hold the same ones.

use super::*;

/// Nodes that talk to each other.
const NODES: usize = 3;

/// A record of one of three writers at one of eight times, that claims to have seen any of the others' times.
fn forged() -> impl Strategy<Value = Record> {
    let seen = prop::collection::btree_map(0_u8..3, 0_u64..8, 0..3);
    (0_u8..3, 0_u64..8, seen, 0_u8..3).prop_map(|(author, at, mut seen, text)| {
        let hlc = Hlc::from_wall(NOW).0;
        seen.insert(author, at);
        let seen = seen.into_iter().map(|(n, at)| (actor(n, 1), hlc + at)).collect();
        let context = Context { author: actor(author, 1), asker: Asker::default(), seen, below: 0 };
        Record::write(key(1), context.into(), Hlc(hlc + at), (text > 0).then_some(&[text]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_000)
    })]

    /// Each tells the next one all that it holds, around and around: after as many rounds as there are records nothing is new.
    #[test]
    fn contexts_that_contradict_each_other_part_nobody(
        records in prop::collection::vec((0..NODES, forged()), 0..12),
    ) {
        let mut states: Vec<State> = (10..).take(NODES).map(|n| State::new(actor(n, 1))).collect();
        for (at, record) in &records {
            merge_all(&mut states[*at], [record]);
        }
        for turn in 0..NODES * (records.len() + 1) {
            let told = contents(&states[turn % NODES]);
            merge_all(&mut states[(turn + 1) % NODES], &told);
        }
        for state in &states[1..] {
            prop_assert_eq!(contents(state), contents(&states[0]));
        }
    }
}

#[test]
fn a_faulty_writer_cannot_part_two_nodes() {
    let forge = |text: &[u8]| {
        let stamp =
            Context { author: actor(1, 1), asker: Asker::default(), seen: vec![(actor(1, 1), 7)], below: 0 }.into();
        let seq = Stamp::Sequence { generation: Generation(1), sequence: 7 };
        [
            Record::write(key(1), stamp, Hlc(7), Some(text)),
            Record::write(RecordId::header(node(1)), seq, Hlc(7), Some(text)),
            Record::write(RecordId::roster(node(1)), Stamp::Fact { author: actor(1, 1) }, Hlc(7), Some(text)),
        ]
    };
    let (mut a, mut b) = (State::new(actor(2, 1)), State::new(actor(3, 1)));
    merge_all(&mut a, forge(b"one").iter().chain(&forge(b"two")));
    merge_all(&mut b, forge(b"two").iter().chain(&forge(b"one")));
    assert_eq!(contents(&a), contents(&b));
    assert_eq!(a.len(), 3);
}
