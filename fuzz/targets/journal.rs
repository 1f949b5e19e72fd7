//! Real files of the systemd journal with bytes changed where their objects are: they are read, or told as damaged, and that ends.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use logferry::source::journald::fuzz::{Edit, Real, read};

static REAL: LazyLock<Vec<Arc<Real>>> = LazyLock::new(|| {
    let fixtures: [&[u8]; 4] = [
        include_bytes!("../../tests/fixtures/journal-257/remote-lz4.journal.zst"),
        include_bytes!("../../tests/fixtures/journal-257/remote-xz.journal.zst"),
        include_bytes!("../../tests/fixtures/journal-257/remote-zstd.journal.zst"),
        include_bytes!("../../tests/fixtures/journal-257/system.journal.zst"),
    ];
    fixtures.map(|bytes| Arc::new(Real::new(zstd::decode_all(bytes).unwrap_or_default()))).into()
});

fuzz_target!(|input: (u8, Vec<Edit>, Option<u16>, bool)| {
    let (which, edits, cut, closed) = input;
    let _ = read(&REAL[usize::from(which) % REAL.len()], &edits, cut, closed);
});
