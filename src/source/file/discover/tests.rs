//! Searches of real directories.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;

struct Tree(TempDir);

impl Tree {
    fn new(files: &[&str]) -> Tree {
        let tree = Tree(TempDir::new().unwrap());
        for (age, file) in files.iter().enumerate() {
            tree.write(file, u64::try_from(files.len() - age).unwrap());
        }
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, minutes_old: u64) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - Duration::from_mins(minutes_old)).unwrap();
    }

    fn patterns(&self, patterns: &[&str]) -> Vec<Pattern> {
        patterns.iter().map(|pattern| Pattern::parse(&format!("{}/{pattern}", self.0.path().display())).unwrap()).collect()
    }

    fn finder(&self, include: &[&str], exclude: &[&str]) -> Finder {
        Finder::new(self.patterns(include), self.patterns(exclude))
    }

    fn short(&self, path: &Path) -> String {
        path.strip_prefix(self.0.path()).unwrap().display().to_string()
    }

    fn found(&self, scan: &Scan) -> Vec<String> {
        scan.found.iter().map(|file| self.short(&file.path)).collect()
    }

    fn refused(&self, scan: &Scan) -> Vec<String> {
        let mut refused: Vec<_> = scan.refused.iter().map(|(path, why)| format!("{}: {why:?}", self.short(path))).collect();
        refused.sort();
        refused
    }
}

#[test]
fn files_are_found_once_the_longest_unwritten_first() {
    let tree = Tree::new(&["b/x.log", "a.log", "b/c/y.log", "a.txt", ".hidden.log", "b/.d/z.log"]);
    let finder = tree.finder(&["*.log", "**/*.log", "b/*", "a.log", "b/c/y.log", "none/*.log", "*/none"], &[]);
    let scan = finder.scan();
    assert_eq!(tree.found(&scan), ["b/x.log", "a.log", "b/c/y.log"]);
    assert_eq!(scan.nothing_matched, tree.patterns(&["none/*.log", "*/none"]).iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(tree.refused(&scan).is_empty(), "{scan:?}");
    assert_eq!(scan.dirs.iter().map(|dir| tree.short(dir)).collect::<Vec<_>>(), ["", "b", "b/c"]);
    assert!(scan.found.iter().all(|file| finder.include.iter().any(|pattern| pattern.matches(&file.path))));
}

#[test]
fn what_is_excluded_is_not_found_nor_searched() {
    let tree = Tree::new(&["a.log", "a.log.gz", "old/b.log", "new/c.log", "new/deep/d.log"]);
    let scan = tree.finder(&["**/*"], &["**/*.gz", "old", "new/deep/**"]).scan();
    assert_eq!(tree.found(&scan), ["a.log", "new/c.log"]);
    assert!(!scan.dirs.contains(&tree.path("old")));
    let scan = tree.finder(&["old/*", "new/*.log"], &["old"]).scan();
    assert_eq!(tree.found(&scan), ["new/c.log"]);
    assert_eq!(scan.nothing_matched.len(), 1);
}

#[test]
fn what_is_no_file_is_refused_with_its_kind() {
    let tree = Tree::new(&["sub/file"]);
    mknodat(CWD, tree.path("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink("sub", tree.path("to-sub")).unwrap();
    symlink("nowhere", tree.path("dangling")).unwrap();
    symlink("loop", tree.path("loop")).unwrap();
    let scan = tree.finder(&["*"], &[]).scan();
    let expected = [
        "dangling: NotFound",
        "fifo: NotAFile { kind: \"a FIFO\" }",
        "loop: LinkLoop",
        "sub: NotAFile { kind: \"a directory\" }",
        "to-sub: NotAFile { kind: \"a directory\" }",
    ];
    assert_eq!(tree.refused(&scan), expected);
    assert!(scan.nothing_matched.is_empty());
    // A directory that is searched needs no warning, nor does what no pattern matches.
    assert_eq!(tree.found(&tree.finder(&["**/f*"], &["fifo"]).scan()), ["sub/file"]);
}

#[test]
fn links_are_followed_without_going_round_for_ever() {
    let tree = Tree::new(&["a/b/file"]);
    symlink("../..", tree.path("a/b/up")).unwrap();
    symlink("a/b/file", tree.path("link")).unwrap();
    let scan = tree.finder(&["**/*"], &[]).scan();
    assert_eq!(tree.found(&scan), ["a/b/file"]);
    assert!(tree.refused(&scan).iter().all(|why| why.ends_with("TooDeep")) && !scan.refused.is_empty(), "{scan:?}");
    let scan = tree.finder(&["link"], &[]).scan();
    assert_eq!((tree.found(&scan), scan.found[0].linked), (vec!["link".to_owned()], true));
}

#[test]
fn a_search_of_too_much_stops_and_says_so() {
    let tree = Tree::new(&["a/1.log", "a/2.log", "b/3.log", "c/4.log"]);
    let mut finder = tree.finder(&["*/*.log"], &[]);
    finder.max_files = 4;
    assert_eq!((finder.scan().found.len(), finder.scan().limit), (4, None));
    finder.max_files = 3;
    assert_eq!((finder.scan().found.len(), finder.scan().limit), (3, Some(Limit::Files)));
    finder.max_dirs = 2;
    let scan = finder.scan();
    assert_eq!((scan.dirs.len(), scan.limit), (2, Some(Limit::Dirs)));
}

#[test]
fn refusals_beyond_the_list_are_counted() {
    let tree = Tree::new(&[]);
    for number in 0..MAX_REFUSED + 3 {
        fs::create_dir(tree.path(&number.to_string())).unwrap();
    }
    let scan = tree.finder(&["*"], &[]).scan();
    assert_eq!((scan.refused.len(), scan.more_refused), (MAX_REFUSED, 3));
}

#[test]
fn a_search_ends_in_the_depth_and_says_so() {
    let tree = Tree::new(&[]);
    let deep = "d/".repeat(MAX_DEPTH + 2);
    fs::create_dir_all(tree.path(&deep)).unwrap();
    let scan = tree.finder(&["**/*.log"], &[]).scan();
    assert_eq!(scan.refused.len(), 1);
    assert!(matches!(scan.refused[0].1, Refusal::TooDeep));
}

#[test]
fn a_link_of_somebody_else_is_refused_by_search_and_open_alike() {
    let tree = Tree::new(&["mine/secret"]);
    symlink("mine", tree.path("dir")).unwrap();
    symlink("mine/secret", tree.path("file")).unwrap();
    if !rustix::process::geteuid().is_root() {
        eprintln!("without root only links of one's own can be made: what is judged is tested in access");
        return;
    }
    for link in ["dir", "file"] {
        std::os::unix::fs::lchown(tree.path(link), Some(65_534), None).unwrap();
    }
    let finder = tree.finder(&["file", "*/secret"], &[]);
    let scan = finder.scan();
    assert_eq!(tree.found(&scan), ["mine/secret"]);
    assert_eq!(scan.refused.len(), 2, "{scan:?}");
    assert!(scan.refused.iter().all(|(_, why)| matches!(why, Refusal::Link { owner: 65_534, target_owner: 0, .. })));
    for path in ["file", "dir/secret"] {
        assert!(matches!(finder.open(&tree.path(path)), Err(Refusal::Link { .. })), "{path}");
        assert!(matches!(finder.explain(&tree.path(path)), Explanation::Refused(_, Refusal::Link { .. })), "{path}");
    }
    assert!(finder.list_dir(&tree.path("dir")).is_err());
    // The fixed part is the administrator's word.
    assert_eq!(tree.found(&tree.finder(&["dir/*"], &[]).scan()), ["dir/secret"]);
    let both = tree.finder(&["*/secret", "dir/sec*"], &[]);
    assert!(both.open(&tree.path("dir/secret")).is_ok());
    assert!(both.scan().refused.iter().any(|(path, _)| *path == tree.path("dir")));
}

#[test]
fn a_directory_that_is_not_there_is_waited_for_at_its_nearest_parent() {
    let tree = Tree::new(&["app/x"]);
    let finder = tree.finder(&["app/logs/today/*.log"], &[]);
    let scan = finder.scan();
    assert_eq!((scan.dirs, scan.refused.len(), scan.nothing_matched.len()), (vec![tree.path("app")], 0, 1));
    tree.write("app/logs/today/a.log", 1);
    assert_eq!(tree.found(&finder.scan()), ["app/logs/today/a.log"]);
}

#[test]
fn only_files_of_directories_that_a_pattern_leads_into_are_listed_and_opened() {
    let tree = Tree::new(&["logs/a.log", "logs/a.log.1", "logs/.b", "logs/sub/c.log", "other/d.log"]);
    let finder = tree.finder(&["logs/*.log", "*/sub/*.log"], &[]);
    symlink("a.log", tree.path("logs/link")).unwrap();
    let mut names: Vec<_> = finder.list_dir(&tree.path("logs")).unwrap().iter().map(|file| tree.short(&file.path)).collect();
    names.sort();
    assert_eq!(names, ["logs/.b", "logs/a.log", "logs/a.log.1"]);
    assert_eq!(finder.open(&tree.path("logs/a.log.1")).unwrap().1, finder.stat(&tree.path("logs/a.log.1")).unwrap());
    assert!(finder.open(&tree.path("logs/sub/c.log")).is_ok());
    assert_eq!(finder.list_dir(&tree.path("gone/sub")).unwrap_err().kind(), io::ErrorKind::NotFound);
    for outside in ["other/sub/x/y.log", "logs/../other/d.log", "logs/sub/deep/e.log"] {
        assert!(matches!(finder.open(&tree.path(outside)), Err(Refusal::NotCovered)), "{outside}");
    }
    assert!(matches!(finder.open(Path::new("relative")), Err(Refusal::NotCovered)));
}

#[test]
fn a_path_is_explained() {
    let tree = Tree::new(&["a.log", ".b.log", "old/c.log", "d.txt"]);
    fs::create_dir(tree.path("dir.log")).unwrap();
    let finder = tree.finder(&["**/*.log"], &["old"]);
    for (path, word) in [
        ("a.log", "read: "),
        (".b.log", "begin with a dot"),
        ("old/c.log", "/old excludes it"),
        ("d.txt", "no `include` pattern"),
        ("dir.log", "a directory"),
        ("none.log", "does not exist"),
    ] {
        let text = finder.explain(&tree.path(path)).to_string();
        assert!(text.contains(word), "{path}: {text}");
    }
}

#[test]
fn a_file_that_is_renamed_away_while_it_is_looked_for_is_no_trouble() {
    let tree = Tree::new(&["a.log"]);
    let finder = tree.finder(&["*.log"], &[]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                rustix::fs::rename(tree.path("a.log"), tree.path("b")).unwrap();
                rustix::fs::rename(tree.path("b"), tree.path("a.log")).unwrap();
            }
        });
        let clean = (0..2_000).all(|_| finder.scan().refused.is_empty());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(clean);
    });
}

/// CPU time that this thread takes for it, at best of several times.
fn cpu(mut act: impl FnMut()) -> Duration {
    let now = || {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let mut once = || {
        let start = now();
        act();
        now().saturating_sub(start)
    };
    (0..5).map(|_| once()).min().unwrap()
}

#[test]
fn a_search_costs_little_more_than_looking_at_each_file_once() {
    let tree = Tree::new(&[]);
    for number in 0..10_000 {
        fs::write(tree.path(&format!("service-{number:05}.log")), "").unwrap();
    }
    let finder = tree.finder(&["*.log"], &["*.gz"]);
    let search = cpu(|| assert_eq!(finder.scan().found.len(), 10_000));
    let look =
        cpu(|| assert_eq!(fs::read_dir(tree.path("")).unwrap().filter(|entry| entry.as_ref().unwrap().metadata().is_ok()).count(), 10_000));
    eprintln!("10,000 files: search {search:?}, bare look {look:?}");
    // Without optimisation it takes about four times as long; anything that grows with the square of the files would be far more.
    assert!(search < look * 8, "{search:?} against {look:?}");
}
