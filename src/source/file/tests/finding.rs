//! Which files are read: what can't be is told and holds nothing up.

use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;

use super::*;

const THEM: u32 = 65_534;

/// Runs the test again as an unprivileged user, in a process of its own, if this is root, who may read everything. True: that was done.
fn done_without_root(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let mut child = std::process::Command::new("/proc/self/exe");
    let output = child.args(["--exact", &name]).env_remove("TMPDIR").current_dir("/").uid(THEM).gid(THEM).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

/// Makes what is at `path` an unprivileged user's; without root it is that already.
fn theirs(path: &Path) {
    if rustix::process::geteuid().is_root() {
        lchown(path, Some(THEM), Some(THEM)).unwrap();
    }
}

fn told(rig: &Rig) -> Vec<String> {
    let told = &rig.source.as_ref().unwrap().told;
    let mut told: Vec<_> = told.iter().map(|(path, words)| format!("{} {words}", path.file_name().unwrap().to_string_lossy())).collect();
    told.sort();
    told
}

#[test]
fn ten_thousand_files_are_read() {
    let mut rig = Rig::new(&["*.log"]);
    (0..10_000).for_each(|file| fs::write(rig.path(&format!("{file}.log")), format!("{file} begins\n{file} goes on\n")).unwrap());
    rig.max_open = 100;
    // Not at each turn.
    rig.settings.rescan_interval = Duration::from_hours(1);
    rig.settle();
    assert_eq!(rig.acked.len(), 20_000);
    let mut begun = HashSet::new();
    for got in rig.acked.drain(..) {
        let text = String::from_utf8(got.bytes).unwrap();
        let number = got.path.strip_suffix(".log").unwrap().to_owned();
        let words = if begun.insert(number.clone()) { "begins" } else { "goes on" };
        assert_eq!(text, format!("{number} {words}"));
    }
    assert_eq!(begun.len(), 10_000);
    let open = |rig: &Rig| rig.source.as_ref().unwrap().tailed.values().filter(|tailed| tailed.file.is_some()).count();
    rig.wait(Duration::from_hours(2));
    rig.settle();
    assert!(open(&rig) <= 100, "{} are open", open(&rig));
    // One that was closed is opened again when it grows.
    (0..10_000).step_by(500).for_each(|file| drop(rig.write(&format!("{file}.log"), "more\n")));
    rig.wait(Duration::from_hours(2));
    rig.settle();
    assert_eq!(rig.texts(), ["more"; 20]);
}

#[test]
fn what_is_no_file_is_told_and_skipped_and_all_else_is_read() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("a.log", "read\n");
    rustix::fs::mknodat(rustix::fs::CWD, rig.path("fifo.log"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(rig.path("socket.log")).unwrap();
    fs::create_dir(rig.path("directory.log")).unwrap();
    symlink("/dev/zero", rig.path("device.log")).unwrap();
    symlink("round.log", rig.path("about.log")).unwrap();
    symlink("about.log", rig.path("round.log")).unwrap();
    symlink("nowhere", rig.path("broken.log")).unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["read"]);
    let told = told(&rig);
    assert_eq!(told.len(), 7, "{told:#?}");
    for (told, words) in
        told.iter().zip(["symbolic links", "does not exist", "character device", "a directory", "a FIFO", "symbolic links", "a socket"])
    {
        assert!(told.contains(words), "{told}");
    }
    rig.write("z.log", "later\n");
    rig.settle();
    assert_eq!(rig.texts(), ["later"]);
}

#[test]
fn a_file_that_may_not_be_read_is_told_and_read_from_its_first_byte_once_it_may() {
    if done_without_root("a_file_that_may_not_be_read_is_told_and_read_from_its_first_byte_once_it_may") {
        return;
    }
    let mut rig = Rig::new(&["*.log", "sub/*.log"]);
    rig.write("a.log", "open\n");
    rig.write("b.log", "shut\n");
    fs::create_dir(rig.path("sub")).unwrap();
    rig.write("sub/c.log", "in a shut directory\n");
    let set = |name: &str, mode| fs::set_permissions(rig.path(name), fs::Permissions::from_mode(mode)).unwrap();
    set("b.log", 0);
    set("sub", 0);
    rig.settle();
    assert_eq!(rig.texts(), ["open"]);
    let words = told(&rig);
    assert!(words.len() == 2 && words.iter().all(|words| words.contains("permission denied")), "{words:?}");
    let set = |name: &str, mode| fs::set_permissions(rig.path(name), fs::Permissions::from_mode(mode)).unwrap();
    set("b.log", 0o600);
    set("sub", 0o700);
    rig.settle();
    let mut texts = rig.texts();
    texts.sort();
    assert_eq!(texts, ["in a shut directory", "shut"]);
}

#[test]
fn a_link_from_an_unprivileged_owner_to_a_file_of_root_ships_nothing_also_when_it_is_swapped_in() {
    let mut rig = Rig::new(&["*.log"]);
    // So that a known file is opened again by its path.
    rig.max_open = 0;
    let secret = Path::new("/etc/passwd");
    symlink(secret, rig.path("link.log")).unwrap();
    theirs(&rig.path("link.log"));
    rig.write("swapped.log", "theirs\n");
    theirs(&rig.path("swapped.log"));
    rig.settle();
    rig.settle();
    assert_eq!(rig.texts(), ["theirs"]);
    assert!(told(&rig).iter().any(|words| words.contains("belongs to")), "{:?}", told(&rig));
    symlink(secret, rig.path("other")).unwrap();
    theirs(&rig.path("other"));
    rig.rename("other", "swapped.log");
    // Discovered before: it is only to be opened.
    let source = rig.source.as_mut().unwrap();
    let known: Vec<_> = source.tailed.keys().copied().collect();
    source.scan_due += Duration::from_hours(1);
    for id in known {
        source.queue(id);
    }
    rig.settle();
    rig.wait(Duration::from_hours(2));
    rig.settle();
    assert!(rig.texts().is_empty());
    assert_eq!(told(&rig).iter().filter(|words| words.contains("belongs to")).count(), 2);
}

#[test]
fn a_directory_that_vanishes_and_comes_back_goes_on_where_it_was() {
    let mut rig = Rig::new(&["logs/*.log"]);
    rig.settle();
    fs::create_dir(rig.path("logs")).unwrap();
    rig.write("logs/a.log", "one\n");
    rig.settle();
    rig.rename("logs", "away");
    rig.settle();
    rig.wait(Duration::from_mins(11));
    rig.settle();
    rig.rename("away", "logs");
    let mut file = rig.write("logs/a.log", "two\nha");
    rig.settle();
    rig.wait(Duration::from_mins(1));
    rig.settle();
    file.write_all(b"lf\n").unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["one", "two", "half"]);
    fs::remove_dir_all(rig.path("logs")).unwrap();
    rig.settle();
    fs::create_dir(rig.path("logs")).unwrap();
    rig.write("logs/a.log", "another\n");
    rig.settle();
    assert_eq!(rig.texts(), ["another"]);
    assert!(rig.ledger().missed.is_empty());
}

#[test]
fn start_at_and_ignore_older_count_only_at_the_first_run() {
    let mut rig = Rig::new(&["*.log"]);
    rig.settings.start_at = StartAt::End;
    rig.write("a.log", "before\nha");
    rig.settle();
    rig.write("a.log", "lf\nafter\n");
    rig.write("b.log", "later file\n");
    rig.settle();
    assert_eq!(rig.texts(), ["half", "after", "later file"]);
    assert_eq!(rig.missed(Missed::BeforeFirstRun), 7);
    rig.stop();
    rig.write("c.log", "while stopped\n");
    rig.write("a.log", "more\n");
    rig.settle();
    let mut texts = rig.texts();
    texts.sort();
    assert_eq!(texts, ["more", "while stopped"]);

    let mut rig = Rig::new(&["*.log"]);
    rig.settings.ignore_older = Some(Duration::from_hours(24));
    let age = |file: &File| file.set_modified(std::time::SystemTime::now() - Duration::from_hours(48)).unwrap();
    age(&rig.write("old.log", "old\n"));
    rig.write("new.log", "new\n");
    rig.settle();
    rig.write("old.log", "added\n");
    age(&rig.write("older.log", "found later\n"));
    rig.settle();
    let mut texts = rig.texts();
    texts.sort();
    assert_eq!(texts, ["added", "found later", "new"]);
    assert_eq!(rig.missed(Missed::BeforeFirstRun), 4);
}

#[test]
fn two_names_of_one_file_are_read_once_and_a_second_one_makes_it_no_rotated_file() {
    let mut rig = Rig::new(&["*.log"]);
    let mut file = rig.write("m.log", "one\n");
    fs::hard_link(rig.path("m.log"), rig.path("n.log")).unwrap();
    symlink("m.log", rig.path("b.log")).unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["one"]);
    // This name comes first in the alphabet.
    fs::hard_link(rig.path("m.log"), rig.path("a.log")).unwrap();
    file.write_all(b"ha").unwrap();
    rig.settle();
    rig.wait(Duration::from_mins(1));
    rig.settle();
    file.write_all(b"lf\n").unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["half"]);
    // The first name goes: the other leads on.
    fs::remove_file(rig.path("m.log")).unwrap();
    rig.settle();
    file.write_all(b"two\n").unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["two"]);
}
