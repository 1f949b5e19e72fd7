//! Any message: its fields lie within it, and structured data that was found is sound.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use logferry::source::syslog::parse::{Context, parse, rfc5424};

fuzz_target!(|frame: &[u8]| {
    let context = Context { received_ns: 1_772_712_000_000_000_000, zone: TimeZone::UTC };
    let parsed = parse(frame, &context);
    let within = |field: Option<&[u8]>| field.is_none_or(|field| frame.as_ptr_range().contains(&field.as_ptr()) || field.is_empty());
    assert!(within(parsed.hostname) && within(parsed.app) && within(parsed.procid) && within(parsed.msgid) && within(Some(parsed.message)));
    let mut elements = 0;
    rfc5424::elements(parsed.structured_data.unwrap_or_default(), |_, value| elements += usize::from(value.is_none()));
    assert!(parsed.structured_data.is_none() || elements > 0);
});
