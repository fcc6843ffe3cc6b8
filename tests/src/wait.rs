//! Waiting for a condition, with a deadline and with the last thing that was missing in the failure's message.

use std::time::{Duration, Instant};

/// Asks until it is answered with `Ok`.
///
/// # Panics
/// When the time is over, with the last reason that `probe` gave: that is a failed test.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(missing) if start.elapsed() > within => {
                panic!("{what}: not within {within:?}; at last: {missing}")
            }
            // A pause between two looks, not a wait for something to have happened by then.
            Err(_) => std::thread::park_timeout(Duration::from_millis(20)),
        }
    }
}
