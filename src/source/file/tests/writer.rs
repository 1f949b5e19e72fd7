//! The model's half of the property test: a writer of uniquely numbered lines that rotates, truncates and deletes real files, and knows of each
//! line whether it can still arrive, must, or is destroyed.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use super::*;

/// The live file and its rotated names; what goes beyond the last is deleted.
const NAMES: [&str; 4] = ["app.log", "app.log.1", "app.log.2", "app.log.3"];

/// What is done to the files.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// So many lines of up to so many bytes.
    Lines(usize, usize),
    /// The beginning of a line; the next write ends it, unless the file is gone from its path by then.
    Half,
    /// A line into the file that was renamed last, by a writer that has not noticed.
    Late,
    Rename,
    /// Shifts the rotated names, copies, truncates.
    CopyTruncate,
    /// Copies over the last copy, truncates.
    CopyOver,
    Truncate,
    /// Truncates and writes more than was there.
    Regrow,
    Delete,
    Recreate,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that a check asks for")]
pub(super) struct Line {
    pub(super) doc: usize,
    pub(super) text: Vec<u8>,
    /// Offset behind it, its line end included.
    pub(super) end: u64,
    pub(super) half: bool,
    pub(super) late: bool,
    /// In this life of the source.
    pub(super) arrived: bool,
    pub(super) acked: u32,
    /// Bytes of it that were acknowledged as parts.
    pub(super) sent: usize,
    /// Acknowledged since the last snapshot.
    pub(super) fresh: bool,
    /// Destroyed, or where nobody looks: it need not arrive.
    pub(super) excused: bool,
    /// It may be acknowledged more than once.
    pub(super) again: bool,
}

/// A content: the lines of one file between two truncations, wherever they are now.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own that a check asks for")]
pub(super) struct Doc {
    pub(super) path: Option<usize>,
    pub(super) len: u64,
    /// Its last line has no end yet.
    open: bool,
    /// Truncated or deleted.
    pub(super) gone: bool,
    /// Number of the file that it is in, and of the one in which the source's state last knew it.
    pub(super) file: usize,
    pub(super) known: Known,
    pub(super) snapshot: Known,
    /// The source has yet to notice that another content was here before.
    pub(super) unnoticed: bool,
    pub(super) glimpsed: bool,
    /// First seen under a rotated name: a stream of its own.
    pub(super) own: bool,
    renamed: bool,
    pub(super) left: Option<Instant>,
}

/// What the source knows of a content.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) size: Option<u64>,
    pub(super) file: usize,
}

#[derive(Debug)]
pub(super) struct Writer {
    dir: PathBuf,
    /// The patterns match rotated names as well.
    pub(super) all: bool,
    pub(super) running: bool,
    pub(super) lines: Vec<Line>,
    pub(super) docs: Vec<Doc>,
    pub(super) files: usize,
    clock: u64,
    /// Lines whose loss the ledger must have, now and in the last snapshot.
    pub(super) due: BTreeSet<usize>,
    pub(super) snapshot_due: BTreeSet<usize>,
}

impl Writer {
    pub(super) fn new(dir: &Path, all: bool) -> Writer {
        Writer {
            dir: dir.to_owned(),
            all,
            running: false,
            lines: Vec::new(),
            docs: Vec::new(),
            files: 0,
            clock: 0,
            due: BTreeSet::new(),
            snapshot_due: BTreeSet::new(),
        }
    }

    pub(super) fn act(&mut self, act: &Act, now: Instant) {
        match act {
            Act::Lines(count, len) => (0..*count).for_each(|_| self.line(*len)),
            Act::Half => self.half(),
            Act::Late => self.late(now),
            Act::Rename => self.shift(now),
            Act::CopyTruncate => {
                if self.at(0).is_some() {
                    self.shift_from(1, now);
                    self.copy(now);
                }
            }
            Act::CopyOver => self.copy(now),
            Act::Truncate => self.truncate(),
            Act::Regrow => {
                let len = self.at(0).map_or(0, |doc| self.docs[doc].len);
                self.truncate();
                while self.at(0).is_some_and(|doc| self.docs[doc].len <= len) {
                    self.line(40);
                }
            }
            Act::Delete => self.unlink(0, now),
            Act::Recreate => {
                self.unlink(0, now);
                self.line(20);
            }
        }
    }

    fn at(&self, name: usize) -> Option<usize> {
        self.docs.iter().position(|doc| doc.path == Some(name) && !doc.gone)
    }

    fn path(&self, name: usize) -> PathBuf {
        self.dir.join(NAMES[name])
    }

    /// Sets a time of change of its own, since the file system's clock is too coarse to tell quick steps apart.
    fn stamp(&mut self, file: &File) {
        self.clock += 1;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000 + self.clock)).unwrap();
    }

    fn append(&mut self, name: usize, bytes: &[u8]) -> usize {
        let mut file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(bytes).unwrap();
        self.stamp(&file);
        let doc = self.at(name).unwrap_or_else(|| {
            self.files += 1;
            self.docs.push(Doc { path: Some(name), file: self.files, ..Doc::default() });
            self.docs.len() - 1
        });
        self.docs[doc].len += bytes.len() as u64;
        doc
    }

    fn text(&self, len: usize) -> Vec<u8> {
        let uid = self.lines.len();
        let mut text = format!("{uid:06}").into_bytes();
        text.extend((0..len).map(|at| b'a' + u8::try_from((uid * 7 + at) % 26).unwrap()));
        text
    }

    fn push(&mut self, doc: usize, text: Vec<u8>, half: bool, late: bool) {
        let end = self.docs[doc].len;
        self.docs[doc].open = half;
        let [arrived, fresh, excused, again] = [false; 4];
        self.lines.push(Line { doc, text, end, half, late, arrived, acked: 0, sent: 0, fresh, excused, again });
    }

    fn line(&mut self, len: usize) {
        if self.finish() {
            return;
        }
        let text = self.text(len);
        let doc = self.append(0, &[&text, b"\n".as_slice()].concat());
        self.push(doc, text, false, false);
    }

    fn half(&mut self) {
        self.finish();
        let text = self.text(9);
        let doc = self.append(0, &text);
        self.push(doc, text, true, false);
    }

    /// Ends the line that was begun.
    fn finish(&mut self) -> bool {
        let Some(doc) = self.at(0).filter(|doc| self.docs[*doc].open) else { return false };
        self.append(0, b" and its end\n");
        let len = self.docs[doc].len;
        self.docs[doc].open = false;
        let line = self.lines.iter_mut().rfind(|line| line.doc == doc).unwrap();
        line.text.extend_from_slice(b" and its end");
        (line.end, line.half) = (len, false);
        true
    }

    fn late(&mut self, now: Instant) {
        let all = self.all;
        let soon = |doc: &Doc| {
            (all || doc.known.size.is_some())
                && doc.renamed
                && !doc.open
                && doc.left.is_some_and(|left| now < left + Duration::from_mins(5))
        };
        let Some(doc) = self.at(1).filter(|doc| soon(&self.docs[*doc])) else { return };
        let text = self.text(5);
        self.append(1, &[&text, b"\n".as_slice()].concat());
        self.push(doc, text, false, true);
    }

    fn leave(&mut self, at: usize, now: Instant) {
        let doc = &mut self.docs[at];
        doc.left = doc.left.or(Some(now));
        // Nobody knew it while it had the live name.
        if doc.known.size.is_none() {
            doc.own = true;
            if !self.all {
                self.lose(at);
            }
        }
    }

    fn shift(&mut self, now: Instant) {
        if self.at(0).is_some() {
            self.shift_from(0, now);
        }
    }

    fn shift_from(&mut self, first: usize, now: Instant) {
        self.unlink(NAMES.len() - 1, now);
        for name in (first..NAMES.len() - 1).rev() {
            let Some(doc) = self.at(name) else { continue };
            rustix::fs::rename(self.path(name), self.path(name + 1)).unwrap();
            self.docs[doc].path = Some(name + 1);
            self.docs[doc].renamed |= name == 0;
            self.leave(doc, now);
        }
    }

    fn unlink(&mut self, name: usize, now: Instant) {
        let Some(doc) = self.at(name) else { return };
        fs::remove_file(self.path(name)).unwrap();
        self.leave(doc, now);
        // A running source holds what it knows.
        let Known { size, file } = self.docs[doc].known;
        if !(self.running && size.is_some() && file == self.docs[doc].file) {
            self.lose(doc);
        }
        (self.docs[doc].gone, self.docs[doc].path) = (true, None);
    }

    /// What has not arrived of it never need.
    pub(super) fn lose(&mut self, doc: usize) {
        let size = self.docs[doc].known.size.unwrap_or(0);
        for (uid, line) in self.lines.iter_mut().enumerate().filter(|(_, line)| line.doc == doc && line.acked == 0 && !line.arrived) {
            line.excused = true;
            if line.end <= size {
                self.due.insert(uid);
            }
        }
    }

    /// What comes now at the live path, into the same file.
    fn anew(&mut self, old: usize, file: usize) {
        let unnoticed = self.docs[old].unnoticed || self.docs[old].known.size.is_some_and(|size| size > 0);
        self.docs.push(Doc { path: Some(0), file, unnoticed: unnoticed && self.running, ..Doc::default() });
    }

    fn truncate(&mut self) {
        let Some(doc) = self.at(0) else { return };
        self.cut();
        self.lose(doc);
        let file = self.docs[doc].file;
        (self.docs[doc].gone, self.docs[doc].path) = (true, None);
        self.anew(doc, file);
    }

    fn cut(&mut self) {
        let file = File::options().write(true).open(self.path(0)).unwrap();
        file.set_len(0).unwrap();
        self.stamp(&file);
        // What was not clear yet may now be taken for a copy of this one.
        self.docs.iter_mut().for_each(|doc| doc.glimpsed = false);
    }

    /// Copies the live file over the first rotated one, and truncates it.
    fn copy(&mut self, now: Instant) {
        let Some(doc) = self.at(0) else { return };
        let over = self.at(1);
        if let Some(over) = over {
            self.lose(over);
            (self.docs[over].gone, self.docs[over].path) = (true, None);
        }
        let mut copy = File::create(self.path(1)).unwrap();
        copy.write_all(&fs::read(self.path(0)).unwrap()).unwrap();
        self.stamp(&copy);
        self.cut();
        self.anew(doc, self.docs[doc].file);
        self.files += 1;
        self.docs[doc].file = over.map_or(self.files, |over| self.docs[over].file);
        self.docs[doc].path = Some(1);
        if self.docs[doc].known.size == Some(0) {
            self.docs[doc].known.size = None;
        }
        self.leave(doc, now);
        // The file that was overwritten may be known as one of its own, or as one that nothing has been written to: it goes on with what is there
        // now.
        if over.is_some_and(|over| self.docs[over].own || self.docs[over].known.size.is_none_or(|size| size == 0)) {
            self.docs[doc].own = true;
            self.lines.iter_mut().filter(|line| line.doc == doc).for_each(|line| (line.again, line.late) = (true, true));
        }
    }
}
