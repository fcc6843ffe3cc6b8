//! Every bound of memory, queue, datagram and key in one place, with the relations between them checked by the compiler.

use crate::time::Duration;

/// Largest UDP payload that leaves a node, sealing included (fits the smallest IPv6 path and most tunnels).
pub const MAX_DATAGRAM: usize = 1_200;
/// Header and tag that sealing adds: first byte, key id (8), generation (8), counter (8), tag (16); rounded up.
pub const SEAL_OVERHEAD: usize = 48;
/// What the core may put into one packet.
pub const MAX_PACKET: usize = MAX_DATAGRAM - SEAL_OVERHEAD;
/// What the layer above may say in one packet.
pub const MAX_WORD: usize = MAX_PACKET - 64;
/// Largest frame on a link, header included.
pub const MAX_FRAME: usize = 256 * 1024;
/// Largest record, envelope included.
pub const MAX_RECORD: usize = 128 * 1024;
/// Largest record key.
pub const MAX_KEY: usize = 512;
/// Largest record that may ride on SWIM packets ("urgent and small").
pub const MAX_RIDER: usize = 600;
/// Concurrent values that one register keeps; the oldest by HLC are dropped beyond it, the same ones everywhere.
pub const MAX_SIBLINGS: usize = 16;
/// Records in one batch.
pub const MAX_BATCH: usize = 1_024;
/// Bytes queued for one link before the lowest class is dropped (anti-entropy recovers it).
pub const MAX_LINK_QUEUE: usize = 4 * 1024 * 1024;
/// Bytes of desired state that a node may write in a second, over time.
pub const WRITE_RATE: u64 = 128 * 1024;
/// It may be ahead of that by so long: half a megabyte at once.
pub const WRITE_AHEAD: Duration = Duration::from_secs(4);
/// Members of one cluster.
pub const MAX_MEMBERS: usize = 10_000;
/// How far a stamp may lie ahead of our own clock and still move it; also the admission bound of writes.
pub const MAX_CLOCK_AHEAD: Duration = Duration::from_secs(300);
/// Length of a stack, service or node name.
pub const MAX_NAME: usize = 63;
/// Replicas of one service.
pub const MAX_REPLICAS: u32 = 10_000;
/// Services of one stack.
pub const MAX_SERVICES: usize = 1_000;

const _: () = assert!(MAX_RIDER < MAX_PACKET);
const _: () = assert!(MAX_RECORD + 1_024 < MAX_FRAME);
const _: () = assert!(MAX_FRAME < MAX_LINK_QUEUE);
const _: () = assert!(MAX_SERVICES < MAX_BATCH);
