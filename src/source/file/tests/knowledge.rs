//! The model's other half: what the source can know of each content, over stops and kills, and so which lines it owes and whose loss it must book.

use super::writer::{Line, Writer};
use super::*;

impl Writer {
    /// The source has looked at everything; with `rest` it has also read all that is there.
    pub(super) fn looked(&mut self, rest: bool) {
        for doc in self.docs.iter_mut().filter(|doc| !doc.gone) {
            let Some(name) = doc.path else { continue };
            doc.unnoticed &= !rest;
            let fresh = doc.known.size.is_none();
            if doc.unnoticed || (name > 0 && (!rest || (fresh && !self.all))) {
                continue;
            }
            // It may be held back until it is clear whose copy it could be.
            if fresh && name > 0 && !std::mem::replace(&mut doc.glimpsed, true) {
                continue;
            }
            doc.own |= fresh && name > 0;
            doc.known.size = Some(doc.len);
            if rest || fresh {
                doc.known.file = doc.file;
            }
        }
    }

    pub(super) fn snapshot(&mut self) {
        self.docs.iter_mut().for_each(|doc| doc.snapshot = doc.known);
        self.lines.iter_mut().for_each(|line| line.fresh = false);
        self.snapshot_due = self.due.clone();
    }

    /// The source ends; with `kill` it will know no more than at the last snapshot.
    pub(super) fn stop(&mut self, kill: bool) {
        self.running = false;
        self.lines.iter_mut().for_each(|line| line.arrived = false);
        if kill {
            self.docs.iter_mut().for_each(|doc| doc.known = doc.snapshot);
            self.lines.iter_mut().for_each(|line| line.again |= line.fresh);
            self.due = self.snapshot_due.clone();
        }
        (0..self.docs.len()).filter(|doc| self.docs[*doc].gone).collect::<Vec<_>>().into_iter().for_each(|doc| self.lose(doc));
        self.docs.iter_mut().for_each(|doc| (doc.unnoticed, doc.glimpsed) = (false, false));
        // After a start files go by their times of change, and these tell nothing of one that was written to after it was renamed.
        let late: HashSet<usize> = self.lines.iter().filter(|line| line.late).map(|line| line.doc).collect();
        self.lines.iter_mut().for_each(|line| line.late |= late.contains(&line.doc));
    }

    /// The source starts: contents that it can't find its way to are excused.
    pub(super) fn start(&mut self) {
        self.running = true;
        let files: HashSet<usize> = self.docs.iter().filter(|doc| !doc.gone).map(|doc| doc.file).collect();
        for at in 0..self.docs.len() {
            let doc = &mut self.docs[at];
            if doc.gone {
                continue;
            }
            let known = doc.known.size.is_some_and(|size| size > 0);
            let followed = doc.known.size.is_some() && (doc.known.file == doc.file || (known && files.contains(&doc.known.file)));
            if followed {
                continue;
            }
            let was_known = std::mem::take(&mut doc.known).size.is_some();
            doc.own |= doc.path != Some(0);
            if self.all {
                self.lines.iter_mut().filter(|line| line.doc == at && was_known).for_each(|line| line.again = true);
            } else if self.docs[at].path != Some(0) {
                self.lose(at);
            }
        }
    }

    /// What should have arrived by the end and has not.
    pub(super) fn wanting(&self) -> Vec<usize> {
        let wanted = |line: &Line| {
            !line.excused && line.acked == 0 && !(line.half && (self.docs[line.doc].own || self.docs[line.doc].left.is_none()))
        };
        self.lines.iter().enumerate().filter(|(_, line)| wanted(line)).map(|(uid, _)| uid).collect()
    }

    /// Bytes that the ledger must have as missed.
    pub(super) fn due_bytes(&self) -> u64 {
        self.due
            .iter()
            .map(|uid| &self.lines[*uid])
            .filter(|line| line.acked == 0)
            .map(|line| (line.text.len() - line.sent) as u64 + u64::from(!line.half))
            .sum()
    }
}
