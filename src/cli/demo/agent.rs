//! logferry itself, as the demo runs it: a child process with a configuration, state and log in the demo's own directory, that is killed with the
//! demo at the latest.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::reader::TOPIC;

/// A stop may take `agent.stop_timeout` (20 s); whoever has not ended then is stuck.
const STOP: Duration = Duration::from_secs(25);
/// Ticks of the processor times in /proc are hundredths of a second, for every program (proc(5), `USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// The demo's directory; removed on drop unless it is to be kept.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// Whether it stays.
    pub keep: bool,
}

impl Home {
    /// A new directory among the temporary ones that only this user may look into, with a configuration for the cluster at `servers`.
    ///
    /// # Errors
    /// It can't be made, with its path.
    pub fn make(servers: &str, keep: bool) -> Result<Home, String> {
        let path = std::env::temp_dir().join(format!("logferry-demo-{}", std::process::id()));
        let words = |error: io::Error| format!("the directory {} can't be made: {error}; set TMPDIR to one with room", path.display());
        // Not a directory that is there already: it is somebody else's.
        DirBuilder::new().mode(0o700).create(&path).map_err(words)?;
        let home = Home { path: path.clone(), keep };
        std::fs::create_dir(home.logs()).map_err(words)?;
        std::fs::write(home.config(), configuration(&home.path, servers)).map_err(words)?;
        Ok(home)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the logs are.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    fn log(&self) -> PathBuf {
        self.path.join("logferry.log")
    }

    /// The last lines of logferry's own log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("the directory {} can't be removed: {error}", self.path.display());
        }
    }
}

/// The lines that logferry needs. Its librdkafka would look for a broker that is away every ten seconds at last: long, for a short show.
fn configuration(home: &Path, servers: &str) -> String {
    let text = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned());
    let (state, logs) = (text(home.join("state")), text(home.join("logs/*.log*")));
    format!(
        "[agent]\nhost = \"demo\"\nid = \"demo\"\nstate_dir = {state}\n\n\
         [kafka]\nbootstrap_servers = \"{servers}\"\ntopic = \"{TOPIC}\"\ncompression = \"zstd\"\n\
         librdkafka = {{ \"reconnect.backoff.max.ms\" = 500 }}\n\n\
         [[source]]\nname = \"shop\"\ntype = \"file\"\ninclude = [{logs}]\n"
    )
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time, in steps of 10 ms.
    pub cpu: Duration,
    /// The most memory it had at a time, bytes.
    pub memory: u64,
}

/// A running logferry; killed on drop.
#[derive(Debug)]
pub struct Agent(Child);

impl Agent {
    /// Starts this very program as `logferry run`.
    ///
    /// # Errors
    /// The system refuses.
    pub fn start(home: &Home) -> io::Result<Agent> {
        let log = File::options().create(true).append(true).open(home.log())?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(home.config()).arg("run");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Ctrl-C on the terminal is for the demo, which then ends its child.
        command.process_group(0);
        for (name, _) in std::env::vars_os() {
            let bytes = name.as_encoded_bytes();
            if bytes.starts_with(b"LOGFERRY_") || bytes.ends_with(b"_DIRECTORY") || bytes == b"JOURNAL_STREAM" {
                command.env_remove(&name);
            }
        }
        command.spawn().map(Agent)
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system can't say.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// What it has used so far; zero where /proc does not tell.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).unwrap_or_default();
        Usage { cpu: cpu_time(&read("stat")), memory: peak_memory(&read("status")) }
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }

    /// Asks it to end (SIGTERM) and waits; `None` if it does not end in time.
    ///
    /// # Errors
    /// The system refuses.
    pub fn stop(mut self) -> io::Result<Option<ExitStatus>> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
        kill_process(pid, Signal::TERM)?;
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both do nothing where it has ended and was waited for.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// User and system time from /proc/PID/stat: the 14th and 15th field; the second, a name in brackets, may hold anything.
fn cpu_time(stat: &str) -> Duration {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u32 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// `VmHWM` from /proc/PID/status.
fn peak_memory(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_understood() {
        let stat = "17 (a b) c) S 1 17 17 0 -1 4194560 3002 0 13 0 250 31 4 5 20 0 9 0 8650 1000 2000";
        assert_eq!(cpu_time(stat), Duration::from_millis(2810));
        assert_eq!(peak_memory("Name:\tlogferry\nVmHWM:\t   40960 kB\nVmRSS:\t 100 kB\n"), 40 << 20);
        assert_eq!((cpu_time(""), peak_memory("")), (Duration::ZERO, 0));
    }

    #[test]
    fn the_configuration_is_good_also_where_the_path_is_odd() {
        let text = configuration(Path::new("/tmp/a \"b\""), "127.0.0.1:9092");
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["agent"]["state_dir"].as_str(), Some("/tmp/a \"b\"/state"));
    }
}
