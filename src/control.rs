//! The control socket: where commands speak with the running daemon. A thread listens, a thread serves each connection, one question a
//! connection; what a question means is up to an [`Operator`]. Who may open the socket may ask: its mode (0660) and its directory decide.

pub mod letters;
pub mod protocol;
pub mod status;
pub mod user;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use letters::{Letter, List};
use protocol::{Answer, Change, Left, Request, Spilled};
use status::{Status, Stream};
use user::User;

use crate::tap::Flow;

/// A question is at most this long, bytes (a path of 4 KiB as numbers fits); a longer one is not answered.
const QUESTION: u64 = 32 << 10;
/// A line of an answer is at most this long, bytes: some 400,000 streams. A longer one is refused by whoever asked.
const ANSWER: u64 = 256 << 20;
/// The daemon waits this long for a question, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(2);
/// Whoever asked waits this long for a line: what takes longer sends progress meanwhile.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// Connections at a time; one more is told to try again.
const CONNECTIONS: usize = 8;
/// Where the service's runtime directory has it.
const RUNTIME: &str = "/run/logferry/control.sock";
/// The service's state directory.
const SERVICE_STATE: &str = "/var/lib/logferry";

/// Why something was not done, with the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What can be asked of logferry: of the running daemon through the socket, or of the state of a stopped one.
pub trait Operator: Send + Sync {
    /// Everything at a glance.
    ///
    /// # Errors
    /// It can't be told.
    fn status(&self) -> Result<Status, Refusal>;

    /// What is known of the file at `path`, for people; empty if it was never read.
    fn explain(&self, path: &OsStr) -> String;

    /// Every stream, by source and path.
    fn streams(&self) -> Vec<Stream>;

    /// What of a lane's spill is acknowledged; nothing, if there is no such lane.
    fn spilled(&self, lane: &str) -> Spilled;

    /// Every dead letter.
    ///
    /// # Errors
    /// They can't be read.
    fn letters(&self) -> Result<List, Refusal>;

    /// One of them.
    ///
    /// # Errors
    /// There is none with this id, or it can't be read.
    fn letter(&self, id: &str) -> Result<Letter, Refusal>;

    /// What `change` would do, in words that end in a full stop. Changes nothing.
    ///
    /// # Errors
    /// It can't be done.
    fn plan(&self, change: &Change) -> Result<String, Refusal>;

    /// Does it, for `user`; returns what was done. What is skipped or thrown away is in the books and in the log when this returns.
    ///
    /// # Errors
    /// It can't be done; nothing was changed.
    fn change(&self, change: &Change, user: &User) -> Result<String, Refusal>;

    /// Has the configuration read anew, and waits until it holds; what that changed, and what only a restart does.
    ///
    /// # Errors
    /// It was refused, with all mistakes; nothing was changed. Or a source of it could not begin.
    fn reload(&self) -> Result<String, Refusal>;

    /// Has the log at this level for so long, for `user`; without one nothing is changed. Returns which level holds, and until when.
    ///
    /// # Errors
    /// There is no such level, or no log to change.
    fn log_level(&self, level: Option<&str>, time: Duration, user: &User) -> Result<String, Refusal>;

    /// Tells what flows through this source, at most `rate` events a second, as long as `tell` takes it.
    ///
    /// # Errors
    /// There is no such source, or others look already.
    fn tap(&self, source: &str, rate: u32, tell: &mut dyn FnMut(Flow) -> bool) -> Result<(), Refusal>;

    /// Waits until all that exists now is acknowledged, at most `timeout`; what is left then, `None` for nothing. `tell` is called about every
    /// second, and says whether to go on.
    ///
    /// # Errors
    /// It can't be waited for.
    fn drain(&self, timeout: Duration, tell: &mut dyn FnMut(&Left) -> bool) -> Result<Option<Left>, Refusal>;
}

/// Answers one question; `tell` takes the answers that come before the last one.
pub fn answer(operator: &dyn Operator, request: &Request, user: &User, tell: &mut dyn FnMut(&Answer) -> bool) -> Answer {
    let text = |outcome: Result<String, Refusal>| outcome.map(Answer::Text);
    let outcome = match request {
        Request::Status => operator.status().map(|status| Answer::Status(Box::new(status))),
        Request::Explain { path } => Ok(Answer::Text(operator.explain(path))),
        Request::Streams => Ok(Answer::Streams(operator.streams())),
        Request::Spilled { lane } => Ok(Answer::Spilled(operator.spilled(lane))),
        Request::DeadLetters => operator.letters().map(Answer::DeadLetters),
        Request::DeadLetter { id } => operator.letter(id).map(|letter| Answer::DeadLetter(Box::new(letter))),
        Request::Change { change, go: false } => text(operator.plan(change)),
        Request::Change { change, go: true } => text(operator.change(change, user)),
        Request::Reload => text(operator.reload()),
        Request::LogLevel { level, for_s } => text(operator.log_level(level.as_deref(), Duration::from_secs(*for_s), user)),
        Request::Tap { source, rate } => {
            operator.tap(source, *rate, &mut |flow| tell(&Answer::Flow(flow))).map(|()| Answer::Text("It has ended.".into()))
        }
        Request::Drain { timeout_s } => {
            operator.drain(Duration::from_secs(*timeout_s), &mut |left| tell(&Answer::Progress(left.clone()))).map(Answer::Drained)
        }
    };
    outcome.unwrap_or_else(|Refusal(why)| Answer::Refused(why))
}

/// The socket while the daemon runs; its file is removed on drop.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

/// Where the daemon listens: in its runtime directory, else beside the state directory's lock.
fn socket_path(state_dir: &Path) -> PathBuf {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        Some(dir) => Path::new(&dir).join("control.sock"),
        None => state_dir.join("control.sock"),
    }
}

/// Listens from now on. Where that fails it is said, and the daemon runs on without. The state directory's lock must be held.
pub fn serve(state_dir: &Path, operator: Arc<dyn Operator>) -> Option<Control> {
    let path = socket_path(state_dir);
    match listen(&path, operator) {
        Ok(()) => Some(Control { path }),
        Err(error) => {
            tracing::warn!(socket = %path.display(), %error, "no control socket: commands can't ask this daemon");
            None
        }
    }
}

fn listen(path: &Path, operator: Arc<dyn Operator>) -> io::Result<()> {
    // The lock is held, so whoever made an old one is gone.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o660))?;
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // No descriptor left, most likely: that passes.
                std::thread::sleep(PATIENCE / 10);
                continue;
            };
            let Some(place) = Place::take(&open) else {
                let busy = format!("{CONNECTIONS} commands are being answered: try again in a moment");
                // So few bytes fit into the socket's buffer: this does not wait.
                drop(say(&stream, &Answer::Refused(busy)));
                continue;
            };
            let operator = Arc::clone(&operator);
            let serving = move || {
                let _place = place;
                if let Err(error) = attend(&stream, &*operator) {
                    tracing::debug!(%error, "a question on the control socket was not answered");
                }
            };
            // Without a thread the connection is closed, and the command says that there was no answer.
            if let Err(error) = std::thread::Builder::new().name("control answer".into()).spawn(serving) {
                tracing::debug!(%error, "no thread for a question on the control socket");
            }
        }
    })?;
    Ok(())
}

/// One of [`CONNECTIONS`].
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(open));
        (open.fetch_add(1, Ordering::Relaxed) < CONNECTIONS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn say(mut stream: &UnixStream, given: &Answer) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&protocol::answer(given)?)
}

fn attend(stream: &UnixStream, operator: &dyn Operator) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(QUESTION)).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let last = match protocol::understand(line) {
        Ok(request) => {
            let user = User::of_peer(stream)?;
            answer(operator, &request, &user, &mut |given| say(stream, given).is_ok())
        }
        Err(why) => Answer::Refused(why),
    };
    say(stream, &last)
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No daemon listens.
    #[error("no daemon runs")]
    NoDaemon,
    /// One listens, or may, and this user may not ask.
    #[error("{} can't be opened: permission denied. Ask as root, as the user that logferry runs as, or as a member of its group", .0.display())]
    Forbidden(PathBuf),
    /// Something went wrong on the way.
    #[error("the running daemon did not answer: {0}")]
    Failed(io::Error),
    /// It is of another release.
    #[error("{0}")]
    Strange(String),
}

/// Asks the daemon that runs on `state_dir`; `progress` hears what comes before the last answer.
///
/// # Errors
/// See [`AskError`].
pub fn ask(state_dir: &Path, request: &Request, progress: &mut dyn FnMut(&Left)) -> Result<Answer, AskError> {
    let mut hear = |answer: &Answer| {
        if let Answer::Progress(left) = answer {
            progress(left);
        }
        true
    };
    let gone = || AskError::Failed(io::ErrorKind::UnexpectedEof.into());
    follow(state_dir, request, &mut hear)?.ok_or_else(gone)
}

/// The same; `hear` hears what comes before the last answer, and says whether to go on. `None`: it did not want to.
///
/// # Errors
/// See [`AskError`].
pub fn follow(state_dir: &Path, request: &Request, hear: &mut dyn FnMut(&Answer) -> bool) -> Result<Option<Answer>, AskError> {
    let mut stream = connect(state_dir)?;
    let failed = AskError::Failed;
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).map_err(failed)?;
    stream.set_write_timeout(Some(ANSWER_PATIENCE)).map_err(failed)?;
    let question = protocol::question(request).map_err(|error| AskError::Failed(error.into()))?;
    stream.write_all(&question).map_err(failed)?;
    let mut lines = BufReader::new(&stream);
    loop {
        let mut line = Vec::new();
        (&mut lines).take(ANSWER).read_until(b'\n', &mut line).map_err(failed)?;
        if line.is_empty() {
            return Err(AskError::Failed(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended meanwhile")));
        }
        match protocol::heard(&line).map_err(AskError::Strange)? {
            between @ (Answer::Progress(_) | Answer::Flow(_)) => {
                if !hear(&between) {
                    return Ok(None);
                }
            }
            last => return Ok(Some(last)),
        }
    }
}

fn connect(state_dir: &Path) -> Result<UnixStream, AskError> {
    // Only the service has its socket elsewhere; another instance's daemon must not answer for this one.
    let runtime = (state_dir == Path::new(SERVICE_STATE)).then(|| PathBuf::from(RUNTIME));
    let mut outcome = AskError::NoDaemon;
    for path in [Some(state_dir.join("control.sock")), runtime].into_iter().flatten() {
        match UnixStream::connect(&path) {
            Ok(stream) => return Ok(stream),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => outcome = AskError::Forbidden(path),
            Err(error) => outcome = AskError::Failed(error),
        }
    }
    Err(outcome)
}
