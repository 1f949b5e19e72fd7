//! Who is measured, and how each is started on one file and one topic. All send one Kafka message a line, lz4, `linger.ms` 20, `batch.size` 1 MB,
//! `acks=all`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::agent::{Agent, Plan};
use crate::harness::process::Process;
use crate::harness::temp_dir;
use crate::harness::topic::Format;
use tempfile::TempDir;

/// One who ships a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    /// logferry with the default configuration.
    Logferry(Format),
    /// The bare loop, with at most so many messages in librdkafka.
    Bare { queue: u64 },
    /// Debian's rsyslog: imfile, omkafka.
    Rsyslog,
}

/// All, in the order of a round.
pub const ALL: [Contestant; 5] = [
    Contestant::Logferry(Format::Raw),
    Contestant::Logferry(Format::Json),
    Contestant::Bare { queue: 60_000 },
    Contestant::Bare { queue: 500_000 },
    Contestant::Rsyslog,
];

/// A contestant at work.
pub enum Running {
    /// logferry.
    Agent(Box<Agent>),
    /// Another process, and its folder, which must not go before it.
    Process { process: Box<Process>, _folder: TempDir },
}

impl Running {
    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        match self {
            Running::Agent(agent) => agent.process(),
            Running::Process { process, .. } => process,
        }
    }
}

impl Contestant {
    /// Its name in the table.
    pub fn name(self) -> String {
        match self {
            Contestant::Logferry(format) => format!("logferry {}", format.name()),
            Contestant::Bare { queue } => format!("bare loop, queue {queue}"),
            Contestant::Rsyslog => "rsyslog raw".into(),
        }
    }

    /// Starts it on the files that match `glob`, with nothing remembered. `once`: it is to end when all is acknowledged, if it can.
    pub fn start(self, bootstrap: &str, topic: &str, glob: &Path, once: bool) -> Running {
        match self {
            Contestant::Logferry(format) => {
                let plan = Plan::new(bootstrap, topic).format(format).include(glob);
                let plan = if once { plan.arg("--once") } else { plan };
                Running::Agent(Box::new(plan.start()))
            }
            Contestant::Bare { queue } => {
                let mut own = Command::new(std::env::current_exe().expect("the path of this program"));
                own.args(["--bare-loop", bootstrap, topic]).arg(glob).arg(queue.to_string());
                launch("the bare loop", own, temp_dir("bare"))
            }
            Contestant::Rsyslog => {
                let dir = temp_dir("rsyslog");
                let config = dir.path().join("rsyslog.conf");
                fs::write(&config, rsyslog_config(bootstrap, topic, glob, dir.path())).expect("write rsyslog.conf");
                let mut rsyslogd = Command::new("/usr/sbin/rsyslogd");
                rsyslogd.arg("-n").arg("-f").arg(config).arg("-i").arg(dir.path().join("pid"));
                launch("rsyslogd", rsyslogd, dir)
            }
        }
    }

    /// Whether it ends by itself when all is shipped.
    pub fn ends_by_itself(self) -> bool {
        self != Contestant::Rsyslog
    }
}

fn launch(name: &str, mut command: Command, dir: TempDir) -> Running {
    let process = Process::start(name, &mut command, &dir.path().join("log"), dir.path());
    let process = process.unwrap_or_else(|error| panic!("{name} can't be started ({error}): run make bench"));
    Running::Process { process: Box::new(process), _folder: dir }
}

/// As fast as it gets: without `addMetadata="off"` imfile makes a JSON object a line, which costs half as much again.
fn rsyslog_config(bootstrap: &str, topic: &str, glob: &Path, dir: &Path) -> String {
    let (glob, dir) = (glob.display(), dir.display());
    format!(
        r#"global(workDirectory="{dir}")
module(load="imfile")
module(load="omkafka")
template(name="raw" type="string" string="%msg%")
input(type="imfile" File="{glob}" Tag="bench" ruleset="ship" addMetadata="off")
ruleset(name="ship") {{
    action(type="omkafka" broker="{bootstrap}" topic="{topic}" template="raw" resubmitOnFailure="on"
        confParam=["compression.codec=lz4", "linger.ms=20", "batch.size=1000000"]
        topicConfParam=["request.required.acks=-1"])
}}
"#
    )
}
