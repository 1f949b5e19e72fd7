//! Sources: where events come from. Each kind reads in its own thread and hands batches to an [`Outlet`]; no source knows a lane.

pub mod absent;
pub mod file;
pub mod journald;
pub mod multiline;
pub mod pulse;
pub mod syslog;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::batch::{Batch, StreamId};

/// Where a source hands its batches; behind it are the rules, the encoder and the lanes. Never blocks: only readers wait, for the budget.
pub trait Outlet: Send {
    /// Takes a batch whose ticket and charge the source has already drawn.
    fn push(&mut self, batch: Batch);

    /// How many of these raw bytes fit into one message of this source's format: all of them, or the length of the longest prefix that
    /// ends on a character boundary (never 0).
    fn fits(&self, bytes: &[u8]) -> usize;

    /// Whether it leaves out itself what is read again and was settled before this run; else the source does.
    fn skips(&self) -> bool {
        false
    }

    /// What of this stream is unsettled can't be read again: it is to be made durable at once.
    fn protect(&mut self, stream: StreamId) {
        let _ = stream;
    }
}

/// Held by whoever has still something to open; when all have let go, the service is ready.
#[derive(Clone, Debug, Default)]
pub struct Opening(Arc<()>);

impl Opening {
    /// Whether nobody but the one who asks holds it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// A new stream's id, from the kernel's random numbers; where there are none yet, from the clock.
#[must_use]
pub fn new_stream() -> StreamId {
    let mut bytes = [0_u8; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => StreamId(u64::from_ne_bytes(bytes)),
        _ => StreamId(SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))),
    }
}
