//! `logferry tap`: hands on what a tap shows, until nobody listens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::Refusal;
use crate::tap::{Flow, Taps};

/// How often what has come is handed on.
const EVERY: Duration = Duration::from_millis(100);
/// How soon at least, so that it is noticed when the other end has gone.
const SIGN: Duration = Duration::from_secs(1);

/// Hands on what flows through this source as long as `tell` takes it.
///
/// # Errors
/// It can't be tapped.
pub fn flow(taps: &Taps, source: &Arc<str>, rate: u32, tell: &mut dyn FnMut(Flow) -> bool) -> Result<(), Refusal> {
    let tapping = taps.open(source, rate).map_err(Refusal)?;
    let (mut skipped, mut told) = (0, Instant::now());
    loop {
        let mut flow = tapping.next(EVERY);
        skipped += flow.skipped;
        if flow.events.is_empty() && told.elapsed() < SIGN {
            continue;
        }
        (flow.skipped, skipped, told) = (skipped, 0, Instant::now());
        if !tell(flow) {
            return Ok(());
        }
        // So that a flood is handed on in few lines.
        std::thread::sleep(EVERY);
    }
}
