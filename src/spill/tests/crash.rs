//! The machine stops at any step, and the kernel has written what it liked of what was not synced: everything synced is there, nothing is invented,
//! the order is kept.

use std::collections::BTreeMap;
use std::path::Path;

use rustix::io::Errno;

use super::super::{Loaded, Spill};
use super::faults::{Faulty, Kind, Step};
use super::rig::{Maker, Rig, Sent, piece, sent};
use crate::batch::Batch;

/// A file as the machine sees it, and as its disk may have it.
#[derive(Clone, Debug, Default)]
struct Shadow {
    /// As of the last fsync.
    safe: Vec<u8>,
    /// Since then.
    pending: Vec<Step>,
    /// Its name is durable.
    linked: bool,
    removed: bool,
}

/// How unlucky the kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luck {
    /// Nothing that was not synced is there; what was removed still is.
    None,
    /// Everything is there.
    All,
    /// Of what was not synced, pieces, decided by this number; the rest is zeros or missing.
    Some(u64),
}

impl Luck {
    fn bit(&mut self) -> bool {
        match self {
            Luck::None => false,
            Luck::All => true,
            Luck::Some(noise) => {
                *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *noise >> 62 != 0
            }
        }
    }
}

/// The directory after `steps`.
pub(crate) fn files(steps: &[Step], mut luck: Luck) -> BTreeMap<String, Vec<u8>> {
    let mut shadows: BTreeMap<String, Shadow> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Create(name) => drop(shadows.insert(name.clone(), Shadow::default())),
            Step::Write(name, ..) | Step::Truncate(name, _) => shadows.get_mut(name).unwrap().pending.push(step.clone()),
            Step::SyncData(name) => {
                let shadow = shadows.get_mut(name).unwrap();
                shadow.safe = play(shadow, &mut Luck::All);
                shadow.pending.clear();
            }
            Step::SyncDir => {
                shadows.retain(|_, shadow| !shadow.removed);
                for shadow in shadows.values_mut() {
                    shadow.linked = true;
                }
            }
            Step::Remove(name) => shadows.get_mut(name).unwrap().removed = true,
            Step::Durable(_) | Step::Snapshot(_) => {}
        }
    }
    shadows.retain(|_, shadow| if shadow.removed { !luck.bit() } else { shadow.linked || luck.bit() });
    shadows.into_iter().map(|(name, shadow)| (name, play(&shadow, &mut luck))).collect()
}

fn play(shadow: &Shadow, luck: &mut Luck) -> Vec<u8> {
    let mut bytes = shadow.safe.clone();
    for step in &shadow.pending {
        match step {
            Step::Truncate(_, len) if luck.bit() => bytes.truncate(usize::try_from(*len).unwrap()),
            Step::Write(_, at, data) => {
                let at = usize::try_from(*at).unwrap();
                // A block that was given its place and never its bytes: zeros.
                if matches!(luck, Luck::Some(_)) && luck.bit() && luck.bit() {
                    bytes.resize(bytes.len().max(at + data.len()), 0);
                }
                // Pieces of different lengths, so that headers are torn as well.
                let piece = if luck.bit() { 64 } else { 7 };
                for (index, chunk) in data.chunks(piece).enumerate() {
                    let at = at + index * piece;
                    if luck.bit() {
                        bytes.resize(bytes.len().max(at + chunk.len()), 0);
                        bytes[at..at + chunk.len()].copy_from_slice(chunk);
                    }
                }
            }
            _ => {}
        }
    }
    bytes
}

/// What a run did: its steps, and what each record holds.
struct Story {
    steps: Vec<Step>,
    records: Vec<Vec<Sent>>,
}

fn noise(maker: &mut Maker, seed: u64, lines: u64) -> Batch {
    let texts: Vec<String> = (0..lines).map(|i| format!("{:x}", (seed * 100 + i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect();
    maker.lines(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn sync(spill: &mut Spill, disk: &Faulty) {
    if spill.sync().is_ok() {
        disk.note(Step::Durable(spill.row().tail));
    }
}

fn snapshot(spill: &mut Spill, disk: &Faulty) {
    let row = spill.row();
    disk.note(Step::Snapshot(Box::new(row.clone())));
    spill.release(row.head);
}

/// Appends, syncs, snapshots, acknowledgements and faults, all of which leave something behind.
fn story(seed: u64) -> Story {
    let disk = Faulty::new();
    let rig = Rig::on(disk.clone());
    let (mut spill, _) = rig.open(None);
    let mut makers = [Maker::new(1, "a", 0), Maker::new(2, "b", 0)];
    let (mut records, mut read) = (Vec::new(), Vec::new());
    let mut luck = Luck::Some(seed);
    let mut dice = move |sides: u32| (0..sides).find(|_| !luck.bit()).unwrap_or(sides);
    for round in 0..40 {
        let size = if dice(3) == 3 { 600 } else { 3 };
        let batches = [noise(&mut makers[0], round * 2, size), noise(&mut makers[1], round * 2 + 1, 2)];
        match round {
            9 => disk.fail(Kind::SyncData, Errno::IO, 1),
            14 => disk.fail(Kind::SyncData, Errno::IO, 3),
            19 => disk.fail(Kind::Write, Errno::NOSPC, 1),
            23 => disk.fail(Kind::Write, Errno::IO, 1),
            27 => disk.fail(Kind::Create, Errno::ROFS, 1),
            31 => disk.fail(Kind::SyncDir, Errno::IO, 1),
            _ => {}
        }
        if spill.append(&batches.iter().map(piece).collect::<Vec<_>>()).is_ok() {
            records.push(batches.iter().flat_map(|batch| sent(batch, 0)).collect());
        }
        if dice(4) > 1 {
            sync(&mut spill, &disk);
        }
        if dice(4) > 2
            && let Ok(Loaded::Record(batches)) = spill.read(&rig.budget)
        {
            read.extend(batches);
        }
        if dice(4) > 2 && !read.is_empty() {
            let (batch, _) = read.remove(0);
            spill.acknowledged(&batch, batch.events.len());
        }
        if dice(4) > 1 {
            snapshot(&mut spill, &disk);
        }
    }
    disk.heal();
    sync(&mut spill, &disk);
    for (batch, _) in read.into_iter().chain(rig.read_all(&mut spill)) {
        spill.acknowledged(&batch, batch.events.len());
        snapshot(&mut spill, &disk);
    }
    Story { steps: disk.steps(), records }
}

fn lay_out(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    std::fs::create_dir_all(dir).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

fn read_by_seq(rig: &Rig, spill: &mut Spill) -> Vec<(u64, u32, Vec<Sent>)> {
    rig.read_all(spill).iter().map(|(batch, first)| (batch.copy.unwrap().seq, batch.copy.unwrap().run, sent(batch, *first))).collect()
}

/// Starts again after `steps`, and checks what is found.
fn check(story: &Story, steps: usize, luck: Luck) {
    let past = &story.steps[..steps];
    let row = past.iter().rev().find_map(|step| if let Step::Snapshot(row) = step { Some((**row).clone()) } else { None });
    let durable = past.iter().rev().find_map(|step| if let Step::Durable(tail) = step { Some(*tail) } else { None }).unwrap_or(0);
    let rig = Rig::new();
    lay_out(&rig.dir(), &files(past, luck));
    let words = format!("after step {steps}, {luck:?}");
    let (mut spill, recovered) = rig.open(row.as_ref());
    assert!(recovered.lost.is_empty() && recovered.foreign.is_empty(), "{words}: {recovered:?}");
    let known = row.clone().unwrap_or_default();
    let read = read_by_seq(&rig, &mut spill);
    assert!(read.windows(2).all(|pair| (pair[0].0, pair[0].1) < (pair[1].0, pair[1].1)), "{words}: in order");
    for (seq, run, messages) in &read {
        let original = &story.records[usize::try_from(*seq).unwrap()];
        let of_run: Vec<Sent> = original.iter().filter(|sent| sent.stream == u64::from(*run) + 1).cloned().collect();
        assert_eq!(messages, &of_run, "{words}: record {seq}");
    }
    for seq in known.head..durable {
        for run in 0..2 {
            let acked = known.acked.iter().any(|(of, at, ..)| (*of, *at) == (seq, run));
            let found = read.iter().any(|(of, at, _)| (*of, *at) == (seq, run));
            assert!(found != acked, "{words}: run {run} of record {seq} was durable");
        }
    }
    let rolled: Vec<u64> = recovered.rolled.iter().map(|rolled| rolled.seq).collect();
    let found: Vec<u64> = read.iter().map(|(seq, ..)| *seq).filter(|seq| *seq >= known.tail).collect();
    assert_eq!(rolled, found, "{words}");
    for rolled in recovered.rolled.iter().filter(|rolled| !rolled.behind_damage) {
        let first = known.tail.max(known.head);
        assert!((first..rolled.seq).all(|seq| found.contains(&seq)), "{words}: what is not behind damage follows what was known");
    }
    // And it goes on from there.
    let mut maker = Maker::new(77, "later", 0);
    let batch = maker.lines(&["later"]);
    spill.append(&[piece(&batch)]).unwrap();
    spill.sync().unwrap();
    let after = spill.row();
    drop(spill);
    let (mut spill, recovered) = rig.open(Some(&after));
    assert!(recovered.rolled.is_empty() && recovered.lost.is_empty() && recovered.torn_bytes == 0, "{words}: {recovered:?}");
    let again = read_by_seq(&rig, &mut spill);
    assert_eq!((again.len(), &again[..read.len()]), (read.len() + 1, &read[..]), "{words}");
    let sizes = std::fs::read_dir(rig.dir()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert_eq!(sizes.sum::<u64>(), spill.bytes(), "{words}");
}

#[test]
fn after_a_crash_at_any_step_everything_synced_is_there() {
    for (seed, lucks) in [(1, 3), (2, 1)] {
        let story = story(seed);
        assert!(story.steps.iter().any(|step| matches!(step, Step::Remove(_))) && story.records.len() > 30);
        for steps in 0..=story.steps.len() {
            for luck in [Luck::Some(steps as u64 * 7 + seed), Luck::None, Luck::All].into_iter().take(lucks) {
                check(&story, steps, luck);
            }
        }
    }
}
