//! `logferry lane`: stops, starts and empties what is bound for one topic.

use clap::Subcommand;

use crate::cli::desk::{Desk, Outcome};
use crate::control::protocol::Change;

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stops sending to a topic until "resume"; what comes for it waits, in the spill and then in the files
    Pause {
        /// The topic
        topic: String,
    },
    /// Sends to a paused topic again
    Resume {
        /// The topic
        topic: String,
    },
    /// Throws away what waits for a topic
    ///
    /// Its events are never sent. They are counted as lost with the reason "operator", and the log has who did it. To keep them, write them to a
    /// file before: logferry spill export TOPIC.
    Discard {
        /// The topic
        topic: String,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
///
/// # Errors
/// It failed or was refused.
pub fn run(desk: &Desk, command: Command) -> Outcome {
    match command {
        Command::Pause { topic } => desk.change(Change::Pause { lane: topic }, true),
        Command::Resume { topic } => desk.change(Change::Resume { lane: topic }, true),
        Command::Discard { topic, yes } => desk.change(Change::Discard { lane: topic }, yes),
    }
}
