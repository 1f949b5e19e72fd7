//! Ready patterns: for each name the lines that begin something, and the lines that may follow, as a small automaton. A line that is told by none
//! of them is an event of its own, to which what follows it may be joined: a log line and its stack trace are one event.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::State;

/// A compiled set.
#[derive(Debug)]
pub struct Ready {
    begins: Vec<(Regex, State)>,
    steps: Vec<(u8, Regex, State)>,
}

/// Patterns, and what is known after a line that begins an event and matches; the first one counts.
type Begins = &'static [(&'static str, u8)];
/// After which states (bits), which lines are joined, and what is known then; the first one counts.
type Steps = &'static [(u8, &'static str, u8)];

/// The names, in the order in which they are told.
pub const NAMES: [&str; 7] = ["java", "python", "go", "ruby", "node", "dotnet", "postgres"];

/// The set of this name.
#[must_use]
pub fn ready(name: &str) -> Option<&'static Ready> {
    static SETS: [LazyLock<Ready>; 7] = [
        LazyLock::new(|| Ready::new(JAVA)),
        LazyLock::new(|| Ready::new(PYTHON)),
        LazyLock::new(|| Ready::new(GO)),
        LazyLock::new(|| Ready::new(RUBY)),
        LazyLock::new(|| Ready::new(NODE)),
        LazyLock::new(|| Ready::new(DOTNET)),
        LazyLock::new(|| Ready::new(POSTGRES)),
    ];
    SETS.get(NAMES.iter().position(|known| *known == name)?).map(|set| &**set)
}

impl Ready {
    fn new((begins, steps): (Begins, Steps)) -> Ready {
        // Bytes, not characters: small, and whatever the encoding is. That each is a good regex is what a test is for.
        let regex = |text: &str| Regex::new(&format!("(?-u){text}")).ok();
        Ready {
            begins: begins.iter().filter_map(|(text, to)| Some((regex(text)?, State(*to)))).collect(),
            steps: steps.iter().filter_map(|(from, text, to)| Some((*from, regex(text)?, State(*to)))).collect(),
        }
    }

    /// Panics unless every pattern was good.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let sizes = [JAVA, PYTHON, GO, RUBY, NODE, DOTNET, POSTGRES].map(|(begins, steps)| (begins.len(), steps.len()));
        assert!(sizes.contains(&(self.begins.len(), self.steps.len())));
    }

    pub(super) fn begin(&self, line: &[u8]) -> State {
        self.begins.iter().find(|(regex, _)| regex.is_match(line)).map_or(State::FIRST, |(_, state)| *state)
    }

    pub(super) fn join(&self, state: State, line: &[u8]) -> Option<State> {
        let from = self.steps.iter().filter(|(from, ..)| from & state.0 != 0);
        from.into_iter().find(|(_, regex, _)| regex.is_match(line)).map(|(.., to)| *to)
    }
}

/// Any first line; what else is known is a bit of its own in each set.
const FIRST: u8 = State::FIRST.0;
const DONE: u8 = State::DONE.0;

/// Logback, Log4j, java.util.logging and what the JVM prints: the exception and its causes belong to the line before.
const JAVA: (Begins, Steps) = {
    const HEAD: u8 = 2;
    const TRACE: u8 = 4;
    const THROWN: &str = r"^(?:[\w$]+[./])+[\w$]*(?:Exception|Error|Throwable)(?::|$)";
    (
        &[(THROWN, HEAD), (r#"^Exception in thread ""#, HEAD)],
        &[
            (FIRST, THROWN, HEAD),
            (FIRST | HEAD | TRACE, r"^\s+at \S", TRACE),
            (HEAD | TRACE, r"^\s*(?:Caused by|Suppressed|Wrapped by): ", HEAD),
            (TRACE, r"^\s*\.\.\. \d+ (?:more|common frames omitted)", TRACE),
            (HEAD, r"^\s+\S", HEAD),
            (HEAD | TRACE, r"^\s+\[?CIRCULAR REFERENCE", TRACE),
        ],
    )
};

/// `logging.exception` and what the interpreter prints, chained exceptions and exception groups included.
const PYTHON: (Begins, Steps) = {
    const TRACE: u8 = 2;
    const RAISED: u8 = 4;
    const BLANK: u8 = 8;
    const CHAIN: u8 = 16;
    const GROUP: u8 = 32;
    const TRACEBACK: &str = r"^Traceback \(most recent call last\):";
    const OF_GROUP: &str = r"^\s*\+ Exception Group Traceback \(most recent call last\):";
    (
        &[(TRACEBACK, TRACE), (OF_GROUP, GROUP)],
        &[
            (FIRST | CHAIN, TRACEBACK, TRACE),
            (FIRST | CHAIN, OF_GROUP, GROUP),
            (GROUP, r"^[ \t]+\S", GROUP),
            (TRACE, r"^[ \t]+\S", TRACE),
            (TRACE, r"^[A-Za-z_][\w.<>]*(?::|\s*$)", RAISED),
            (RAISED, r"^[ \t]+[^\s+]", RAISED),
            (RAISED | GROUP, r"^\s*$", BLANK),
            (BLANK, r"^(?:During handling of the above exception|The above exception was the direct cause)", CHAIN),
            (CHAIN, r"^\s*$", CHAIN),
        ],
    )
};

/// Panics, fatal errors and dumps of goroutines.
const GO: (Begins, Steps) = {
    const PANIC: u8 = 2;
    const FRAMES: u8 = 4;
    const BLANK: u8 = 8;
    const GOROUTINE: &str = r"^goroutine \d+ .*\[.*\]:$";
    (
        &[(r"^(?:panic|fatal error|unexpected fault address|SIGQUIT|SIGABRT)\b", PANIC), (GOROUTINE, FRAMES)],
        &[
            (FIRST | PANIC | FRAMES | BLANK, GOROUTINE, FRAMES),
            (PANIC, r"^\s*panic: |^\[signal |^\[recovered|^PC=|^runtime: |^\t", PANIC),
            (PANIC | FRAMES, r"^\s*$", BLANK),
            (FRAMES, r"^\t|^created by |^\[originating from |^\.\.\.|^[^\s(]\S*\(.*\)$", FRAMES),
        ],
    )
};

/// What the interpreter prints, and backtraces as Rails and Logger write them.
const RUBY: (Begins, Steps) = {
    const TRACE: u8 = 2;
    (&[], &[(FIRST | TRACE, r"^\s+(?:\d+: )?from \S+:\d+:in ", TRACE), (FIRST | TRACE, r"^\s*\S+:\d+:in [`'][^']*'$", TRACE)])
};

/// `error.stack` behind a line of a log, and what node prints when it ends by an error.
const NODE: (Begins, Steps) = {
    const PLACE: u8 = 2;
    const HEAD: u8 = 4;
    const TRACE: u8 = 8;
    const INSIDE: u8 = 16;
    const BLANK: u8 = 32;
    (
        &[(r"^(?:/|[A-Za-z]:\\|node:|file:)\S*:\d+$", PLACE), (r"^(?:Uncaught )?[\w$.]*(?:Error|Exception)(?: \[\w+\])?(?::|$)", HEAD)],
        &[
            (PLACE, r"^\s|^$", PLACE),
            (PLACE, r"^\S", HEAD),
            (FIRST | HEAD | TRACE, r"^\s+at .*\{$", INSIDE),
            (FIRST | HEAD | TRACE, r"^\s+at \S", TRACE),
            (INSIDE, r"^\s+\S", INSIDE),
            (INSIDE, r"^\}", TRACE),
            (HEAD, r"^\s+\S", HEAD),
            (TRACE, r"^$", BLANK),
            (BLANK, r"^Node\.js v", DONE),
        ],
    )
};

/// What the runtime prints, and exceptions behind a line of a log; entries of the console logger, whose lines behind the first are indented.
const DOTNET: (Begins, Steps) = {
    const HEAD: u8 = 2;
    const TRACE: u8 = 4;
    const CONSOLE: u8 = 8;
    const THROWN: &str = r"^(?:[A-Za-z_][\w`+]*\.)+[\w`+]*Exception(?: \(0x[0-9A-Fa-f]+\))?(?::|$)";
    (
        &[(r"^(?:trce|dbug|info|warn|fail|crit): ", CONSOLE), (THROWN, HEAD), (r"^Unhandled [Ee]xception[.:]", HEAD)],
        &[
            (CONSOLE, r"^ {6}|^\s+at \S|^\s*---", CONSOLE),
            (FIRST, THROWN, HEAD),
            (FIRST | HEAD | TRACE, r"^\s+at \S", TRACE),
            (HEAD | TRACE, r"^\s*---", TRACE),
            (HEAD, r"^\s+\S", HEAD),
        ],
    )
};

/// The server's log: lines that go on with a tab, and what it tells beside an error (`DETAIL`, `HINT`, `STATEMENT` and so on).
const POSTGRES: (Begins, Steps) = {
    // Not behind the word of another message: only that has a colon with two blanks.
    const BESIDE: &str = r"^(?:[^:\t]|:[^ ]|: [^ ])*?\b(?:DETAIL|HINT|QUERY|CONTEXT|STATEMENT|LOCATION|BACKTRACE):  ";
    (&[], &[(FIRST, r"^\t", FIRST), (FIRST, BESIDE, FIRST)])
};
