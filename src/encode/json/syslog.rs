//! A syslog message as JSON: parsed and written in one go, its fields copied from the frame into the arena. Apart from the files' writer because
//! time, severity and half a dozen fields are each message's own.

use jiff::tz::TimeZone;

use super::{Found, digits, escape, escape_lossy, message};
use crate::batch::{Batch, Event, Stream};
use crate::source::syslog::arrival::format::received_ns;
use crate::source::syslog::intake::Transport;
use crate::source::syslog::parse::time::Time;
use crate::source::syslog::parse::{Context, Parsed, facility_word, parse, rfc5424, severity_word};

/// Writes messages; keeps the pieces that those of a batch share.
#[derive(Debug)]
pub(super) struct Syslog {
    context: Context,
    /// From after the time of observation to the stream in the event id.
    head: Vec<u8>,
    /// Peer and transport.
    peer: Vec<u8>,
    event_time: Seconds,
    received: Seconds,
    structured: Structured,
}

/// The text of a second, which the next time often is of as well.
#[derive(Debug)]
pub(crate) struct Seconds {
    second: i64,
    /// `2026-11-24T01:01:55`.
    text: [u8; 19],
}

impl Seconds {
    pub(crate) fn new() -> Seconds {
        Seconds { second: 0, text: *b"1970-01-01T00:00:00" }
    }

    /// Writes a time in RFC 3339, with so many digits of its fraction.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, time: Time) {
        let second = time.ns.div_euclid(1_000_000_000);
        if second != self.second {
            self.second = second;
            self.text = text_of(second);
        }
        out.extend_from_slice(&self.text);
        if time.digits > 0 {
            // Ten digits, the last one 0: two at a time, since each division waits for the one before.
            let mut rest = time.ns.rem_euclid(1_000_000_000).cast_unsigned() * 10;
            let mut fraction = [b'0'; 10];
            for pair in fraction.as_chunks_mut::<2>().0.iter_mut().rev() {
                let low = u8::try_from(rest % 100).unwrap_or(0);
                *pair = [b'0' + low / 10, b'0' + low % 10];
                rest /= 100;
            }
            out.push(b'.');
            out.extend_from_slice(fraction.get(..usize::from(time.digits)).unwrap_or(&fraction));
        }
        out.push(b'Z');
    }
}

/// A second since 1970 as RFC 3339 has it, without the zone.
fn text_of(second: i64) -> [u8; 19] {
    let (days, rest) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    // The proleptic Gregorian calendar, its years beginning in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    let fields = [(0, 4, year), (5, 2, month), (8, 2, day), (11, 2, rest / 3600), (14, 2, rest / 60 % 60), (17, 2, rest % 60)];
    for (at, len, mut value) in fields {
        for digit in text.iter_mut().skip(at).take(len).rev() {
            *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
            value /= 10;
        }
    }
    text
}

impl Syslog {
    pub(super) fn new(zone: TimeZone) -> Syslog {
        let context = Context { received_ns: 0, zone };
        Syslog {
            context,
            head: Vec::new(),
            peer: Vec::new(),
            event_time: Seconds::new(),
            received: Seconds::new(),
            structured: Structured::default(),
        }
    }

    /// Renders what all messages of a batch share; `host` is escaped already.
    pub(super) fn begin(&mut self, host: &[u8], stream: &Stream, peer: &str, transport: Transport) {
        self.head.clear();
        self.head.extend_from_slice(br#"","host":""#);
        self.head.extend_from_slice(host);
        self.head.extend_from_slice(br#"","source":""#);
        escape(&mut self.head, stream.source.as_bytes());
        self.head.extend_from_slice(br#"","type":"syslog","event_id":""#);
        self.head.extend_from_slice(format!("{}:", stream.id).as_bytes());
        self.peer.clear();
        self.peer.extend_from_slice(br#","peer":""#);
        escape(&mut self.peer, peer.as_bytes());
        self.peer.extend_from_slice(br#"","transport":""#);
        self.peer.extend_from_slice(transport.word().as_bytes());
        self.peer.push(b'"');
    }

    /// Writes one message of the batch, which begins at `offset` in its stream; `end` is what stands behind all fields, `extra` what rules have found.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, batch: &Batch, event: &Event, offset: u64, (end, extra): (&[u8], Found<'_>)) {
        let frame = batch.event_bytes(event);
        // Of a message in parts the later ones have no header to be read by.
        self.context.received_ns = received_ns(&batch.bytes, event.start as usize);
        let parsed = match event.part() {
            None => parse(frame, &self.context),
            Some(_) => Parsed { message: frame, error: Some("in parts"), ..Parsed::default() },
        };
        let received = Time { ns: self.context.received_ns, digits: 6 };
        out.extend_from_slice(br#"{"v":1,"timestamp":""#);
        let given = extra.time.map(|ns| Time { ns, digits: 9 });
        self.event_time.write(out, given.or(parsed.time).unwrap_or(received));
        out.extend_from_slice(br#"","observed_timestamp":""#);
        self.received.write(out, received);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(digits(offset, &mut [0; 20]));
        if let Some((part, _)) = event.part() {
            out.push(b':');
            out.extend_from_slice(digits(part.into(), &mut [0; 20]));
        }
        out.push(b'"');
        if let Some(severity) = extra.severity.or(parsed.severity) {
            word(out, br#","severity":""#, severity_word(severity));
        }
        message(out, parsed.message);
        if let Some((part, last)) = event.part() {
            out.extend_from_slice(br#","part":"#);
            out.extend_from_slice(digits(part.into(), &mut [0; 20]));
            out.extend_from_slice(if last { br#","last":true"# } else { br#","last":false"# });
        }
        if event.partial() {
            out.extend_from_slice(br#","partial":true"#);
        }
        match parsed.error {
            Some(error) => word(out, br#","parse_error":""#, error),
            None => extra.write_error(out),
        }
        field(out, br#","hostname":""#, parsed.hostname);
        out.extend_from_slice(&self.peer);
        if let Some(facility) = parsed.facility {
            word(out, br#","facility":""#, facility_word(facility));
        }
        field(out, br#","app":""#, parsed.app);
        field(out, br#","procid":""#, parsed.procid);
        field(out, br#","msgid":""#, parsed.msgid);
        if let Some(data) = parsed.structured_data {
            self.structured.write(out, data);
        }
        extra.write_fields(out);
        out.extend_from_slice(end);
    }
}

/// A field whose value needs no escape.
fn word(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

fn field(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        text(out, value);
        out.push(b'"');
    }
}

/// Any bytes as text; most of them are ASCII, for which a look at each character is too much.
fn text(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_ascii() { escape(out, value) } else { escape_lossy(out, value) }
}

/// A piece of structured data: from, to.
type Span = (usize, usize);

/// A name with what belongs to it: a parameter's value, or the parameters of an element, as places in the list of all.
#[derive(Clone, Copy, Debug)]
struct Named {
    name: Span,
    of: Span,
    /// The next one of this name, if it has one.
    next: Option<usize>,
    /// It is the first of its name.
    first: bool,
}

/// Structured data as an object of objects. A parameter that an element has several times becomes a list, and so does an element that is there
/// several times. Keeps its lists from message to message, so that none is allocated.
#[derive(Debug, Default)]
struct Structured {
    elements: Vec<Named>,
    params: Vec<Named>,
    /// For [`link`].
    order: Vec<usize>,
}

impl Structured {
    fn write(&mut self, out: &mut Vec<u8>, data: &[u8]) {
        self.elements.clear();
        self.params.clear();
        let (elements, params) = (&mut self.elements, &mut self.params);
        let span = |piece: &[u8]| {
            let from = piece.as_ptr().addr() - data.as_ptr().addr();
            (from, from + piece.len())
        };
        let named = |name, of| Named { name: span(name), of, next: None, first: true };
        rfc5424::elements(data, |name, value| match (value, elements.last_mut()) {
            (Some(value), Some(element)) => {
                params.push(named(name, span(value)));
                element.of.1 = params.len();
            }
            _ => elements.push(named(name, (params.len(), params.len()))),
        });
        link(elements, data, &mut self.order);
        for element in elements.iter() {
            link(params.get_mut(element.of.0..element.of.1).unwrap_or_default(), data, &mut self.order);
        }
        out.extend_from_slice(br#","structured_data":{"#);
        grouped(out, data, elements, |out, (from, to)| {
            out.push(b'{');
            grouped(out, data, params.get(from..to).unwrap_or_default(), |out, value| {
                out.push(b'"');
                rfc5424::unescaped(piece(data, value), |piece| text(out, piece));
                out.push(b'"');
            });
            out.push(b'}');
        });
        out.push(b'}');
    }
}

fn piece(data: &[u8], (from, to): Span) -> &[u8] {
    data.get(from..to).unwrap_or_default()
}

/// How many names are compared each with each; more of them are sorted, so that no message costs more than its length is worth.
const FEW: usize = 16;

/// Links those of one name, in their order.
fn link(list: &mut [Named], data: &[u8], order: &mut Vec<usize>) {
    if list.len() > FEW {
        order.clear();
        order.extend(0..list.len());
        order.sort_by_key(|at| list.get(*at).map(|named| piece(data, named.name)));
        for pair in order.windows(2) {
            if let [one, other] = *pair {
                join(list, data, one, other);
            }
        }
        return;
    }
    for other in 1..list.len() {
        for one in (0..other).rev() {
            if join(list, data, one, other) {
                break;
            }
        }
    }
}

/// Links two, if they are of one name; says whether they are.
fn join(list: &mut [Named], data: &[u8], one: usize, other: usize) -> bool {
    let Ok([before, after]) = list.get_disjoint_mut([one, other]) else { return false };
    let same = piece(data, before.name) == piece(data, after.name);
    if same {
        (before.next, after.first) = (Some(other), false);
    }
    same
}

/// Names with what they have, those of one name together, as a list where they are several.
fn grouped(out: &mut Vec<u8>, data: &[u8], list: &[Named], write: impl Fn(&mut Vec<u8>, Span)) {
    for (index, named) in list.iter().filter(|named| named.first).enumerate() {
        out.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
        text(out, piece(data, named.name));
        out.extend_from_slice(if named.next.is_some() { b"\":[" } else { b"\":" });
        write(out, named.of);
        let mut next = named.next;
        while let Some(more) = next.and_then(|next| list.get(next)) {
            out.push(b',');
            write(out, more.of);
            next = more.next;
        }
        if named.next.is_some() {
            out.push(b']');
        }
    }
}
