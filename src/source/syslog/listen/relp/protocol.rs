//! Frames of RELP, the Reliable Event Logging Protocol: `TXNR SP COMMAND SP LENGTH [SP DATA] LF`. Pure.
//! Source: the protocol's description at librelp.

/// The longest transaction number, command and length, in digits and letters.
const NUMBER: usize = 9;
const COMMAND: usize = 32;

/// What stands at the beginning of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A frame that takes so many bytes.
    Frame {
        /// Its transaction.
        number: u32,
        /// What it asks for.
        command: &'a [u8],
        /// Where its data begin and end.
        data: (usize, usize),
        /// All of it, bytes.
        len: usize,
    },
    /// More bytes are needed.
    More,
    /// No RELP, or data longer than `most`; in a word.
    Bad(&'static str),
}

/// Looks for a frame with data of at most `most` bytes.
#[must_use]
pub fn parse(bytes: &[u8], most: usize) -> Parsed<'_> {
    let Some((number, at)) = digits(bytes, 0) else { return short(bytes, NUMBER + 1, "no transaction number") };
    if bytes.get(at).is_none() {
        return Parsed::More;
    }
    if bytes.get(at) != Some(&b' ') {
        return Parsed::Bad("no space behind the transaction number");
    }
    let begin = at + 1;
    let letters = bytes.get(begin..).unwrap_or_default().iter().take(COMMAND + 1).take_while(|byte| byte.is_ascii_alphabetic()).count();
    let command = bytes.get(begin..begin + letters).unwrap_or_default();
    if letters == 0 || letters > COMMAND {
        return if letters == 0 && bytes.len() <= begin { Parsed::More } else { Parsed::Bad("no command") };
    }
    match bytes.get(begin + letters) {
        None => return Parsed::More,
        Some(b' ') => {}
        Some(_) => return Parsed::Bad("no space behind the command"),
    }
    let from = begin + letters + 1;
    let Some((length, at)) = digits(bytes, from) else { return short(bytes.get(from..).unwrap_or_default(), NUMBER + 1, "no length") };
    let length = length as usize;
    if length > most {
        return Parsed::Bad("longer than max_message_size");
    }
    let data = match (bytes.get(at), length) {
        (None, _) => return Parsed::More,
        (Some(b' '), _) => (at + 1, at + 1 + length),
        (Some(b'\n'), 0) => (at, at),
        _ => return Parsed::Bad("no space behind the length"),
    };
    match bytes.get(data.1) {
        None => Parsed::More,
        Some(b'\n') => Parsed::Frame { number, command, data, len: data.1 + 1 },
        Some(_) => Parsed::Bad("no newline at its end"),
    }
}

/// A number at `from`, and where it ends; `None` if there is none, or too long a one, or it may go on.
fn digits(bytes: &[u8], from: usize) -> Option<(u32, usize)> {
    let rest = bytes.get(from..)?;
    let len = rest.iter().take(NUMBER + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 || len > NUMBER || len == rest.len() {
        return None;
    }
    let number = rest.iter().take(len).fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some((number, from + len))
}

fn short(bytes: &[u8], most: usize, wrong: &'static str) -> Parsed<'static> {
    let open = bytes.len() < most && bytes.iter().all(u8::is_ascii_digit);
    if open { Parsed::More } else { Parsed::Bad(wrong) }
}

/// An answer to a transaction, with these words behind its code.
#[must_use]
pub fn answer(number: u32, words: &str) -> Vec<u8> {
    format!("{number} rsp {} {words}\n", words.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_found_and_what_is_none_is_said() {
        let frame = b"12 syslog 5 <13>a\nrest";
        assert_eq!(parse(frame, 100), Parsed::Frame { number: 12, command: b"syslog", data: (12, 17), len: 18 });
        assert_eq!(parse(b"3 close 0\n", 100), Parsed::Frame { number: 3, command: b"close", data: (9, 9), len: 10 });
        for cut in 0..17 {
            assert_eq!(parse(&frame[..cut], 100), Parsed::More, "{cut}");
        }
        for bad in [
            &b"x"[..],
            b"1234567890 a 0\n",
            b"1_",
            b"1 5",
            b"1 syslog x",
            b"1 syslog 101 ",
            b"1 syslog 1 ab",
            b"1 syslog 1234567890",
            b"<13>hello",
        ] {
            assert!(matches!(parse(bad, 100), Parsed::Bad(_)), "{bad:?}");
        }
        assert_eq!(answer(7, "200 OK"), b"7 rsp 6 200 OK\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), most in 0_usize..50) {
            if let Parsed::Frame { data, len, .. } = parse(&bytes, most) {
                prop_assert!(data.0 <= data.1 && data.1 - data.0 <= most && data.1 < len && len <= bytes.len());
            }
        }

        #[test]
        fn a_frame_comes_back(number in 0_u32..1_000_000_000, command in "[a-z]{1,32}", data in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = format!("{number} {command} {} ", data.len()).into_bytes();
            bytes.extend_from_slice(&data);
            bytes.push(b'\n');
            let Parsed::Frame { number: n, command: c, data: (from, to), len } = parse(&bytes, 60) else { panic!("{:?}", parse(&bytes, 60)) };
            prop_assert_eq!((n, c, &bytes[from..to], len), (number, command.as_bytes(), &data[..], bytes.len()));
        }
    }
}
