//! Files of dead letters: any bytes are read, or told as damage.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logferry::dead_letters::fuzz_letters;

fuzz_target!(|bytes: &[u8]| fuzz_letters(bytes));
