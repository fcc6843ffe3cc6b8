//! What lies on a disk: a state file is written as an agent writes it, then damaged, then opened again.
//!
//! The law: opening says what is wrong, or gives records that were written, each of them whole; it invents nothing and does not
//! panic. A file that nobody damaged gives everything that was confirmed, in whatever moment its agent was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dunlin_agent::disk::Disk;
use dunlin_gossip::face::{PersistOp, PersistSeq};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{ClusterId, Generation, NodeId};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Class, Kind, Record, RecordId, Stamp};

use crate::mutate::mutate;

const CLUSTER: ClusterId = ClusterId([9; 16]);
const FILE: &str = "state.redb";
/// A disk that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

type Slots = BTreeMap<Vec<u8>, Arc<[u8]>>;

fn record(rng: &mut Rng) -> Record {
    let node = NodeId([u8::try_from(rng.below(6)).unwrap_or(0); 16]);
    let kind = *rng.pick(&[Kind::HEADER, Kind::ALLOCATION, Kind(0x7f01)]).unwrap_or(&Kind::HEADER);
    let stamp = Stamp::Sequence { generation: Generation(rng.below(5)), sequence: rng.below(1_000) };
    let size = usize::try_from(rng.below(400)).unwrap_or(0);
    let id = RecordId::new(Class::OneWriter, kind, &node.0);
    Record::write(id, stamp, Hlc(rng.next_u64() >> 8), Some(&vec![7; size]))
}

/// Commits like an agent; what the disk confirmed is in the slots, everything ever written in the set.
fn write(rng: &mut Rng, data: &Path, boots: u64) -> Result<(Slots, BTreeSet<Vec<u8>>), String> {
    let (mut slots, mut ever) = (Slots::new(), BTreeSet::new());
    for boot in 1..=boots {
        let (disk, loaded) = Disk::open(data, CLUSTER, Wall(boot), 0).map_err(|e| e.to_string())?;
        same(&slots, &loaded.records)?;
        let mut progress = disk.progress();
        let commits = rng.range(1..6);
        for seq in 1..=commits {
            let mut ops = Vec::new();
            for _ in 0..rng.range(1..12) {
                let record = record(rng);
                let slot = record.slot();
                if rng.below(5) == 0 {
                    slots.remove(&slot);
                    ops.push(PersistOp::Delete { slot });
                } else {
                    slots.insert(slot.clone(), Arc::clone(record.bytes()));
                    ever.insert(record.bytes().to_vec());
                    ops.push(PersistOp::Put { slot, bytes: Arc::clone(record.bytes()) });
                }
            }
            disk.persist(PersistSeq(seq), ops);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|e| e.to_string())?;
        let done =
            async { progress.wait_for(|p| p.persisted >= PersistSeq(commits) || p.failed.is_some()).await.is_ok() };
        let confirmed = runtime.block_on(async { tokio::time::timeout(PATIENCE, done).await });
        if confirmed != Ok(true) {
            return Err(format!("boot {boot}: the disk does not confirm {commits} commits"));
        }
    }
    Ok((slots, ever))
}

fn same(slots: &Slots, records: &[Record]) -> Result<(), String> {
    let held: BTreeSet<&[u8]> = records.iter().map(|record| &record.bytes()[..]).collect();
    let wanted: BTreeSet<&[u8]> = slots.values().map(|bytes| &bytes[..]).collect();
    if held == wanted { Ok(()) } else { Err(format!("{} records confirmed, others came back", wanted.len())) }
}

fn damage(rng: &mut Rng, path: &Path) -> Result<(), String> {
    let mut bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let other = bytes.get(..4_096).unwrap_or_default().to_vec();
    match rng.below(4) {
        0 => bytes.truncate(usize::try_from(rng.below(bytes.len() as u64 + 1)).unwrap_or(0)),
        // A page that was not written, or was written somewhere else.
        1 => {
            let page = usize::try_from(rng.below((bytes.len() / 4_096).max(1) as u64)).unwrap_or(0) * 4_096;
            let fill = if rng.below(2) == 0 { vec![0; 4_096] } else { other };
            bytes.iter_mut().skip(page).zip(fill).for_each(|(byte, new)| *byte = new);
        }
        2 => {
            let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap_or(0);
            let end = (at + 64).min(bytes.len());
            let mut part = bytes.get(at..end).unwrap_or_default().to_vec();
            mutate(rng, &mut part, &other);
            part.resize(end - at, 0);
            bytes.splice(at..end, part);
        }
        _ => {
            for _ in 0..rng.range(1..20) {
                let at = usize::try_from(rng.below(bytes.len() as u64)).unwrap_or(0);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
        }
    }
    std::fs::write(path, bytes).map_err(|e| e.to_string())
}

/// One disk: written, damaged most of the time, opened.
pub(crate) fn case(seed: Seed) -> Result<(), String> {
    let mut rng = seed.split("disk").rng();
    let folder = tempfile::TempDir::with_prefix("dunlin-fuzz-").map_err(|e| e.to_string())?;
    let boots = rng.range(1..4);
    let (slots, ever) = write(&mut rng, folder.path(), boots)?;
    let is_damaged = rng.below(5) > 0;
    if is_damaged {
        damage(&mut rng, &folder.path().join(FILE))?;
    }
    match Disk::open(folder.path(), CLUSTER, Wall(100), 0) {
        Ok((_, loaded)) if !is_damaged => same(&slots, &loaded.records),
        Ok((_, loaded)) => {
            let invented = loaded.records.iter().find(|record| !ever.contains(&record.bytes()[..]));
            invented.map_or(Ok(()), |record| Err(format!("{record:?} was never written")))
        }
        Err(error) if !is_damaged => Err(error.to_string()),
        Err(_) => Ok(()),
    }
}
