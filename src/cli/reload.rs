//! `logferry reload`: has the running daemon read its configuration anew, and waits for what comes of it. The daemon's verdict counts, since its
//! environment may be another than the command's.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::out::say;
use crate::config;
use crate::control::protocol::{Answer, Request};
use crate::control::{self, AskError};

/// Asks the daemon that runs with the configuration at `path`; 0 if the new one holds, 1 if not.
#[must_use]
pub fn run(path: &Path) -> ExitCode {
    match ask(path) {
        Ok(text) => {
            say(&format!("{text}\n"));
            ExitCode::SUCCESS
        }
        Err(words) => {
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}

fn ask(path: &Path) -> Result<String, String> {
    let mistakes = || config::load(path).err().map(|problems| format!("{problems}\n")).unwrap_or_default();
    let Some(dir) = config::state_dir(path) else { return Err(mistakes() + "Without agent.state_dir the daemon can't be found.") };
    match control::ask(&dir, &Request::Reload, &mut |_| ()) {
        Ok(Answer::Text(text)) => Ok(text),
        Ok(Answer::Refused(why)) => Err(why),
        Ok(_) => Err("the running daemon gave an answer to another question: restart it with the release of this command".into()),
        Err(AskError::NoDaemon) => Err(mistakes() + &format!("No daemon runs on {}: there is nothing to reload.", dir.display())),
        Err(error) => Err(error.to_string()),
    }
}
