//! The rows of the state database: any bytes are read or refused, and what was read is written so that it is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logferry::gaps::Gap;
use logferry::gaps::outbox::Counters;
use logferry::ledger::Ledger;
use logferry::snapshot::rows::StreamRow;
use logferry::spill::LaneRow;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(row) = StreamRow::from_bytes(bytes) {
        assert_eq!(StreamRow::from_bytes(&row.to_bytes()).as_ref(), Ok(&row));
    }
    if let Ok(books) = Ledger::from_bytes(bytes) {
        assert_eq!(Ledger::from_bytes(&books.to_bytes()).as_ref(), Ok(&books));
    }
    if let Ok(row) = LaneRow::from_bytes(bytes) {
        assert_eq!(LaneRow::from_bytes(&row.to_bytes()).as_ref(), Ok(&row));
    }
    if let Ok(gap) = Gap::from_bytes(7, bytes) {
        assert_eq!(Gap::from_bytes(7, &gap.to_bytes()).as_ref(), Ok(&gap));
    }
    if let Ok(counters) = Counters::from_bytes(bytes) {
        assert_eq!(Counters::from_bytes(&counters.to_bytes()).as_ref(), Ok(&counters));
    }
});
