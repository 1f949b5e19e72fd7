//! Opens the configuration's files and asks the machine what it gives; the only thin code of the configuration. Files are opened here and not by
//! figment, which takes a missing file for an empty one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use figment::providers::Env;

use super::document::PREFIX;
use super::problem::{Fault, Origin, Problem};
use super::{Machine, Text};

/// A file of the configuration, or one that it names, beyond this size is refused.
const LIMIT: u64 = 4 << 20;

/// The main file and `conf.d/*.toml` beside it in byte order, and a problem for each that can't be read.
pub(super) fn files(path: &Path) -> (Vec<Text>, Vec<Problem>) {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    let mut paths = vec![path.to_owned()];
    let directory = path.parent().unwrap_or(Path::new("")).join("conf.d");
    match fragments(&directory) {
        Ok(more) => paths.extend(more),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => problems.push(unreadable(&directory, 1, &error)),
    }
    for (index, path) in paths.iter().enumerate() {
        let text = small(path).and_then(|(bytes, _)| {
            String::from_utf8(bytes).map_err(|error| {
                let line =
                    memchr::memchr_iter(b'\n', error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default()).count() + 1;
                io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
            })
        });
        match text {
            Ok(text) => texts.push(Text { name: path.to_string_lossy().into(), text }),
            Err(error) => problems.push(unreadable(path, index, &error)),
        }
    }
    (texts, problems)
}

fn fragments(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // As a shell's *.toml: no hidden files, which are mostly editors'.
        let hidden = path.file_name().is_none_or(|name| name.as_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort_by(|left, right| left.as_os_str().as_bytes().cmp(right.as_os_str().as_bytes()));
    Ok(paths)
}

fn unreadable(path: &Path, index: usize, error: &io::Error) -> Problem {
    let right = match error.kind() {
        io::ErrorKind::NotFound => "create it (config.example.toml shows every key), or name another with --config or $LOGFERRY_CONFIG",
        io::ErrorKind::PermissionDenied => "let the user that runs logferry read it",
        _ => "put a readable TOML file there",
    };
    let origin = Origin::File { index, line: 0, name: path.to_string_lossy().into() };
    Fault::new(format!("can't be read: {error}"), right).at(&origin, "")
}

/// The bytes and the mode of a file of at most [`LIMIT`] bytes.
fn small(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {}MiB", LIMIT >> 20)));
    }
    Ok((bytes, mode))
}

/// This machine.
pub(super) fn machine() -> Machine<'static> {
    let mut overrides: Vec<(String, String)> = Env::prefixed(PREFIX).iter().map(|(name, value)| (name.into_string(), value)).collect();
    overrides.sort();
    Machine {
        hostname: rustix::system::uname().nodename().to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned),
        machine_id: fs::read_to_string("/etc/machine-id").ok(),
        root: rustix::process::geteuid().is_root(),
        env: std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect(),
        overrides,
        read: &small,
        connects: true,
    }
}
