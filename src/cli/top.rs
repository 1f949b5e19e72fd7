//! `logferry top`: what the daemon does, live on a terminal: sources, lanes and gaps, with rates, from the same answer as `logferry status`. What is
//! shown is [`state`], how it looks is [`draw`]; both are pure. Here are the terminal, the keys, and the thread that asks.

pub mod draw;
pub mod state;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::cli::desk::{Desk, Outcome};
use crate::control::protocol::{Answer, Request};
use crate::control::status::Status;
use crate::control::{self};
use state::State;

/// How often the daemon is asked.
const EVERY: Duration = Duration::from_secs(1);
/// How soon a key or an answer is noticed.
const LOOK: Duration = Duration::from_millis(100);

/// Shows it until `q` or ctrl-C.
///
/// # Errors
/// There is no terminal, or it fails.
pub fn run(desk: &Desk) -> Outcome {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err("top needs a terminal: logferry status prints the same once, logferry status --json for programs".into());
    }
    let dir = desk.config().agent.state_dir.clone();
    // One answer waits at most: the thread asks again when it is taken.
    let (answers, heard) = sync_channel(0);
    std::thread::Builder::new().name("asks".into()).spawn(move || keep_asking(&dir, &answers)).map_err(|error| error.to_string())?;
    let mut terminal = ratatui::try_init().map_err(|error| format!("the terminal can't be used: {error}"))?;
    let ended = watch(&mut terminal, &heard);
    ratatui::restore();
    ended.map_err(|error| format!("the terminal can't be used: {error}"))
}

/// What the daemon answered, or why it did not.
type Heard = (Instant, Result<Box<Status>, String>);

fn keep_asking(dir: &Path, answers: &SyncSender<Heard>) {
    loop {
        let begun = Instant::now();
        let heard = match control::ask(dir, &Request::Status, &mut |_| ()) {
            Ok(Answer::Status(status)) => Ok(status),
            Ok(Answer::Refused(why)) => Err(why),
            Ok(_) => Err("it gave an answer to another question: use the command of its release".into()),
            Err(error) => Err(error.to_string()),
        };
        if answers.send((Instant::now(), heard)).is_err() {
            return;
        }
        std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
}

fn watch(terminal: &mut DefaultTerminal, heard: &Receiver<Heard>) -> io::Result<()> {
    let mut state = State::default();
    let mut drawn: Option<Instant> = None;
    loop {
        let mut news = drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY);
        for (at, answer) in heard.try_iter() {
            state.hear(at, answer.map(|status| *status));
            news = true;
        }
        if event::poll(LOOK)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release && !pressed(&mut state, key) => return Ok(()),
                _ => news = true,
            }
        }
        if news {
            terminal.draw(|frame| draw::draw(frame, &mut state, Timestamp::now(), Instant::now()))?;
            drawn = Some(Instant::now());
        }
    }
}

/// Does what a key says; whether to go on.
fn pressed(state: &mut State, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Tab | KeyCode::Right => state.turn(1),
        KeyCode::BackTab | KeyCode::Left => state.turn(2),
        KeyCode::Down => state.scroll(1),
        KeyCode::Up => state.scroll(-1),
        KeyCode::PageDown => state.scroll(10),
        KeyCode::PageUp => state.scroll(-10),
        KeyCode::Home => state.scroll(isize::MIN),
        _ => {}
    }
    true
}
