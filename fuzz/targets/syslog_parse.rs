//! Any message: its fields lie within it, structured data that was found is sound, and a whole header of RFC 5424 put together again is the frame.
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
    if let (Some(hostname), Some(app), Some(procid), Some(msgid), Some(data), None) =
        (parsed.hostname, parsed.app, parsed.procid, parsed.msgid, parsed.structured_data, parsed.error)
    {
        // All but the time, which has many spellings of one value, and the blanks and the BOM in front of the message, which are not kept.
        let head = hostname.as_ptr() as usize - frame.as_ptr() as usize;
        let fields = [hostname, app, procid, msgid, data].join(&b' ');
        let rest = frame[head..].strip_prefix(&*fields).expect("fields stand next to each other");
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        assert_eq!(rest.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(rest), parsed.message);
        let pri = frame[1..].split(|byte| *byte == b'>').next().and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u8>().ok());
        assert_eq!(pri, parsed.facility.zip(parsed.severity).map(|(facility, severity)| facility * 8 + severity));
    }
});
