//! Makes the log that is shipped: lines as nginx writes them, the same ones each time, 177 bytes long on average with their line ends.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// The average length of a line with its end, bytes.
pub const AVERAGE: u64 = 177;

const PATHS: [&str; 8] = [
    "/",
    "/index.html",
    "/api/v1/orders",
    "/api/v1/users/profile",
    "/static/css/main.7f3a.css",
    "/static/js/vendor.d41d8c.js",
    "/images/products/large",
    "/search",
];
const STATUS: [u16; 8] = [200, 200, 200, 200, 304, 301, 404, 500];
const AGENTS: [&str; 4] = [
    "curl/7.88.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 Safari",
];

/// Writes so many lines to `file`.
pub fn write(file: &Path, lines: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let (mut random, mut written, mut line) = (Random(0x9E37_79B9_7F4A_7C15), 0, Vec::new());
    for number in 0..lines {
        line.clear();
        let [a, b, c, d] = [random.below(223) + 1, random.below(256), random.below(256), random.below(256)];
        let (hour, minute, second) = (number / 180_000 % 24, number / 3000 % 60, number / 50 % 60);
        let (path, id) = (random.one_of(&PATHS), random.below(100_000));
        let (status, bytes, agent) = (random.one_of(&STATUS), random.below(60_000), random.one_of(&AGENTS));
        // A longer or shorter referer keeps the average where it is said to be.
        let referer = if written > AVERAGE * number { "-" } else { "https://shop.example.com/catalogue/summer?page=2" };
        writeln!(
            line,
            "{a}.{b}.{c}.{d} - - [24/Nov/2025:{hour:02}:{minute:02}:{second:02} +0000] \"GET {path}?id={id} HTTP/1.1\" {status} {bytes} \"{referer}\" \"{agent}\"",
        )?;
        out.write_all(&line)?;
        written += line.len() as u64;
    }
    out.flush()
}

/// Marsaglia's xorshift: good enough to look unalike, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }
}
