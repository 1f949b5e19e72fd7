//! A Debian system that boots: a copy of one that `tests/boot/root.sh` has made, with systemd as its process 1, in a container of systemd-nspawn. It
//! shares the machine's network, so that it reaches the broker. Needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::journald::Sender;
use super::process::Process;
use super::{temp_dir, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// See the module.
pub struct Container {
    nspawn: Option<Process>,
    /// Its process 1.
    leader: u32,
    dir: TempDir,
}

impl Container {
    /// A copy of the system of this Debian release, not booted yet.
    #[track_caller]
    pub fn of(suite: &str) -> Container {
        let system = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/boot").join(suite);
        assert!(system.exists(), "there is no {}: run make test-boot", system.display());
        let dir = temp_dir("container");
        let copied = Command::new("cp").args(["-a", "--reflink=auto"]).arg(system).arg(dir.path().join("root")).status();
        assert!(copied.expect("run cp").success());
        fs::write(dir.path().join("root/etc/machine-id"), "5f0c8a4e6bd94d3f8a1e2b7c9d0e1f23\n").expect("write machine-id");
        Container { nspawn: None, leader: 0, dir }
    }

    /// Where a path of it is outside, while it does not run.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join("root").join(inside)
    }

    /// Boots it, and waits until it runs.
    #[track_caller]
    pub fn boot(&mut self) {
        let name = format!("logferry-{}", std::process::id());
        let mut command = Command::new("systemd-nspawn");
        command.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--console=read-only"]);
        command.arg(format!("--machine={name}")).arg("--directory").arg(self.path(""));
        // systemd 257 boots with the unified hierarchy alone, and 252 with it too.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let process = Process::start("systemd-nspawn", &mut command, &self.dir.path().join("log"), self.dir.path());
        let process = process.expect("start systemd-nspawn: Debian package systemd-container");
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        self.nspawn = Some(process);
        // A first boot on a machine that is busy otherwise takes its time.
        wait_until("the container to run", SOON * 3, || {
            // Its first child is not process 1 yet, but makes that and ends.
            let child = || fs::read_to_string(&children).ok()?.split_whitespace().last()?.parse().ok();
            self.leader = child().unwrap_or(0);
            let said = self.run(&["systemctl", "is-system-running"]);
            matches!(String::from_utf8_lossy(&said.stdout).trim(), "running" | "degraded")
        });
    }

    /// Runs a command in it.
    pub fn run(&self, command: &[&str]) -> Output {
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--target={}", self.leader)).args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--"]);
        nsenter.args(command).stdin(Stdio::null()).output().expect("run nsenter")
    }

    /// One who sends entries to its journald.
    #[track_caller]
    pub fn sender(&self) -> Sender {
        Sender::to(&PathBuf::from(format!("/proc/{}/root/run/systemd/journal", self.leader)))
    }

    /// Shuts it down, and waits for its end.
    #[track_caller]
    pub fn shut_down(&mut self) {
        self.run(&["systemctl", "poweroff"]);
        self.nspawn.take().expect("it runs").wait(SOON);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Process 1 outlives a systemd-nspawn that is killed; all others end with it.
        let runs = self.nspawn.as_mut().is_some_and(|process| process.exited().is_none());
        let leader = i32::try_from(self.leader).ok().and_then(Pid::from_raw);
        if let Some(leader) = leader.filter(|_| runs) {
            let _ = kill_process(leader, Signal::KILL);
        }
    }
}
