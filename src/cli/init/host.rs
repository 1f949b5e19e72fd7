//! What there is on this host: logs that are written to, the journal, what rsyslog writes and listens at, and how logrotate treats logs. Apart because
//! it is the part that looks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use memchr::memmem;

/// A log that nobody wrote to for longer is left out.
const RECENT: Duration = Duration::from_secs(7 * 86_400);
/// How deep it is looked below /var/log.
const DEEPEST: usize = 3;
/// How many entries of directories are looked at; what is beyond is not, and that is said.
const MOST: usize = 20_000;
/// A file of which so many first bytes hold a NUL is no text.
const HEAD: usize = 512;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// Files of text below /var/log that were written to lately, in order of their names.
    pub(super) logs: Vec<PathBuf>,
    /// There were more than are looked at.
    pub(super) more: bool,
    /// Whether journald keeps a journal, and whether it outlives a reboot.
    pub(super) journal: Option<bool>,
    /// Files that rsyslog writes to.
    pub(super) rsyslog_files: Vec<PathBuf>,
    /// rsyslog listens for messages from the network.
    pub(super) rsyslog_listens: bool,
    /// How logrotate treats files.
    pub(super) rotations: Vec<Rotation>,
}

/// One section of logrotate's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rotation {
    /// Paths and patterns of paths.
    pub(super) patterns: Vec<String>,
    pub(super) copytruncate: bool,
    pub(super) compress: bool,
    pub(super) delaycompress: bool,
}

/// Looks at the system below this root. What can't be read is taken as not there.
pub(super) fn look(root: &Path) -> Host {
    let (mut logs, mut left) = (Vec::new(), MOST);
    collect(root, &root.join("var/log"), DEEPEST, &mut left, &mut logs);
    logs.sort();
    let has_journal = |dir: &str| fs::read_dir(root.join(dir)).into_iter().flatten().flatten().any(|entry| entry.path().is_dir());
    let journal = if has_journal("var/log/journal") { Some(true) } else { has_journal("run/log/journal").then_some(false) };
    let rsyslog =
        configuration(root, "etc/rsyslog.conf", "etc/rsyslog.d", |name| name.rsplit_once('.').is_some_and(|(_, end)| end == "conf"));
    let logrotate = configuration(root, "etc/logrotate.conf", "etc/logrotate.d", |_| true);
    Host {
        logs,
        more: left == 0,
        journal,
        rsyslog_files: rsyslog.iter().flat_map(|text| rsyslog_files(text)).collect(),
        rsyslog_listens: rsyslog.iter().any(|text| rsyslog_listens(text)),
        rotations: rotations(&logrotate),
    }
}

/// A file and those of a directory that belong to it.
fn configuration(root: &Path, file: &str, dir: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root.join(dir)).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted));
    paths.sort();
    std::iter::once(root.join(file)).chain(paths).filter_map(|path| fs::read_to_string(path).ok()).collect()
}

fn collect(root: &Path, dir: &Path, depth: usize, left: &mut usize, logs: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        let is_journal = path.file_name().is_some_and(|name| name == "journal" || name == "private");
        if kind.is_dir() && depth > 1 && !is_journal {
            collect(root, &path, depth - 1, left, logs);
        } else if kind.is_file() && is_recent(&entry) && is_text(&path) {
            logs.extend(path.strip_prefix(root).ok().map(|path| Path::new("/").join(path)));
        }
    }
}

fn is_recent(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).unwrap_or_default() <= RECENT)
}

/// One that may not be read is taken for text: it is told about, and `check` says what stands in the way.
fn is_text(path: &Path) -> bool {
    let Ok(mut file) = fs::File::open(path) else { return true };
    let mut head = vec![0; HEAD];
    let len = std::io::Read::read(&mut file, &mut head).unwrap_or(0);
    let head = head.get(..len).unwrap_or_default();
    let compressed = [b"\x1F\x8B".as_slice(), b"\x28\xB5\x2F\xFD", b"BZh", b"\xFD7zXZ"].iter().any(|magic| head.starts_with(magic));
    !compressed && memchr::memchr(0, head).is_none()
}

/// The files that rules of this configuration of rsyslog write to, in its old and its new form.
pub(super) fn rsyslog_files(text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '$'])) {
        if let Some(at) = memmem::find(line.as_bytes(), b"omfile") {
            let file = line.get(at..).and_then(|rest| rest.split_once("file=\"")).and_then(|(_, rest)| rest.split_once('"'));
            files.extend(file.map(|(path, _)| PathBuf::from(path)));
        } else if let Some(path) = line.split_whitespace().last().map(|word| word.trim_start_matches('-')) {
            let is_rule = line.split_whitespace().count() == 2 && line.contains('.') && path.starts_with('/');
            files.extend(is_rule.then(|| PathBuf::from(path.split(';').next().unwrap_or(path))));
        }
    }
    files
}

/// Whether it takes messages from the network.
pub(super) fn rsyslog_listens(text: &str) -> bool {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let inputs = ["imudp", "imtcp", "imptcp", "imrelp"];
    lines
        .into_iter()
        .any(|line| (line.starts_with("input(") && inputs.iter().any(|input| line.contains(input))) || line.contains("ServerRun"))
}

/// The sections of logrotate's files; what stands outside of them holds for those behind it.
pub(super) fn rotations(texts: &[String]) -> Vec<Rotation> {
    let (mut all, mut global) = (Vec::new(), Rotation::default());
    for text in texts {
        let (mut section, mut patterns): (Option<Rotation>, Vec<String>) = (None, Vec::new());
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('/') || line.starts_with('"') {
                patterns.extend(line.trim_end_matches('{').split_whitespace().map(|word| word.trim_matches('"').to_owned()));
            }
            if line.ends_with('{') {
                section = Some(Rotation { patterns: std::mem::take(&mut patterns), ..global.clone() });
                continue;
            }
            if line == "}" {
                all.extend(section.take());
                continue;
            }
            let rotation = section.as_mut().unwrap_or(&mut global);
            match line.split_whitespace().next().unwrap_or_default() {
                "copytruncate" => rotation.copytruncate = true,
                "nocopytruncate" => rotation.copytruncate = false,
                "compress" => rotation.compress = true,
                "nocompress" => rotation.compress = false,
                "delaycompress" => rotation.delaycompress = true,
                "nodelaycompress" => rotation.delaycompress = false,
                _ => {}
            }
        }
    }
    all
}
