//! Any bytes as the segment of an arrival log: blocks are read or told as damage, and the search for the next one ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logferry::source::syslog::arrival::format::{Block, SegmentHeader, messages, next_block};

fuzz_target!(|bytes: &[u8]| {
    let _ = SegmentHeader::parse(bytes);
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match Block::parse(rest) {
            Some(block) => {
                for message in messages(block.messages) {
                    assert!(block.messages.get(message.start..message.start + message.len).is_some());
                }
                at += block.header.block_len();
            }
            None => match next_block(rest, 1) {
                Some(next) => at += next,
                None => break,
            },
        }
    }
});
