//! The arithmetic of leases, all of it, with its relations checked by the compiler.
//!
//! A voter grants a replica to one node for [`LEASE`], from the moment at which it takes the request, on its own clock. The owner
//! counts from the moment at which it *sent* that request, on its own clock, and less: [`HELD`]. Both clocks go on while a host
//! sleeps. The grant begins after the owner's count, so the owner's ends first if its clock is not much slower than the voter's:
//! that is what [`DRIFT`] and [`MARGIN`] are for. At the end of HELD a keeper sends SIGKILL, which takes at most [`KILL`].

use dunlin_gossip::time::Duration;

/// A grant lasts so long. Longer: a dead owner's replica waits longer for the next; shorter: more messages, and an agent has less
/// time to come back before its work is killed.
pub const LEASE: Duration = Duration::from_secs(10);
/// Clocks run at most so many hundredths too fast or too slow.
pub const DRIFT: u64 = 1;
/// What is left over for the other clock's drift, and for the kill.
pub const MARGIN: Duration = Duration::from_millis(600);
/// An owner counts a grant for so long: (1 - drift) x lease - margin.
pub const HELD: Duration = Duration::from_millis(ms(LEASE) * (100 - DRIFT) / 100 - ms(MARGIN));
/// From the end of what is held to the end of the last process.
pub const KILL: Duration = Duration::from_millis(500);
/// An owner asks again after so long.
pub const RENEW: Duration = Duration::from_secs(2);
/// Who is due within so long is asked for in the same packet.
pub const TOGETHER: Duration = Duration::from_millis(250);
/// A request that was not answered by then is made anew.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// An agent that cannot renew begins to stop its work so long before the keeper kills it.
pub const STOP_AHEAD: Duration = Duration::from_secs(2);
/// Nothing is started that has not so much left.
pub const START_LEAST: Duration = Duration::from_secs(4);
/// Before voters change once more, every grant under the list before the present one must be over.
pub const LIST_PAUSE: Duration = Duration::from_millis(ms(LEASE) + ms(MARGIN));
/// A voter that is down for so long is replaced, where another node can vote.
pub const DOWN_LONG: Duration = Duration::from_secs(60);
/// A voter who may propose a change waits so long for each one before it.
pub const TURN: Duration = Duration::from_secs(5);
/// Epochs are agreed upon so far ahead, so that a claim need not ask anew.
pub const EPOCHS_AHEAD: Duration = Duration::from_secs(60);

/// Milliseconds.
const fn ms(time: Duration) -> u64 {
    time.as_secs() * 1_000 + time.subsec_millis() as u64
}

// The slowest owner's count, and the kill, end before the fastest voter's grant.
const _: () = assert!(
    ms(HELD) * 100 * (100 + DRIFT) + ms(KILL) * (100 - DRIFT) * (100 + DRIFT) < ms(LEASE) * 100 * (100 - DRIFT)
);
// What is asked for together is not asked for twice.
const _: () = assert!(ms(RENEW) > ms(TOGETHER));
// Two renewals in a row may be lost, and the third answered late, before anything is stopped.
const _: () = assert!(3 * ms(RENEW) + ms(PATIENCE) < ms(HELD) - ms(STOP_AHEAD));
// What has just been started is not stopped before a renewal was tried.
const _: () = assert!(ms(START_LEAST) >= ms(STOP_AHEAD) + ms(RENEW) && ms(START_LEAST) < ms(HELD));
// The fastest proposer's pause outlasts the slowest voter's grant.
const _: () = assert!(ms(LIST_PAUSE) * (100 - DRIFT) > ms(LEASE) * (100 + DRIFT));
