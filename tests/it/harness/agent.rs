//! logferry as its users run it: the built binary, a configuration file, signals, and what it says on standard error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::books::{Books, Status};
use super::process::{Process, Usage};
use super::temp_dir;
use super::topic::Format;

/// What is written into the configuration, and how the binary is started.
#[derive(Clone, Debug)]
pub struct Plan {
    bootstrap: String,
    topic: String,
    format: Format,
    include: Vec<String>,
    agent: String,
    kafka: String,
    source: String,
    extra: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    restricted: bool,
    within: Option<u32>,
    state_dir: Option<PathBuf>,
    no_books: Option<&'static str>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit status; `None`: ended by a signal.
    pub code: Option<i32>,
    /// All that it wrote, standard output and standard error as they came.
    pub text: String,
}

/// Runs a command of logferry on a configuration file that need not be good, and waits for its end.
#[track_caller]
pub fn ask(config: &Path, args: &[&str]) -> Said {
    ask_with(config, args, &[])
}

#[track_caller]
fn ask_with(config: &Path, args: &[&str], env: &[(String, String)]) -> Said {
    let dir = temp_dir("ask");
    let mut command = Command::new(env!("CARGO_BIN_EXE_logferry"));
    command.args(args).arg("--config").arg(config).envs(env.iter().map(|(key, value)| (key, value)));
    let mut process = Process::start("logferry", &mut command, &dir.path().join("said"), dir.path()).expect("start logferry");
    let code = process.wait(Duration::from_secs(60)).code();
    Said { code, text: process.log() }
}

impl Plan {
    /// One file source, raw lines, everything from the beginning.
    pub fn new(bootstrap: &str, topic: &str) -> Plan {
        let [agent, kafka, source, extra] = <[String; 4]>::default();
        let (include, args, env) = <(Vec<_>, Vec<_>, Vec<_>)>::default();
        Plan {
            bootstrap: bootstrap.into(),
            topic: topic.into(),
            format: Format::Raw,
            include,
            agent,
            kafka,
            source,
            extra,
            args,
            env,
            restricted: false,
            within: None,
            state_dir: None,
            no_books: None,
        }
    }

    /// The format of the messages.
    pub fn format(mut self, format: Format) -> Plan {
        self.format = format;
        self
    }

    /// A further glob of files.
    pub fn include(mut self, glob: impl AsRef<Path>) -> Plan {
        self.include.push(glob.as_ref().display().to_string());
        self
    }

    /// Further lines in `[agent]`.
    pub fn agent(mut self, toml: &str) -> Plan {
        self.agent.extend([toml, "\n"]);
        self
    }

    /// Further lines in `[kafka]`.
    pub fn kafka(mut self, toml: &str) -> Plan {
        self.kafka.extend([toml, "\n"]);
        self
    }

    /// Further lines in the `[[source]]`.
    pub fn source(mut self, toml: &str) -> Plan {
        self.source.extend([toml, "\n"]);
        self
    }

    /// Further tables at the end of the file.
    pub fn extra(mut self, toml: &str) -> Plan {
        self.extra.extend([toml, "\n"]);
        self
    }

    /// A further argument after `run`.
    pub fn arg(mut self, arg: &str) -> Plan {
        self.args.push(arg.into());
        self
    }

    /// An environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Plan {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Runs it without the rights by which root reads any file, so that permissions count whoever runs the tests.
    pub fn restricted(mut self) -> Plan {
        self.restricted = true;
        self
    }

    /// Runs it in the mount namespace of this process.
    pub fn within(mut self, process: u32) -> Plan {
        self.within = Some(process);
        self
    }

    /// Another state directory than the one beside the configuration.
    pub fn state_dir(mut self, dir: &Path) -> Plan {
        self.state_dir = Some(dir.to_owned());
        self
    }

    /// Nobody looks at the books at the agent's end, because of this.
    pub fn without_books(mut self, why: &'static str) -> Plan {
        self.no_books = Some(why);
        self
    }

    /// Where its state is when its configuration is written into `dir`.
    fn state_in(&self, dir: &Path) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(|| dir.join("state"))
    }

    /// Writes the configuration into `dir`, with the state beside it; where it is.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join("config.toml");
        fs::write(&path, self.config(&self.state_in(dir))).expect("write the configuration");
        path
    }

    /// The configuration file, with `state_dir` for the state.
    pub fn config(&self, state_dir: &Path) -> String {
        let Plan { bootstrap, topic, include, agent, kafka, source, extra, .. } = self;
        let (format, state_dir) = (self.format.name(), state_dir.display().to_string());
        format!(
            "[agent]\nhost = \"harness\"\nstate_dir = {state_dir:?}\n{agent}\n[kafka]\nbootstrap_servers = [{bootstrap:?}]\ntopic = {topic:?}\nformat = {format:?}\n{kafka}\n\
             [[source]]\nname = \"files\"\ntype = \"file\"\nstart_at = \"beginning\"\ninclude = {include:?}\n{source}\n{extra}"
        )
    }

    /// Writes the configuration into a folder of its own and runs the binary.
    pub fn start(self) -> Agent {
        let dir = temp_dir("agent");
        self.write(dir.path());
        let process = launch(dir.path(), &self);
        Agent { process, dir, plan: self }
    }
}

/// A logferry that was started, with its state folder. When it is dropped its books are looked at, which must balance; then it is killed and
/// removed.
pub struct Agent {
    // Dropped in this order: first the process ends, then its folder is removed.
    process: Process,
    dir: TempDir,
    plan: Plan,
}

impl Agent {
    /// The folder that holds `config.toml`, `state` and `logferry.log`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.plan.state_in(self.dir.path())
    }

    /// What it says of itself, running or stopped.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.try_status().unwrap_or_else(|why| panic!("logferry status: {why}"))
    }

    /// The same, or what it said instead.
    ///
    /// # Errors
    /// What it said: that it is just starting, for example.
    pub fn try_status(&self) -> Result<Status, String> {
        // With books out of balance the command fails, and tells them all the same.
        let said = self.ask(&["status", "--json"]);
        Status::parse(&said.text).map_err(|why| format!("exit {:?}: {why}", said.code))
    }

    /// Waits until its status is such.
    #[track_caller]
    pub fn wait_for_status(&self, what: &str, timeout: Duration, such: impl Fn(&Status) -> bool) -> Status {
        let mut last = String::new();
        let found = super::wait(timeout, || {
            let status = self.try_status();
            last = format!("{status:?}");
            status.ok().filter(&such)
        });
        found.unwrap_or_else(|| panic!("waited {timeout:?} for: {what}; its status is {last}"))
    }

    /// Waits until everything of a source is settled, and takes its books, which must balance and have this much read.
    #[track_caller]
    pub fn settled_books(&self, source: &str, read: u64) -> Books {
        // Records may be in the topic before the agent has heard of it.
        let settled = |status: &Status| {
            let books = status.source(source);
            books.pending.events == 0 && books.read.events >= read
        };
        let status = self.wait_for_status(&format!("{read} events of {source} read and settled"), Duration::from_secs(20), settled);
        status.assert_balanced();
        let books = status.source(source);
        assert_eq!(books.read.events, read, "events of {source} read and written: {books}");
        books
    }

    /// The books of a source say that this much was read, and all of it delivered.
    #[track_caller]
    pub fn assert_all_delivered(&self, source: &str, read: u64) {
        let books = self.settled_books(source, read);
        assert!(books.delivered.events == read && books.missed.is_empty(), "source {source}, {read} written: {books}");
    }

    /// Runs another command on its configuration, beside it.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> Said {
        ask_with(&self.dir.path().join("config.toml"), args, &self.plan.env)
    }

    /// Changes its configuration file and has it read anew.
    #[track_caller]
    pub fn reload_with(&self, change: impl FnOnce(String) -> String) -> Said {
        let path = self.dir.path().join("config.toml");
        let text = fs::read_to_string(&path).expect("read the configuration");
        fs::write(&path, change(text)).expect("write the configuration");
        self.ask(&["reload"])
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Asks it to stop, as systemd does, and waits for its end.
    #[track_caller]
    pub fn terminate(&mut self, timeout: Duration) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(timeout)
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        self.process.wait(timeout)
    }

    /// How it ended, or `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.exited()
    }

    /// Whether it has ended; its costs can still be read until [`Agent::exited`] or [`Agent::wait`] has been asked.
    pub fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Starts it again on the same configuration and state; kills it first if it still runs.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.process = launch(self.dir.path(), &self.plan);
    }

    /// The same with a changed plan; the state stays.
    pub fn restart_with(&mut self, change: impl FnOnce(Plan) -> Plan) {
        self.process.kill9();
        self.plan = change(self.plan.clone());
        self.plan.write(self.dir());
        self.process = launch(self.dir.path(), &self.plan);
    }

    /// Its process since it was started last.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.pid()
    }

    /// What it has cost since it was started last.
    pub fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// What it has said since it was started last.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has said `text` since it was started last.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, timeout: Duration) {
        self.process.wait_for_log(text, timeout);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let looked_at = self.plan.no_books.is_none() && !std::thread::panicking();
        // Without a state it never ran.
        if looked_at && self.state_dir().join("state.redb").exists() {
            self.status().assert_balanced();
        }
    }
}

fn launch(dir: &Path, plan: &Plan) -> Process {
    const LOGFERRY: &str = env!("CARGO_BIN_EXE_logferry");
    let mut command = Command::new(LOGFERRY);
    if plan.restricted && rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search", LOGFERRY]);
    }
    if let Some(process) = plan.within {
        command = Command::new("nsenter");
        command.arg(format!("--target={process}")).args(["--mount", "--", LOGFERRY]);
    }
    command.args(["run", "--config"]).arg(dir.join("config.toml")).args(&plan.args);
    command.envs(plan.env.iter().map(|(key, value)| (key, value))).current_dir(dir);
    Process::start("logferry", &mut command, &dir.join("logferry.log"), dir).expect("start logferry")
}
