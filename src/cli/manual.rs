//! `logferry manual DIR`, hidden: writes what packages hold beside the binary, manual pages and completions. Made of the definition of options in
//! [`crate::cli`], and of the tables of keys that judge the configuration, so that they say what the binary does.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::config::rules::{ACTIONS, CONDITIONS};
use crate::config::schema::{KEYS, Key, Kind, TABLES, Unset};

/// What the manual says of the configuration as a whole; the same stands at the head of the example.
const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Writes the manual of `command` into `dir`, which must be there. Returns 1 if that can't be done.
#[must_use]
pub fn run(command: Command, dir: &Path) -> ExitCode {
    match write(command, dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the manual can't be written into {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

fn write(mut command: Command, dir: &Path) -> io::Result<()> {
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "logferry", dir)?;
    }
    fs::write(dir.join("logferry.toml.5"), keys_page())?;
    command.build();
    fs::write(dir.join("logferry.8"), command_page(&command)?)
}

/// logferry(8): the options of all commands, one after the other.
fn command_page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).title("LOGFERRY").section("8").manual("logferry").date("");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    add_commands(&mut roff, command);
    roff.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    roff.text([roman(command.get_after_help().map(ToString::to_string).unwrap_or_default().replace("Exit status: ", ""))]);
    roff.control("SH", ["FILES"]);
    add_item(&mut roff, "/etc/logferry/config.toml", "The configuration: logferry.toml(5).");
    add_item(&mut roff, "/var/lib/logferry", "The state: positions, counts, what waits on disk.");
    add_item(&mut roff, "/run/logferry/control.sock", "Where commands ask the running daemon; root and the group logferry may.");
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("logferry.toml"), roman("(5), "), bold("journalctl"), roman("(1), "), bold("systemd.service"), roman("(5)")]);
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// Each command under its usage, then those below it.
fn add_commands(roff: &mut Roff, command: &Command) {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        if !command.has_subcommands() {
            let usage = command.clone().render_usage().to_string();
            roff.control("SS", [usage.trim_start_matches("Usage: ").trim()]);
        }
        let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
        if command.has_subcommands() {
            roff.control("SS", [command.get_bin_name().unwrap_or_else(|| command.get_name())]);
        }
        for paragraph in about.split("\n\n") {
            roff.text([roman(paragraph)]);
            roff.control("PP", []);
        }
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set() && !argument.is_global_set()) {
            let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
            let default = argument.get_default_values().iter().filter_map(|value| value.to_str()).collect::<Vec<_>>().join(" ");
            let help =
                if default.is_empty() || !argument.get_action().takes_values() { help } else { format!("{help}. Default: {default}.") };
            if !["help", "version"].contains(&argument.get_id().as_str()) {
                add_item(roff, &argument.to_string(), &help);
            }
        }
        add_commands(roff, command);
    }
}

/// logferry.toml(5): every key with its type, default and meaning.
fn keys_page() -> String {
    let mut roff = Roff::new();
    roff.control("TH", ["LOGFERRY.TOML", "5", "", concat!("logferry ", env!("CARGO_PKG_VERSION")), "logferry"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman("logferry.toml - the configuration of logferry, /etc/logferry/config.toml")]);
    roff.control("SH", ["DESCRIPTION"]);
    let head = EXAMPLE.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    for paragraph in head.collect::<Vec<_>>().split(|line| line.is_empty()).skip(1) {
        roff.text([roman(paragraph.join(" "))]);
        roff.control("PP", []);
    }
    for (table, _) in TABLES.iter().filter(|(table, _)| KEYS.iter().any(|key| parent(key) == *table)) {
        add_table(&mut roff, table);
    }
    roff.control("SH", ["[[RULE]]"]);
    roff.text([
        roman("Rules hold in their order. Each has a "),
        bold("name"),
        roman(", a condition under "),
        bold("when"),
        roman(" and one action."),
    ]);
    roff.control("SS", ["Conditions"]);
    add_items(&mut roff, &CONDITIONS);
    roff.control("SS", ["Actions"]);
    add_items(&mut roff, &ACTIONS);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("logferry"),
        roman("(8); "),
        italic("/usr/share/doc/logferry/config.example.toml"),
        roman(" shows every key at its place."),
    ]);
    roff.to_roff()
}

/// The table in which a key stands.
fn parent(key: &Key) -> &'static str {
    key.path.rsplit_once('.').map_or("", |(table, _)| table)
}

fn add_table(roff: &mut Roff, table: &str) {
    let header = if table == "source" { "[[SOURCE]]".to_owned() } else { format!("[{}]", table.to_uppercase()) };
    roff.control("SH", [header.as_str()]);
    for key in KEYS.iter().filter(|key| parent(key) == table) {
        let of = if key.of.is_empty() { String::new() } else { format!(", type {}", key.of.join(", ")) };
        let name = key.path.rsplit_once('.').map_or(key.path, |(_, name)| name);
        let unset = match key.unset {
            Unset::Required => " Required.".to_owned(),
            Unset::Nothing => String::new(),
            Unset::Default(text) => format!(" Default: {text}."),
        };
        roff.control("TP", []);
        roff.text([bold(name), roman(format!(" ({}{of})", takes(key.kind)))]);
        roff.text([roman(format!("{}{unset}", key.doc))]);
    }
}

/// What a key takes, in a word or two.
fn takes(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Path => "absolute path",
        Kind::Name => "name",
        Kind::Topic => "topic",
        Kind::Choice { .. } => "one word",
        Kind::Size { .. } => "size",
        Kind::Time { .. } => "time",
        Kind::Free { .. } => "per cent or size",
        Kind::Count { .. } => "number",
        Kind::Servers | Kind::Patterns { .. } | Kind::Addresses | Kind::Networks | Kind::Words | Kind::Matches | Kind::Fields => "list",
        Kind::Mode => "octal mode",
        Kind::Zone => "time zone",
        Kind::Regex => "regex",
        Kind::Socket => "address and port",
        Kind::Encoding => "encoding",
        Kind::Priority => "priority or range",
        Kind::Texts | Kind::Properties => "table",
    }
}

fn add_items(roff: &mut Roff, items: &[(&str, &str)]) {
    for (name, words) in items {
        add_item(roff, name, words);
    }
}

fn add_item(roff: &mut Roff, name: &str, words: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(words)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option_and_every_key() {
        let dir = tempfile::tempdir().unwrap();
        write(crate::cli::command(), dir.path()).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap().replace("\\-", "-");
        let (commands, keys) = (read("logferry.8"), read("logferry.toml.5"));
        for word in
            ["logferry run", "--once", "logferry positions seek", "--timeout", "Default: 5m.", "78 the configuration is bad", "--config"]
        {
            assert!(commands.contains(word), "{word} is not in {commands}");
        }
        assert!(!commands.contains("logferry manual"));
        for key in KEYS {
            let name = key.path.rsplit_once('.').map_or(key.path, |(_, name)| name);
            assert!(keys.contains(&format!("\\fB{name}\\fR (")), "{} is not in {keys}", key.path);
        }
        assert!(
            read("logferry.bash").contains("dead-letters")
                && read("_logferry").contains("dead-letters")
                && read("logferry.fish").contains("dead-letters")
        );
    }
}
