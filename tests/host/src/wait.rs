//! Waiting for a condition, with a deadline, and with the last thing that was missing in the failure's message.

use std::time::{Duration, Instant};

/// A pause between two looks, not a wait for something to have happened by then.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until it is answered with `Ok`.
///
/// # Panics
/// When the time is over, with the last reason that `probe` gave: that is a failed test.
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(missing) if start.elapsed() > within => late(what, within, &missing),
            Err(_) => std::thread::park_timeout(PAUSE),
        }
    }
}

/// The same inside a tokio runtime.
///
/// # Panics
/// When the time is over, with the last reason that `probe` gave: that is a failed test.
pub async fn until_async<T>(what: &str, within: Duration, mut probe: impl AsyncFnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(missing) if start.elapsed() > within => late(what, within, &missing),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Asks until it is answered with `true`, inside a tokio runtime.
///
/// # Panics
/// When the time is over: that is a failed test.
pub async fn until_true(what: &str, within: Duration, condition: impl AsyncFn() -> bool) {
    let probe = async || if condition().await { Ok(()) } else { Err("it is not so".to_owned()) };
    until_async(what, within, probe).await;
}

fn late(what: &str, within: Duration, missing: &str) -> ! {
    panic!("{what}: not within {within:?}; at last: {missing}")
}
