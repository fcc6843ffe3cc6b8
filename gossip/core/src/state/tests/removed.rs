//! Removal for good: it stands over any other removal, and voids whatever the node wrote, in any order of arrival.

use super::*;
use crate::model::{Removal, RemovalKind};

fn removal(author: u8, kind: RemovalKind, at: u64) -> Record {
    let payload = codec::encode(&Removal { node: node(3), kind, by: node(author), at: Wall(at), token: None });
    Record::write(RecordId::removal(node(3)), Stamp::Fact { author: actor(author, 1) }, Hlc(at), Some(&payload))
}

proptest! {
    #[test]
    fn any_order_leads_to_the_same_state_without_the_removed_node(order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let mut theirs = State::new(actor(3, 5));
        let alloc = RecordId::allocation(node(3), AllocId(1));
        let records = [
            removal(1, RemovalKind::Revoked, 10),
            removal(2, RemovalKind::Forgotten, 20),
            removal(2, RemovalKind::Left, 30),
            theirs.stage_actual(NOW, RecordId::header(node(3)), Some(&header(&[]))),
            theirs.stage_actual(NOW, alloc.clone(), Some(b"a claim")),
            theirs.stage_actual(NOW, alloc.clone(), Some(b"another")),
        ];
        let mut state = State::new(actor(1, 1));
        let mut on_disk: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
        for index in &order {
            if let Merge::Changed { persist, .. } = state.merge(records[*index].clone(), NOW) {
                for op in persist {
                    match op {
                        PersistOp::Put { slot, bytes } => drop(on_disk.insert(slot, Record::read(&bytes).unwrap())),
                        PersistOp::Delete { slot } => drop(on_disk.remove(&slot)),
                    }
                }
            }
        }
        prop_assert_eq!(contents(&state), vec![records[0].clone()]);
        prop_assert_eq!(on_disk.into_values().collect::<Vec<_>>(), vec![records[0].clone()], "nothing stays on disk");
        check_derived(&state);
    }
}

#[test]
fn who_is_removed_keeps_what_it_wrote_until_it_has_stopped_it() {
    let mut mine = State::new(actor(3, 5));
    let alloc = RecordId::allocation(node(3), AllocId(1));
    let claim = mine.stage_actual(NOW, alloc.clone(), Some(b"a claim"));
    merge_all(&mut mine, &[claim, removal(1, RemovalKind::Revoked, 10)]);
    assert!(mine.value(&alloc).is_some());
}
