//! Streams of syslog, cut anywhere: no byte is made up, the buffer stays small, and RELP's frames lie within their bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use logferry::source::syslog::frame::{Facts, Framer, Limits, TooLong};
use logferry::source::syslog::listen::relp::protocol::{Parsed, parse};

fuzz_target!(|input: (Vec<u8>, u8, bool)| {
    let (bytes, step, truncate) = input;
    let too_long = if truncate { TooLong::Truncate } else { TooLong::Split };
    let mut framer = Framer::new(Limits { piece: 64, message: 100, too_long });
    let (mut buffer, mut frames, mut facts, mut kept) = (Vec::new(), Vec::new(), Facts::default(), 0);
    for piece in bytes.chunks(usize::from(step).max(1)) {
        buffer.extend_from_slice(piece);
        frames.clear();
        let done = framer.frames(&buffer, &mut frames, &mut facts);
        assert!(frames.iter().all(|frame| (frame.start + frame.len) as usize <= done && frame.len <= 64));
        kept += frames.iter().map(|frame| u64::from(frame.len)).sum::<u64>();
        buffer.drain(..done);
        assert!(buffer.len() <= 64 + 32);
    }
    frames.clear();
    framer.finish(&buffer, &mut frames, &mut facts);
    kept += frames.iter().map(|frame| u64::from(frame.len)).sum::<u64>();
    assert!(kept + facts.cut.1 <= bytes.len() as u64);
    if let Parsed::Frame { data, len, .. } = parse(&bytes, 100) {
        assert!(data.0 <= data.1 && data.1 < len && len <= bytes.len());
    }
});
