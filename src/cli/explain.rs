//! `logferry explain PATH`: whether a file is read, by which source, how far, and what stands in the way.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::desk::{Desk, Outcome};
use crate::cli::out::say;
use crate::control::protocol::Request;
use crate::source::file::discover::Finder;
use crate::source::journald;

/// Prints the explanation.
///
/// # Errors
/// No source reads the file.
pub fn run(desk: &Desk, file: &Path) -> Outcome {
    let file = std::path::absolute(file).map_err(|_| format!("{} is no path", file.display()))?;
    let mut text = format!("{}\n", file.display());
    let mut read = false;
    for source in &desk.config().files {
        let explanation = Finder::new(source.include.clone(), source.exclude.clone()).explain(&file);
        read |= explanation.is_read();
        // Writing into a string can't fail.
        let _ = writeln!(text, "  source {}: {explanation}", source.name);
    }
    for source in &desk.config().journals {
        let explanation = journald::explain::explain(source, &file);
        read |= explanation.is_read;
        let _ = writeln!(text, "  source {}: {}", source.name, explanation.words);
    }
    match desk.text(&Request::Explain { path: file.into() }) {
        Ok(known) if known.is_empty() => text.push_str("  it was never read\n"),
        Ok(known) => text.push_str(&known),
        Err(why) => drop(writeln!(text, "  what was read of it is not known: {why}")),
    }
    say(&text);
    if read { Ok(()) } else { Err("No source reads it.".into()) }
}
