//! The policy for links, on real file systems. As root the tests make links of other users; otherwise this user is the unprivileged one
//! and what belongs to root on every machine serves as root's.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::AtomicBool;

use rustix::fs::{FileType, mknodat};
use tempfile::TempDir;

use super::*;

/// An unprivileged user, neither root nor the one that runs the tests.
const THEM: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes what is at `path` an unprivileged user's; without root it is that already.
fn theirs(path: &Path) {
    if is_root() {
        lchown(path, Some(THEM), Some(THEM)).unwrap();
    }
}

/// A file that belongs to root, and its content.
fn roots_file(dir: &TempDir) -> (PathBuf, Vec<u8>) {
    let path = if is_root() { dir.path().join("secret") } else { PathBuf::from("/etc/passwd") };
    if is_root() {
        fs::write(&path, "root's secret").unwrap();
    }
    let content = fs::read(&path).unwrap();
    (path, content)
}

fn read(dir: &TempDir, rest: &str) -> Result<Vec<u8>, Refusal> {
    let base = Dir::open(dir.path()).unwrap();
    let fast = open(&base, Path::new(rest)).map(|(mut file, stat)| {
        assert_eq!(stat.ino, FileStat::of(&file).unwrap().ino);
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        content
    });
    // Both ways must say the same.
    let slow = one_by_one(&base, Path::new(rest)).and_then(|(fd, stat)| Refusal::of_kind(stat.kind()).map_or(Ok((fd, stat)), Err));
    match (&fast, slow) {
        (Ok(_), Ok((_, stat))) => assert_eq!(stat, super::stat(&base, Path::new(rest)).unwrap()),
        (Err(fast), Err(slow)) => assert_eq!(fast.to_string(), slow.to_string()),
        (fast, slow) => panic!("{fast:?} but {slow:?}"),
    }
    fast
}

#[test]
fn a_plain_file_is_opened() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/b/c"), "hello").unwrap();
    assert_eq!(read(&dir, "a/b/c").unwrap(), b"hello");
    assert!(matches!(read(&dir, "a/b/d"), Err(Refusal::NotFound)));
    assert!(matches!(read(&dir, "a/b/c/d"), Err(Refusal::NotFound)));
}

#[test]
fn a_link_from_an_unprivileged_owner_to_a_file_of_root_ships_nothing() {
    let dir = TempDir::new().unwrap();
    let (secret, _) = roots_file(&dir);
    symlink(&secret, dir.path().join("direct")).unwrap();
    theirs(&dir.path().join("direct"));
    // By way of another of their links, of their directory, of a link into a directory, of `..`.
    symlink("direct", dir.path().join("again")).unwrap();
    fs::create_dir(dir.path().join("theirs")).unwrap();
    symlink("../direct", dir.path().join("theirs/up")).unwrap();
    symlink(secret.parent().unwrap(), dir.path().join("into")).unwrap();
    for link in ["again", "theirs", "theirs/up", "into"] {
        theirs(&dir.path().join(link));
    }
    let into = format!("into/{}", secret.file_name().unwrap().to_str().unwrap());
    for path in ["direct", "again", "theirs/up", &into] {
        match read(&dir, path) {
            Err(Refusal::Link { owner, target_owner: 0, .. }) => assert_ne!(owner, 0, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn a_link_of_root_is_followed() {
    // Root's on every Linux: /etc/mtab or /etc/os-release.
    let base = Dir::open(Path::new("/")).unwrap();
    let (_, stat) = open(&base, Path::new("etc/os-release")).unwrap();
    assert_eq!(stat.kind(), FileType::RegularFile);
    let dir = TempDir::new().unwrap();
    if is_root() {
        fs::write(dir.path().join("file"), "theirs").unwrap();
        theirs(&dir.path().join("file"));
        symlink("file", dir.path().join("link")).unwrap();
        assert_eq!(read(&dir, "link").unwrap(), b"theirs");
        // Root's link to a link of theirs to a file of root's: the second one is judged as well.
        let (secret, _) = roots_file(&dir);
        symlink(secret, dir.path().join("bad")).unwrap();
        theirs(&dir.path().join("bad"));
        symlink("bad", dir.path().join("to-bad")).unwrap();
        assert!(matches!(read(&dir, "to-bad"), Err(Refusal::Link { .. })));
    }
}

#[test]
fn a_link_to_ones_own_file_or_directory_is_followed() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("real/logs")).unwrap();
    fs::write(dir.path().join("real/logs/file"), "own").unwrap();
    symlink("real/logs/file", dir.path().join("link")).unwrap();
    symlink(dir.path().join("real"), dir.path().join("dir")).unwrap();
    symlink("../../dir/./logs/../logs/file", dir.path().join("real/logs/round")).unwrap();
    for path in ["real", "real/logs", "real/logs/file", "link", "dir", "real/logs/round"] {
        theirs(&dir.path().join(path));
    }
    for path in ["link", "dir/logs/file", "dir/logs/round"] {
        assert_eq!(read(&dir, path).unwrap(), b"own", "{path}");
    }
}

#[test]
fn links_that_lead_to_each_other_or_nowhere_are_refused() {
    let dir = TempDir::new().unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    symlink("self/x", dir.path().join("self")).unwrap();
    symlink("nothing", dir.path().join("dangling")).unwrap();
    for path in ["a", "self", "self/x"] {
        assert!(matches!(read(&dir, path), Err(Refusal::LinkLoop)), "{path}");
    }
    assert!(matches!(read(&dir, "dangling"), Err(Refusal::NotFound)));
    fs::write(dir.path().join("0"), "end").unwrap();
    for link in 1..=41 {
        symlink((link - 1).to_string(), dir.path().join(link.to_string())).unwrap();
    }
    assert_eq!(read(&dir, "40").unwrap(), b"end");
    assert!(matches!(read(&dir, "41"), Err(Refusal::LinkLoop)));
    // Few links, each followed twice as often as the next: they are counted as often as they are followed.
    fs::create_dir(dir.path().join("w0")).unwrap();
    for link in 1..=6 {
        symlink(format!("w{0}/../w{0}", link - 1), dir.path().join(format!("w{link}"))).unwrap();
    }
    assert!(matches!(read(&dir, "w5"), Err(Refusal::NotAFile { .. })));
    assert!(matches!(read(&dir, "w6"), Err(Refusal::LinkLoop)));
}

#[test]
fn what_is_no_file_is_not_opened_and_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let base = Dir::open(dir.path()).unwrap();
    mknodat(base.fd(), "fifo", FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    symlink("fifo", dir.path().join("link")).unwrap();
    for (path, expected) in [("fifo", "a FIFO"), ("socket", "a socket"), ("dir", "a directory"), ("link", "a FIFO")] {
        assert!(matches!(read(&dir, path), Err(Refusal::NotAFile { kind }) if kind == expected), "{path}");
    }
    let device = open(&Dir::open(Path::new("/dev")).unwrap(), Path::new("null"));
    assert!(matches!(device, Err(Refusal::NotAFile { kind: "a character device" })));
}

#[test]
fn a_link_swapped_in_after_the_check_ships_nothing() {
    let dir = TempDir::new().unwrap();
    let (secret, content) = roots_file(&dir);
    let at = |name: &str| dir.path().join(name);
    let stop = AtomicBool::new(false);
    let base = Dir::open(dir.path()).unwrap();
    fs::write(at("log"), "theirs").unwrap();
    theirs(&at("log"));
    let (mut opened, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                symlink(&secret, at("next")).unwrap();
                theirs(&at("next"));
                rustix::fs::rename(at("next"), at("log")).unwrap();
                fs::write(at("next"), "theirs").unwrap();
                theirs(&at("next"));
                rustix::fs::rename(at("next"), at("log")).unwrap();
            }
        });
        let mut read = Vec::new();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..100_000 {
                match open(&base, Path::new("log")) {
                    Ok((mut file, _)) => {
                        read.clear();
                        file.read_to_end(&mut read).unwrap();
                        assert_ne!(read, content);
                        opened += 1;
                    }
                    Err(Refusal::Link { .. }) => refused += 1,
                    // The link was there at the first look and gone at the second.
                    Err(Refusal::LinkLoop | Refusal::NotFound) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap();
    });
    assert!(opened > 100 && refused > 100, "it was not swapped: opened {opened}, refused {refused}");
}

/// What [`permission_denied_names_what_is_shut_and_the_remedy`] does as an unprivileged user, in a process of its own when the tests are run
/// by root, whom nothing is denied.
fn permission_denied(dir: &Path) {
    let base = Dir::open(dir).unwrap();
    fs::create_dir(dir.join("shut")).unwrap();
    fs::write(dir.join("shut/file"), "").unwrap();
    fs::write(dir.join("file"), "").unwrap();
    fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o240)).unwrap();
    fs::set_permissions(dir.join("shut"), fs::Permissions::from_mode(0o600)).unwrap();
    let message = open(&base, Path::new("file")).unwrap_err().to_string();
    assert!(message.contains("/file is --w-r----- ") && message.contains(":r ") && message.contains("to the group"), "{message}");
    assert_eq!(stat(&base, Path::new("file")).unwrap().size, 0);
    for message in [open(&base, Path::new("shut/file")).unwrap_err(), Dir::open(&dir.join("shut/file/x")).unwrap_err()] {
        let message = message.to_string();
        assert!(message.contains("/shut is drw------- ") && message.contains(":x ") && message.ends_with("/shut"), "{message}");
    }
    fs::set_permissions(dir.join("shut"), fs::Permissions::from_mode(0o100)).unwrap();
    assert_eq!(open(&base, Path::new("shut/file")).unwrap().1.size, 0);
    let message = base.below(Path::new("shut")).unwrap().entries().unwrap_err().to_string();
    assert!(message.contains("/shut is d--x------ ") && message.contains(":rx "), "{message}");
}

#[test]
fn permission_denied_names_what_is_shut_and_the_remedy() {
    use std::os::unix::process::CommandExt;
    const DIR: &str = "LOGFERRY_TEST_PERMISSION_DIR";
    const NAME: &str = "source::file::access::tests::permission_denied_names_what_is_shut_and_the_remedy";
    if let Some(dir) = std::env::var_os(DIR) {
        return permission_denied(Path::new(&dir));
    }
    let dir = TempDir::new().unwrap();
    if !is_root() {
        return permission_denied(dir.path());
    }
    let (program, work) = (dir.path().join("program"), dir.path().join("work"));
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&work).unwrap();
    theirs(&work);
    let output = std::process::Command::new(&program).args(["--exact", NAME]).env(DIR, &work).uid(THEM).gid(THEM).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn a_file_is_known_by_what_the_system_says_of_it() {
    use std::os::unix::fs::MetadataExt;
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "12345").unwrap();
    let file = File::open(dir.path().join("file")).unwrap();
    let (stat, meta) = (FileStat::of(&file).unwrap(), file.metadata().unwrap());
    assert_eq!((stat.dev, stat.ino, stat.size, stat.uid, stat.gid), (meta.dev(), meta.ino(), 5, meta.uid(), meta.gid()));
    assert_eq!((stat.mode, stat.nlink, stat.mtime_ns), (meta.mode(), 1, meta.mtime() * 1_000_000_000 + meta.mtime_nsec()));
    let made = meta.created().ok().map(|at| at.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos());
    assert_eq!(stat.btime_ns.map(|ns| u128::try_from(ns).unwrap()), made);
    fs::remove_file(dir.path().join("file")).unwrap();
    assert_eq!(FileStat::of(&file).unwrap().nlink, 0);
}
