//! A real systemd-journald of its own, away from the machine's: in a mount namespace with a `/run` and a `/var/log/journal` of its own.
//! Needs root, as systemd-journald does. What it writes is seen from outside in [`Journald::lasting`] and [`Journald::passing`].

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::process::Process;
use super::{temp_dir, wait_for, wait_until};

const JOURNALD: &str = "/lib/systemd/systemd-journald";
const MACHINE_ID: &str = "5f0c8a4e6bd94d3f8a1e2b7c9d0e1f23";
const SOON: Duration = Duration::from_secs(20);

/// In the namespace; `$1` is the folder.
const MOUNTS: &str = r#"set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log
mount -t tmpfs tmpfs /var/log
mkdir /var/log/journal
mount --bind "$1/lasting" /var/log/journal
mount --bind "$1/journald.conf" /etc/systemd/journald.conf
mount --bind "$1/machine-id" /etc/machine-id
echo mounted
exec sleep infinity"#;

/// See the module.
pub struct Journald {
    daemon: Option<Process>,
    keeper: Process,
    dir: TempDir,
}

/// Sends entries as services do, in the native protocol.
pub struct Sender {
    socket: UnixDatagram,
    place: PathBuf,
    text: Vec<u8>,
}

impl Journald {
    /// Starts one with these lines in its configuration beside those that switch its rate limit off.
    #[track_caller]
    pub fn start(settings: &str) -> Journald {
        assert!(rustix::process::geteuid().is_root(), "a journald of one's own needs root: run the tests as root");
        assert!(Path::new(JOURNALD).exists(), "there is no {JOURNALD}: Debian package systemd");
        let dir = temp_dir("journald");
        fs::create_dir_all(dir.path().join("lasting")).expect("make a folder");
        let fixed = "[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nForwardToWall=no\n";
        fs::write(dir.path().join("journald.conf"), format!("{fixed}{settings}\n")).expect("write journald.conf");
        fs::write(dir.path().join("machine-id"), format!("{MACHINE_ID}\n")).expect("write machine-id");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-c", MOUNTS, "mounts"]).arg(dir.path());
        let mut keeper = Process::start("unshare", &mut command, &dir.path().join("keeper.log"), dir.path()).expect("start unshare");
        keeper.wait_for_log("mounted", SOON);
        let mut journald = Journald { daemon: None, keeper, dir };
        journald.run();
        journald
    }

    /// Starts the daemon, which was not started or has been killed.
    pub fn run(&mut self) {
        let mut command = self.command(JOURNALD);
        let socket = self.run_dir().join("systemd/journal/socket");
        drop(fs::remove_file(&socket));
        let daemon = Process::start("systemd-journald", &mut command, &self.dir.path().join("journald.log"), self.dir.path());
        self.daemon = Some(daemon.expect("start systemd-journald"));
        wait_until("journald's socket", SOON, || socket.exists());
    }

    /// A command that runs in its namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.keeper.pid())).args(["--mount", "--", program]);
        command
    }

    /// The process whose namespace it is.
    pub fn namespace(&self) -> u32 {
        self.keeper.pid()
    }

    /// Runs journalctl in its namespace; what it said.
    #[track_caller]
    pub fn journalctl(&self, args: &[&str]) -> String {
        let out = self.command("journalctl").args(args).stdin(Stdio::null()).output().expect("run journalctl");
        assert!(out.status.success(), "journalctl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Sends the daemon a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.daemon.as_mut().expect("it runs").signal(signal);
    }

    /// Kills the daemon with SIGKILL and starts it again.
    pub fn kill9_and_run(&mut self) {
        self.daemon.as_mut().expect("it runs").kill9();
        self.run();
    }

    /// Its `/run`: a memory file system, since journald deletes nothing elsewhere when it flushes.
    fn run_dir(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run", self.keeper.pid()))
    }

    /// The journals that outlive a reboot.
    pub fn lasting(&self) -> PathBuf {
        self.dir.path().join("lasting").join(MACHINE_ID)
    }

    /// Those that don't.
    pub fn passing(&self) -> PathBuf {
        self.run_dir().join("log/journal").join(MACHINE_ID)
    }

    /// From now on it writes to the journal that outlives a reboot, to which it copies what it has.
    #[track_caller]
    pub fn flush(&self) {
        self.journalctl(&["--flush"]);
        wait_until("the journal to be flushed", SOON, || self.lasting().join("system.journal").exists());
    }

    /// A new sender.
    #[track_caller]
    pub fn sender(&self) -> Sender {
        Sender::to(&self.run_dir().join("systemd/journal"))
    }
}

/// A path to a socket has room for 108 bytes, and a folder of tests may have more: so it is named by its folder's descriptor.
fn connect(place: &Path) -> Option<UnixDatagram> {
    let dir = fs::File::open(place).ok()?;
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(format!("/proc/self/fd/{}/socket", dir.as_raw_fd())).ok()?;
    Some(socket)
}

impl Sender {
    /// One who sends to the journald whose socket is in this folder.
    #[track_caller]
    pub fn to(place: &Path) -> Sender {
        let socket = wait_for("a connection to journald", SOON, || connect(place));
        Sender { socket, place: place.to_owned(), text: Vec::new() }
    }

    /// Sends an entry, however long journald lets it wait; what it had not received when it was killed is gone.
    #[track_caller]
    pub fn send(&mut self, fields: &[(&str, &str)]) {
        self.text.clear();
        for (name, value) in fields {
            for piece in [name, "=", value, "\n"] {
                self.text.extend_from_slice(piece.as_bytes());
            }
        }
        if self.socket.send(&self.text).is_err() {
            let (place, text) = (&self.place, &self.text);
            self.socket = wait_for("journald to take an entry", SOON, || connect(place).filter(|socket| socket.send(text).is_ok()));
        }
    }

    /// Sends an entry with a number in it.
    #[track_caller]
    pub fn number(&mut self, number: u64) {
        let (message, number) = (format!("message {number} of a service that says much"), number.to_string());
        self.send(&[("MESSAGE", &message), ("PRIORITY", "6"), ("SYSLOG_IDENTIFIER", "numbers"), ("LOGFERRY_NUMBER", &number)]);
    }
}
