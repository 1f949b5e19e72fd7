//! A child process that can't outlive the test run, whose output is kept in a file, and whose costs can be read.
//!
//! Apart because the broker, the agent and the benchmark's peers all need it. A process is killed when it is dropped. If the test process
//! itself dies first (or ends with a static that is never dropped), a small shell does it: it waits for the end of a pipe that only the test
//! process holds open, then kills the child and removes its folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::wait_for;

const WATCHER: &str = r#"trap '' INT TERM HUP
read -r _
kill -9 "$1" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$1" 2>/dev/null || break; sleep 0.1; done
rm -rf "$2""#;

/// What a process has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all its threads, in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory now, bytes; 0 once it has ended.
    pub rss: u64,
    /// The most resident memory it ever had, bytes; 0 once it has ended.
    pub peak_rss: u64,
}

/// A running (or ended) child process.
pub struct Process {
    name: String,
    child: Child,
    watcher: Child,
    log: PathBuf,
    log_from: u64,
    exit: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; both its outputs are appended to the file `log`. `folder` is removed should the test process die before it.
    ///
    /// # Errors
    /// Those of starting a process: above all that there is no such program.
    pub fn start(name: &str, command: &mut Command, log: &Path, folder: &Path) -> io::Result<Process> {
        let out = File::options().create(true).append(true).open(log)?;
        let log_from = out.metadata()?.len();
        let child = command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        let watcher = watcher(child.id(), folder)?;
        Ok(Process { name: name.to_owned(), child, watcher, log: log.to_owned(), log_from, exit: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            let pid = Pid::from_child(&self.child);
            rustix::process::kill_process(pid, signal).expect("send a signal to a child");
        }
    }

    /// Ends it with SIGKILL and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.exited().is_none() {
            self.disarm();
            self.child.kill().expect("kill a child");
            self.exit = Some(self.child.wait().expect("wait for a child"));
        }
    }

    /// How it ended, or `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() && self.has_ended() {
            self.disarm();
            self.exit = Some(self.child.wait().expect("wait for a child"));
        }
        self.exit
    }

    /// Waits for its end; panics after `timeout`, with the end of its log.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let started = Instant::now();
        while started.elapsed() < timeout {
            if let Some(status) = self.exited() {
                return status;
            }
            std::thread::sleep(super::LOOK_EVERY);
        }
        panic!("{} has not ended after {timeout:?}; its log ends with:\n{}", self.name, self.log_tail(40));
    }

    /// Whether it has ended; its costs can still be read until [`Process::exited`] has been asked.
    pub fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let pid = Pid::from_child(&self.child);
        self.exit.is_some() || rustix::process::waitid(WaitId::Pid(pid), look).expect("look at a child").is_some()
    }

    /// What it has cost so far.
    pub fn usage(&self) -> Usage {
        let proc = Path::new("/proc").join(self.pid().to_string());
        let stat = fs::read_to_string(proc.join("stat")).unwrap_or_default();
        let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        // The name, the second field, may hold anything; the 14th and 15th are user and system time in hundredths of a second (USER_HZ).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Usage { cpu: Duration::from_millis(ticks * 10), rss: kib("VmRSS:"), peak_rss: kib("VmHWM:") }
    }

    /// How many bytes it has caused to be written to disks so far (page cache not yet written included).
    pub fn written_to_disk(&self) -> u64 {
        let io = fs::read_to_string(Path::new("/proc").join(self.pid().to_string()).join("io")).expect("read /proc/PID/io");
        let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("the line write_bytes");
        bytes.parse().expect("a number")
    }

    /// All that it has written since it was started.
    pub fn log(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        let from = usize::try_from(self.log_from).expect("a log fits into memory");
        String::from_utf8_lossy(all.get(from..).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Waits until its log since the start contains `text`; panics after `timeout`, or at its end without it, with the end of the log.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) {
        let ended_without = wait_for(&format!("{text:?} in the log of {}", self.name), timeout, || {
            let ended = self.has_ended();
            if self.log().contains(text) { Some(false) } else { ended.then_some(true) }
        });
        assert!(!ended_without, "{} ended without having said {text:?}; its log ends with:\n{}", self.name, self.log_tail(40));
    }

    /// Before the child's id becomes free for others, nobody may be left who would kill it.
    fn disarm(&mut self) {
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}

/// Starts the shell that kills the process `pid` and removes `folder` once nobody holds its standard input open any more.
pub fn watcher(pid: u32, folder: &Path) -> io::Result<Child> {
    let mut shell = Command::new("sh");
    shell.args(["-c", WATCHER, "watcher", &pid.to_string()]).arg(folder);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- the log of {} ended with:\n{}\n---", self.name, self.log_tail(60));
        }
    }
}
