//! `logferry check`: judges the configuration and says where it can lose data. Apart from `config`, which does not look at the files to be read.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::{connect, test};
use crate::config::units::show_size;
use crate::config::{self, Config, print};
use crate::source::syslog;
use crate::source::syslog::arrival;
use crate::source::syslog::intake::Transport;
use crate::space::Space;
use crate::spill;

/// The exit status for a bad configuration (`EX_CONFIG` of sysexits.h), also of `run`.
pub const BAD_CONFIGURATION: u8 = 78;

/// The configuration to use: the one given, else `$LOGFERRY_CONFIG`, else `/etc/logferry/config.toml`.
#[must_use]
pub fn config_path(given: Option<PathBuf>) -> PathBuf {
    let variable = || std::env::var_os("LOGFERRY_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
    given.or_else(variable).unwrap_or_else(|| PathBuf::from("/etc/logferry/config.toml"))
}

/// Judges the configuration at `path`. Mistakes and warnings go to standard error; the verdict, or with `print` the configuration as it came
/// out, to standard output; with `connect` also what the cluster says. Returns 0, 1 if events can't be delivered to the cluster as it is, or
/// [`BAD_CONFIGURATION`].
#[must_use]
pub fn run(path: &Path, print: bool, connect: bool) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            report(&mut io::stderr(), &format!("{problems}\n"));
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    let failures = test::failures(&config);
    if !failures.is_empty() {
        report(&mut io::stderr(), &failures);
        return ExitCode::from(BAD_CONFIGURATION);
    }
    if print {
        report(&mut io::stdout(), &print::text(&config.shown));
        report(&mut io::stderr(), &verdict(&config));
    } else {
        report(&mut io::stdout(), &verdict(&config));
    }
    report(&mut io::stderr(), &warnings(&config));
    if !connect {
        return ExitCode::SUCCESS;
    }
    let topics: Vec<_> = config.all_topics().into_iter().map(Into::into).collect();
    let (text, good) = connect::run(&config.kafka, &topics, config.encode.max_event);
    report(&mut io::stdout(), &text);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A reader that has gone away is no reason to fail.
fn report(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes());
}

/// The verdict on a good configuration, in one line.
#[must_use]
pub fn verdict(config: &Config) -> String {
    let sources = match config.named.len() {
        1 => "1 source".to_owned(),
        many => format!("{many} sources"),
    };
    let topics = config.topics();
    let word = if topics.len() == 1 { "topic" } else { "topics" };
    format!("configuration is good: {sources}, {word} {}\n", topics.join(", "))
}

/// Every warning, a line each.
#[must_use]
pub fn warnings(config: &Config) -> String {
    let mut text = String::new();
    for warning in config.warnings.iter().cloned().chain(judge(config)) {
        let _ = writeln!(text, "warning: {warning}");
    }
    text
}

/// What the file system says now about the sources' patterns: a directory that is not there, cannot be searched or is empty, a file that is
/// not there; and whether the spill fits where it is to be. None of it is a mistake: files may come later, and so may room.
#[must_use]
pub fn judge(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (source, pattern) in &config.includes {
        if let Some(wrong) = look(pattern) {
            warnings.push(format!("source {source:?}: {pattern:?} matches nothing now: {wrong}"));
        }
    }
    warnings.extend(room(&config.spill));
    let arrivals = config.agent.state_dir.join("arrivals");
    for (source, bytes) in arrival::left_over(&arrivals, config.syslogs.iter().map(|source| &*source.name)) {
        let log = arrivals.join(format!("{source}.log"));
        warnings.push(format!(
            "{} holds {} bytes that are not sent: no source {source:?} of type syslog is configured; give it back, or delete the log",
            log.display(),
            bytes
        ));
    }
    if let Some(most) = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok().and_then(|text| text.trim().parse().ok()) {
        let receives = |source: &&syslog::Settings| source.listen.iter().any(|address| address.transport() == Some(Transport::Udp));
        let receiving = config.syslogs.iter().filter(receives);
        warnings.extend(receiving.filter_map(|source| small_buffer(&source.name, source.receive_buffer, most)));
    }
    warnings
}

/// Whether the kernel keeps less for a source's datagrams than it asks for.
fn small_buffer(source: &str, wanted: usize, rmem_max: usize) -> Option<String> {
    (rmem_max < wanted).then(|| {
        format!(
            "source {source:?}: the kernel keeps at most {rmem_max} bytes for each socket unless logferry runs as root, less than receive_buffer, and drops what does not fit: sysctl -w net.core.rmem_max={wanted}"
        )
    })
}

/// Whether the spill may grow to its limit on its file system as it is now.
fn room(spill: &spill::Settings) -> Option<String> {
    let there = spill.dir.ancestors().find(|dir| dir.is_dir())?;
    let space = Space::of(there).ok()?;
    let missing = short(spill, held(&spill.dir), space)?;
    Some(format!(
        "spill.max_size does not fit: {} has {} free, of which spill.keep_free leaves a part to others; {} more would be needed, and sources wait earlier",
        there.display(),
        show_size(space.free >> 20 << 20),
        show_size(((missing >> 20) + 1) << 20),
    ))
}

/// How many bytes are missing for a spill that holds `held` bytes already to grow to its limit.
fn short(spill: &spill::Settings, held: u64, space: Space) -> Option<u64> {
    let (needed, usable) = (spill.max_size.saturating_sub(held), space.usable(spill.keep_free));
    (needed > usable).then(|| needed - usable)
}

/// What a spill has on disk: a directory for each lane, with files.
fn held(dir: &Path) -> u64 {
    let entries = |dir: &Path| dir.read_dir().into_iter().flatten().flatten();
    let files = entries(dir).flat_map(|lane| entries(&lane.path()).collect::<Vec<_>>());
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

fn look(pattern: &str) -> Option<String> {
    let (directory, whole) = fixed(pattern);
    let name = directory.display();
    if whole {
        return directory.metadata().err().map(|error| format!("{name}: {error}"));
    }
    match directory.read_dir() {
        Err(error) => Some(format!("{name}: {error}")),
        Ok(mut entries) => entries.next().is_none().then(|| format!("{name} is empty")),
    }
}

/// The components before the first one with a wildcard, and whether that is all.
fn fixed(pattern: &str) -> (PathBuf, bool) {
    let path = Path::new(pattern);
    let wild = |part: &std::path::Component<'_>| part.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[]{}\\".contains(byte));
    let directory: PathBuf = path.components().take_while(|part| !wild(part)).collect();
    let whole = !path.components().any(|part| wild(&part));
    (directory, whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::KeepFree;

    #[test]
    fn only_what_stands_before_the_first_wildcard_is_looked_at() {
        assert_eq!(fixed("/var/log/app.log"), (PathBuf::from("/var/log/app.log"), true));
        assert_eq!(fixed("/var/log/*/x.log"), (PathBuf::from("/var/log"), false));
        assert_eq!(fixed("/srv/{a,b}/x"), (PathBuf::from("/srv"), false));
        assert_eq!(fixed("/**/x"), (PathBuf::from("/"), false));
    }

    #[test]
    fn a_pattern_whose_directory_is_missing_or_empty_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().display().to_string();
        assert!(look(&format!("{base}/*.log")).is_some_and(|text| text.ends_with("is empty")));
        assert!(look(&format!("{base}/gone/*.log")).is_some_and(|text| text.contains("No such file")));
        assert!(look(&format!("{base}/app.log")).is_some_and(|text| text.contains("No such file")));
        std::fs::write(directory.path().join("app.log"), "x\n").unwrap();
        assert_eq!((look(&format!("{base}/*.log")), look(&format!("{base}/app.log"))), (None, None));
    }

    #[test]
    fn a_spill_that_does_not_fit_is_told_with_what_is_missing() {
        let settings = |max_size, keep_free| spill::Settings {
            dir: PathBuf::from("/"),
            max_size,
            keep_free,
            after: std::time::Duration::from_secs(5),
            sync: std::time::Duration::from_millis(100),
        };
        let percent = settings(2_000, KeepFree::Percent(10));
        let with = |free| Space { size: 10_000, free };
        assert_eq!((short(&percent, 0, with(3_000)), short(&percent, 0, with(2_999))), (None, Some(1)));
        assert_eq!((short(&percent, 500, with(2_500)), short(&percent, 9_000, with(0))), (None, None));
        assert_eq!(short(&settings(2_000, KeepFree::Bytes(4_000)), 0, with(3_000)), Some(2_000));
        let told = room(&settings(u64::MAX, KeepFree::Percent(10))).unwrap();
        assert!(told.contains("/ has ") && told.ends_with("sources wait earlier"), "{told}");
        assert_eq!(room(&settings(0, KeepFree::Percent(90))), None);
    }

    #[test]
    fn where_the_kernel_keeps_too_little_for_datagrams_the_sysctl_is_named() {
        let told = small_buffer("net", 16 << 20, 212_992).unwrap();
        assert!(told.contains("\"net\"") && told.ends_with("sysctl -w net.core.rmem_max=16777216"), "{told}");
        assert_eq!(small_buffer("net", 16 << 20, 16 << 20), None);
    }

    #[test]
    fn what_a_spill_holds_is_counted_over_its_lanes() {
        let directory = tempfile::tempdir().unwrap();
        let spill = directory.path().join("spill");
        assert_eq!(held(&spill), 0);
        for (lane, bytes) in [("a", 100), ("b", 23)] {
            std::fs::create_dir_all(spill.join(lane)).unwrap();
            std::fs::write(spill.join(lane).join("0.seg"), vec![0; bytes]).unwrap();
        }
        assert_eq!(held(&spill), 123);
    }

    #[test]
    fn a_bad_configuration_ends_with_78_and_a_good_one_with_0() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        let log = directory.path().join("log/*.log").display().to_string();
        let text = format!(
            "kafka = {{ bootstrap_servers = \"localhost:1\", topic = \"t\" }}\nagent = {{ id = \"i\", host = \"h\", state_dir = \"/s\" }}\n[[source]]\nname = \"a\"\ntype = \"file\"\ninclude = [{log:?}]\n"
        );
        let status = |text: &str, print: bool| {
            std::fs::write(&path, text).unwrap();
            format!("{:?}", run(&path, print, false))
        };
        let exit = |status: u8| format!("{:?}", ExitCode::from(status));
        assert_eq!((status(&text, false), status(&text, true)), (exit(0), exit(0)));
        let config = config::load(&path).unwrap();
        assert_eq!(verdict(&config), "configuration is good: 1 source, topic t\n");
        assert!(warnings(&config).contains("matches nothing now"), "{}", warnings(&config));
        assert_eq!((status("kafka = 1", false), status("kafka = 1", true)), (exit(78), exit(78)));
    }
}
