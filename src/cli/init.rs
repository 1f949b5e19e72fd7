//! `logferry init`: looks at this host and writes a configuration for it, with the reason for everything in it. What is looked at is in
//! `init/host.rs`; what is made of it, in `init/plan.rs`, is decided without a look at anything.

mod host;
mod plan;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::out::say;
use plan::Wishes;

/// Options of `logferry init`.
#[derive(Debug, Args)]
pub struct Options {
    /// Addresses of Kafka's brokers, comma-separated; without them they are left to be filled in
    #[arg(long, value_name = "HOST:PORT,…")]
    bootstrap_servers: Option<String>,
    /// The topic
    #[arg(long, value_name = "TOPIC", default_value = "logs")]
    topic: String,
    /// Where to write it, a file that is not there yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the configuration; the exit status is 1 if that can't be done.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let host = host::look(Path::new("/"));
    let wishes = Wishes { bootstrap_servers: options.bootstrap_servers.clone(), topic: options.topic.clone() };
    let text = plan::configuration(&host, &wishes);
    let Some(output) = &options.output else {
        say(&text);
        return ExitCode::SUCCESS;
    };
    // Kafka's password is not in it, but its neighbours in the directory are read by nobody else either.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(output)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            say(&format!(
                "{} is written: look through it, and try it with logferry --config {} check --connect\n",
                output.display(),
                output.display()
            ));
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            eprintln!("{} is there already, and is left as it is: name another file with --output, or move it away", output.display());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{} can't be written: {error}", output.display());
            ExitCode::FAILURE
        }
    }
}
