//! The command line: options and which command does what. Every command has a file of its own.

pub mod check;
pub mod connect;
pub mod dead_letters;
pub mod demo;
pub mod desk;
pub mod drain;
pub mod explain;
pub mod init;
pub mod lane;
pub mod log_level;
pub mod manual;
pub mod out;
pub mod positions;
pub mod progress;
pub mod reload;
pub mod spill;
pub mod status;
pub mod tap;
pub mod test;
pub mod top;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{config, daemon, logging};

/// Ships this server's logs to Kafka: nothing is dropped while there is room, and nothing is lost in silence.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "Exit status: 0 all is well; 1 it failed, and the log says why; 2 wrong usage; 78 the configuration is bad."
)]
struct Options {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "The configuration file [default: $LOGFERRY_CONFIG, then /etc/logferry/config.toml]"
    )]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon: SIGTERM sends what was read and ends, a second one ends at once
    Run {
        /// End when all that exists is acknowledged by Kafka
        #[arg(long)]
        once: bool,
    },
    /// Judges the configuration and says where it can lose data
    Check {
        /// Also ask the cluster: addresses, topics, limits, permissions
        #[arg(long)]
        connect: bool,
        /// Print the resulting configuration with the origin of each value, secrets hidden
        #[arg(long)]
        print: bool,
    },
    /// Shows what the rules make of lines, and the messages that would be sent
    Test(test::Options),
    /// Says whether PATH is read, by which source, how far it has come, and what stands in the way
    Explain {
        /// A log file
        path: PathBuf,
    },
    /// Shows what the daemon does and whether anything is missing
    ///
    /// For every source the books, read = delivered + filtered + merged + dead letters + lost + pending; for every lane what it does, why it is
    /// blocked and what cures that; the spill and when it will be full. Asks the running daemon; where none runs, it reads what the last snapshot
    /// holds. Exit status 1 if the books don't balance.
    Status {
        /// Print everything as JSON
        #[arg(long)]
        json: bool,
    },
    /// Shows what the daemon does, live on a terminal
    ///
    /// Sources, lanes and the last gaps, with rates, every second anew. Tab and the arrows move, q ends it. A daemon that ends is waited for.
    Top,
    /// Shows events of a source as they flow on the running daemon, and what the rules make of them
    ///
    /// A sample: what is beyond --rate is not shown, and counted. Shown is what is sent, after redaction; of what a rule leaves out, its text as
    /// all redacting rules leave it. It ends with ctrl-C.
    Tap(tap::Options),
    /// Shows how far every file has been read; goes on elsewhere with one
    #[command(subcommand)]
    Positions(positions::Command),
    /// Stops, starts or empties what is bound for one topic
    #[command(subcommand)]
    Lane(lane::Command),
    /// Shows what Kafka refused for its size or content; sends it again or discards it
    #[command(subcommand)]
    DeadLetters(dead_letters::Command),
    /// Shows what waits on disk while Kafka does not take it; verifies it and writes it out
    #[command(subcommand)]
    Spill(spill::Command),
    /// Waits until all that exists is acknowledged by Kafka
    ///
    /// All lines that were there when it was asked; those that are written later are not waited for. The daemon goes on. Exit status 1 and what is
    /// left, if the time is up before.
    Drain {
        /// How long to wait
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = drain::timeout)]
        timeout: Duration,
    },
    /// Has the running daemon read its configuration anew
    ///
    /// What has not changed goes on untouched: files, sockets, connections. A bad configuration is refused whole, and the old one goes on. What
    /// only a restart changes is said. Exit status 1 if it was refused, with all mistakes.
    Reload,
    /// Shows at which level the running daemon logs; sets another one for a time
    ///
    /// It goes back by itself. Neither the configuration nor a reload changes it meanwhile.
    LogLevel(log_level::Options),
    /// Looks at this host and writes a configuration for it, with reasons
    ///
    /// The journal, and logs that are written to and are not in it already; with remarks on how logrotate treats them. Nothing is changed but --output.
    Init(init::Options),
    /// Shows everything on this machine with nothing installed: an embedded Kafka, rotation, an outage, a kill, and the count
    Demo(demo::Options),
    /// Writes manual pages and completions into DIR
    #[command(hide = true)]
    Manual {
        /// A directory
        dir: PathBuf,
    },
}

/// The definition of all options.
#[must_use]
pub fn command() -> clap::Command {
    Options::command()
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let options = Options::parse();
    let path = check::config_path(options.config);
    match options.command {
        Command::Run { once } => run(&path, once),
        Command::Check { connect, print } => check::run(&path, print, connect),
        Command::Test(options) => test::run(&path, &options),
        Command::Explain { path: file } => desk::run(&path, |desk| explain::run(desk, &file)),
        Command::Status { json } => desk::run(&path, |desk| status::run(desk, json)),
        Command::Top => desk::run(&path, top::run),
        Command::Tap(options) => desk::run(&path, |desk| tap::run(desk, &options)),
        Command::Positions(command) => desk::run(&path, |desk| positions::run(desk, command)),
        Command::Lane(command) => desk::run(&path, |desk| lane::run(desk, command)),
        Command::DeadLetters(command) => desk::run(&path, |desk| dead_letters::run(desk, command)),
        Command::Spill(command) => desk::run(&path, |desk| spill::run(desk, command)),
        Command::Drain { timeout } => desk::run(&path, |desk| drain::run(desk, timeout)),
        Command::Reload => reload::run(&path),
        Command::LogLevel(options) => desk::run(&path, |desk| log_level::run(desk, &options)),
        Command::Init(options) => init::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Manual { dir } => manual::run(command(), &dir),
    }
}

fn run(path: &std::path::Path, once: bool) -> ExitCode {
    logging::begin();
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            tracing::error!("the configuration is bad:\n{problems}");
            return ExitCode::from(check::BAD_CONFIGURATION);
        }
    };
    logging::settle(&config.log);
    for warning in config.warnings.iter().chain(&check::judge(&config)) {
        tracing::warn!("{warning}");
    }
    let ended = daemon::run(path, config, once);
    logging::end();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        // What is left is not lost: it is read again at the next start. For `--once` it is a failure all the same.
        Ok(false) => ExitCode::from(u8::from(once)),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
