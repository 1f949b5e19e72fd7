//! What commands print: tables whose columns line up, figures as people read them, colour only on a terminal. Pure but for [`say`] and
//! [`Paint::of_stdout`].

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use indicatif::HumanCount;

use crate::control::status::Amount;

/// Writes to standard output. A reader that has gone away is no reason to fail.
pub fn say(text: &str) {
    let _ = try_say(text);
}

/// The same for who goes on until nobody reads: whether it was written.
#[must_use]
pub fn try_say(text: &str) -> bool {
    io::stdout().write_all(text.as_bytes()).is_ok()
}

/// Adds a line.
pub fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

impl Paint {
    /// No colour.
    pub const NONE: Paint = Paint(false);
    /// Colour.
    pub const ON: Paint = Paint(true);

    /// Colours if standard output is a terminal that has them and `NO_COLOR` (no-color.org) is not set.
    #[must_use]
    pub fn of_stdout() -> Paint {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Paint(io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb"))
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// All is well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Worth a look.
    #[must_use]
    pub fn warn(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Somebody must do something.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// A heading.
    #[must_use]
    pub fn head(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// A count with separators.
#[must_use]
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `one` or `many`, with the count.
#[must_use]
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A number of bytes in the unit that fits: `1.2 GiB`, `2 GiB`, `512 B`.
#[must_use]
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let at = usize::try_from(number.checked_ilog2().unwrap_or(0) / 10).unwrap_or(0);
    // Tenths, rounded down: what is nearly 1 GiB is not shown as 1 GiB.
    let tenths = (u128::from(number) * 10) >> (at * 10);
    let unit = UNITS.get(at).unwrap_or(&"");
    if tenths % 10 == 0 { format!("{} {unit}", tenths / 10) } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// Events and their bytes.
#[must_use]
pub fn amount(amount: &Amount) -> String {
    format!("{} ({})", counted(amount.events, "event", "events"), bytes(amount.bytes))
}

/// Text that others named, a path above all, without anything that a terminal would obey.
#[must_use]
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Marks that turn the direction of text, or take no room: a name with them looks like another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// On which side a column is filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Lines up `rows` of cells, each column to its side. No line ends in blanks.
#[must_use]
pub fn table(sides: &[Side], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..sides.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for ((cell, side), width) in row.iter().zip(sides).zip(&widths) {
            let gap = if line.is_empty() { "" } else { "  " };
            // Writing into a string can't fail.
            let _ = match side {
                Side::Left => write!(line, "{gap}{cell:<width$}"),
                Side::Right => write!(line, "{gap}{cell:>width$}"),
            };
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The lines of a table as text.
#[must_use]
pub fn under_heading(lines: &[String], paint: Paint) -> String {
    let mut text = String::new();
    for (at, row) in lines.iter().enumerate() {
        if at == 0 { line(&mut text, &paint.head(row)) } else { line(&mut text, row) }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let rows = [["name", "count"], ["ä", "1"], ["longer", "1,000"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(table(&[Side::Left, Side::Right], &rows), ["name    count", "ä           1", "longer  1,000"]);
        assert_eq!(table(&[Side::Left, Side::Left], &rows)[1], "ä       1");
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let told: Vec<_> = [0, 512, 1023, 1024, 1536, (1 << 30) - 1, 2 << 30, 1_288_490_189, u64::MAX].into_iter().map(bytes).collect();
        assert_eq!(told, ["0 B", "512 B", "1023 B", "1 KiB", "1.5 KiB", "1023.9 MiB", "2 GiB", "1.2 GiB", "15.9 EiB"]);
    }

    #[test]
    fn what_others_named_commands_no_terminal() {
        assert_eq!(harmless("/var/log/\u{1b}[2Jä\n\u{202e}x"), "/var/log/\\u{1b}[2Jä\\n\\u{202e}x");
    }
}
