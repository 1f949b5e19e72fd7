//! Streams of sources that the configuration no longer has: no source looks after them, so somebody else must let them go in the end.

use std::collections::HashSet;
use std::time::Duration;

use crate::settlement::Settlement;

/// Streams of sources that are not among `present`, and that were last seen longer than `forget_after` before `now_s` (seconds since 1970), leave
/// the state; their counts stay with their source. Says how many left. What is on its way of a stream keeps it. For the start and once a day.
pub fn forget_absent<'a>(settlement: &Settlement, present: impl IntoIterator<Item = &'a str>, forget_after: Duration, now_s: i64) -> usize {
    let present: HashSet<&str> = present.into_iter().collect();
    let limit = now_s.saturating_sub(i64::try_from(forget_after.as_secs()).unwrap_or(i64::MAX));
    let mut forgotten = 0;
    for (source, _) in settlement.books().iter().filter(|(source, _)| !present.contains(&**source)) {
        let old = settlement.streams_of(source).into_iter().filter(|(_, row)| row.seen_s < limit);
        let left = old.filter(|(id, _)| settlement.forget(*id)).count();
        if left > 0 {
            tracing::info!(%source, streams = left, "the configuration no longer has this source: what was known of its files for longer than agent.forget_after is forgotten");
        }
        forgotten += left;
    }
    forgotten
}
