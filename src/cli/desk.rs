//! Where every tool of an operator asks: the running daemon, or where none runs its state, under the lock. And how a change is made: first it is
//! said what it would do, then a person agrees.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::cli::check::BAD_CONFIGURATION;
use crate::cli::out::say;
use crate::config::{self, Config};
use crate::control::protocol::{Answer, Change, Left, Request};
use crate::control::status::{Status, Stream};
use crate::control::user::User;
use crate::control::{self, AskError};
use crate::logging;
use crate::operator::stopped::{Stopped, StoppedError};

/// A daemon that holds the lock and does not listen is starting or ending, or another command has the lock: so long is waited for either.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// Whom a command asks.
#[derive(Debug)]
pub struct Desk {
    config: Config,
}

/// What a command came to: words for standard error, if it failed.
pub type Outcome = Result<(), String>;

/// Runs a command with the desk that the configuration at `path` leads to.
#[must_use]
pub fn run(path: &Path, command: impl FnOnce(&Desk) -> Outcome) -> ExitCode {
    let config = match config::load_without_secrets(path) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    // What is changed in the state of a stopped daemon is logged by this process.
    logging::begin();
    match command(&Desk::new(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}

impl Desk {
    /// A desk for the daemon of this configuration.
    #[must_use]
    pub fn new(config: Config) -> Desk {
        Desk { config }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Asks; `progress` hears what comes before the last answer. The lock of a stopped daemon's state is held only meanwhile.
    ///
    /// # Errors
    /// There was no answer, or it was refused.
    pub fn ask(&self, request: &Request, progress: &mut dyn FnMut(&Left)) -> Result<Answer, String> {
        let dir = &self.config.agent.state_dir;
        let until = Instant::now() + START_PATIENCE;
        let answer = loop {
            match control::ask(dir, request, progress) {
                Ok(answer) => break answer,
                Err(AskError::NoDaemon) => {}
                Err(error) => return Err(error.to_string()),
            }
            match Stopped::open(dir, self.config.operator()) {
                Ok(stopped) => break control::answer(&stopped, request, &User::me(), &mut |_| true),
                Err(StoppedError::Held(_)) if Instant::now() < until => std::thread::sleep(START_PATIENCE / 100),
                Err(error) => return Err(error.to_string()),
            }
        };
        match answer {
            Answer::Refused(why) => Err(why),
            answer => Ok(answer),
        }
    }

    /// Asks for words.
    ///
    /// # Errors
    /// See [`Desk::ask`].
    pub fn text(&self, request: &Request) -> Result<String, String> {
        match self.ask(request, &mut |_| ())? {
            Answer::Text(text) => Ok(text),
            _ => Err(strange()),
        }
    }

    /// Everything at a glance.
    ///
    /// # Errors
    /// See [`Desk::ask`].
    pub fn status(&self) -> Result<Status, String> {
        match self.ask(&Request::Status, &mut |_| ())? {
            Answer::Status(status) => Ok(*status),
            _ => Err(strange()),
        }
    }

    /// Every stream.
    ///
    /// # Errors
    /// See [`Desk::ask`].
    pub fn streams(&self) -> Result<Vec<Stream>, String> {
        match self.ask(&Request::Streams, &mut |_| ())? {
            Answer::Streams(streams) => Ok(streams),
            _ => Err(strange()),
        }
    }

    /// Makes a change; before it, unless it is `certain`, says what it would do and waits for a yes.
    ///
    /// # Errors
    /// It was refused, by either side.
    pub fn change(&self, change: Change, certain: bool) -> Outcome {
        if !certain {
            say(&format!("{}\n", self.text(&Request::Change { change: change.clone(), go: false })?));
            agreed()?;
        }
        let done = self.text(&Request::Change { change, go: true })?;
        say(&format!("Done. {done}\n"));
        Ok(())
    }
}

/// Waits for a yes on a terminal.
///
/// # Errors
/// Anything but a yes; or nobody is there to ask.
pub fn agreed() -> Outcome {
    if !io::stdin().is_terminal() {
        return Err("Nothing was changed: nobody is there to be asked; --yes does it without asking.".into());
    }
    eprint!("Go on? [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    // A line longer than this is no yes.
    let read = io::Read::take(io::stdin().lock(), 64).read_line(&mut answer);
    let yes = read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if yes { Ok(()) } else { Err("Nothing was changed.".into()) }
}

fn strange() -> String {
    "the running daemon gave an answer to another question: restart it with the release of this command".into()
}
