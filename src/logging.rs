//! logferry's own log: structured lines on standard error, without times where the journal adds them. On a terminal it makes room for the live
//! line of [`crate::cli::progress`].

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::progress;

/// Standard error, with the live line lifted out of the way while something is written.
#[derive(Clone, Copy, Debug)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::above_line(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Stderr;

    fn make_writer(&'a self) -> Stderr {
        Stderr
    }
}

/// Begins logging at `info`, or as `LOGFERRY_LOG` says (`debug`, `logferry=debug,librdkafka=info`, …). Later calls change nothing.
pub fn begin() {
    let filter = EnvFilter::try_from_env("LOGFERRY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr).with_ansi(terminal).with_target(false);
    let begun = if std::env::var_os("JOURNAL_STREAM").is_some() { builder.without_time().try_init() } else { builder.try_init() };
    // Only a test that runs two daemons in one process begins twice.
    drop(begun);
}
