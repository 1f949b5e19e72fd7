//! A small file system of its own for a state directory, which a test can fill up, make unwritable, and put right again.
//!
//! Mounting needs rights. Root has them on most machines; elsewhere [`mounting`] runs the test again in a user and mount namespace, where only
//! tmpfs can be mounted. Where that is refused too the test fails, unless `LOGFERRY_TEST_NO_MOUNT` says that this is known.

use std::any::type_name;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::temp_dir;

/// Set by those who know that nothing can be mounted where they run the tests.
const NO_MOUNT: &str = "LOGFERRY_TEST_NO_MOUNT";
/// Set for a test that runs in a namespace of its own.
const INSIDE: &str = "LOGFERRY_TEST_IN_NAMESPACE";
/// What takes the room that a test wants taken.
const BALLAST: &str = "ballast";
const PIECE: u64 = 64 << 10;
/// Unmounts should the test process die before it could.
const WATCHER: &str = r#"trap '' INT TERM HUP
read -r _
umount -l "$1" 2>/dev/null
rm -rf "$2""#;

/// What can be mounted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4 in a file, by a loop device.
    Ext4,
    /// tmpfs.
    Tmpfs,
}

/// A mounted file system; unmounted and removed when dropped.
pub struct Disk {
    kind: Kind,
    at: PathBuf,
    image: PathBuf,
    watcher: Child,
    // Dropped last.
    _dir: TempDir,
}

/// Runs `test`, the body of the test function that calls this, where file systems can be mounted.
#[track_caller]
pub fn mounting<F: FnOnce()>(test: F) {
    if kind().is_some() {
        return test();
    }
    if std::env::var_os(NO_MOUNT).is_some() {
        eprintln!("SKIPPED: nothing can be mounted here, as {NO_MOUNT} says");
        return;
    }
    assert!(std::env::var_os(INSIDE).is_none(), "tmpfs can't be mounted in a user and mount namespace either");
    let body = type_name::<F>();
    let name = body.split_once("::").and_then(|(_, path)| path.strip_suffix("::{{closure}}")).expect("called by a test function");
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--mount"]).arg(std::env::current_exe().expect("the path of this program"));
    again.args([name, "--exact", "--nocapture"]).env(INSIDE, "1").stdin(Stdio::null());
    let said = again.output().expect("run unshare, of util-linux");
    let printed = [said.stdout, said.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    eprintln!("--- in a user and mount namespace:\n{printed}---");
    let ran = said.status.success() && printed.contains("1 passed");
    assert!(
        ran,
        "this test needs a file system of its own: run it as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1); \
         set {NO_MOUNT}=1 to leave out what needs one"
    );
}

/// The best that can be mounted here; tried once.
pub fn kind() -> Option<Kind> {
    static KIND: OnceLock<Option<Kind>> = OnceLock::new();
    *KIND.get_or_init(|| [Kind::Ext4, Kind::Tmpfs].into_iter().find(|&kind| mount(kind, 16).is_ok()))
}

impl Disk {
    /// A file system of `mib` MiB, of the best kind; to be called within [`mounting`].
    #[track_caller]
    pub fn new(mib: u64) -> Disk {
        let kind = kind().expect("Disk::new is called within mounting");
        mount(kind, mib).unwrap_or_else(|why| panic!("{why}"))
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// What is free of it, bytes.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.at).expect("look at a file system");
        stat.f_bavail * stat.f_frsize
    }

    /// Takes room until no more than `left` bytes are free, as another program's file would.
    pub fn fill(&self, left: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.at.join(BALLAST)).expect("open the ballast");
        let piece = vec![0xA5; usize::try_from(PIECE).expect("fits")];
        while self.free() > left {
            let bytes = usize::try_from((self.free() - left).min(PIECE)).expect("fits");
            if ballast.write_all(&piece[..bytes]).is_err() {
                return;
            }
        }
    }

    /// Gives back what [`Disk::fill`] took.
    pub fn make_room(&self) {
        let _ = fs::remove_file(self.at.join(BALLAST));
    }

    /// From now on nothing in it can be changed, through open files neither: every write is refused. Only for ext4.
    #[track_caller]
    pub fn refuse_writes(&self) {
        self.immutable("+i");
        assert!(File::create(self.at.join(BALLAST)).is_err(), "it still takes writes");
    }

    /// Ends [`Disk::refuse_writes`].
    pub fn allow_writes(&self) {
        self.immutable("-i");
    }

    fn immutable(&self, change: &str) {
        // Not every file can be changed so: sockets can't, and some may be gone by now.
        let _ = run("chattr", ["-R", "-f", change].map(OsStr::new).into_iter().chain([self.at.as_os_str()]));
    }

    /// The file system aborts, as after an error of its device: it is read-only at once, open files too. Only for ext4.
    pub fn abort(&self) {
        run("mount", [OsStr::new("-o"), OsStr::new("remount,abort"), self.at.as_os_str()]).expect("abort the file system");
    }

    /// What an operator does then: unmounts it (nobody may use it), checks it, and mounts it again.
    pub fn repair(&self) {
        run("umount", [self.at.as_os_str()]).expect("unmount it");
        // 1: errors were corrected.
        let fsck = Command::new("fsck.ext4").args(["-f", "-p"]).arg(&self.image).output().expect("run fsck.ext4");
        assert!(fsck.status.code().is_some_and(|code| code <= 1), "{}", String::from_utf8_lossy(&fsck.stdout));
        run("mount", [OsStr::new("-o"), OsStr::new("loop"), self.image.as_os_str(), self.at.as_os_str()]).expect("mount it again");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.kind == Kind::Ext4 {
            self.allow_writes();
        }
        // Lazily: a process that was killed a moment ago may still hold a file of it.
        let _ = run("umount", [OsStr::new("-l"), self.at.as_os_str()]);
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}

fn mount(kind: Kind, mib: u64) -> Result<Disk, String> {
    let dir = temp_dir("disk");
    let (at, image) = (dir.path().join("mounted"), dir.path().join("image"));
    fs::create_dir(&at).map_err(|error| error.to_string())?;
    if kind == Kind::Ext4 {
        File::create(&image).and_then(|file| file.set_len(mib << 20)).map_err(|error| error.to_string())?;
        run("mkfs.ext4", ["-q", "-F", "-m", "0"].map(OsStr::new).into_iter().chain([image.as_os_str()]))?;
        run("mount", [OsStr::new("-o"), OsStr::new("loop"), image.as_os_str(), at.as_os_str()])?;
    } else {
        let size = format!("size={mib}m");
        run("mount", ["-t", "tmpfs", "-o", &size, "none"].map(OsStr::new).into_iter().chain([at.as_os_str()]))?;
    }
    let mut watcher = Command::new("sh");
    watcher.args(["-c", WATCHER, "watcher"]).arg(&at).arg(dir.path());
    watcher.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let watcher = watcher.spawn().map_err(|error| error.to_string())?;
    Ok(Disk { kind, at, image, watcher, _dir: dir })
}

fn run<'a>(program: &str, args: impl IntoIterator<Item = &'a OsStr>) -> Result<(), String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())) }
}
