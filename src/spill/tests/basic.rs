//! Writing, reading back, acknowledging, deleting.

use super::super::{LaneRow, Loaded};
use super::rig::{Maker, Rig, piece, sent, sum};
use crate::ledger::Count;

#[test]
fn a_lane_that_never_spills_costs_no_file() {
    let rig = Rig::real();
    let (spill, recovered) = rig.open(None);
    assert!(spill.is_empty() && recovered.rolled.is_empty() && spill.row() == LaneRow::default());
    assert!(!rig.settings.dir.exists());
}

#[test]
fn what_is_read_back_is_sent_as_the_original_would_have_been() {
    let rig = Rig::real();
    let (mut spill, _) = rig.open(None);
    let (mut nginx, mut other) = (Maker::new(1, "nginx", 1000), Maker::new(2, "other", 0));
    let first = nginx.lines(&["one", "", "three"]);
    let long = other.batch(&[
        (b"begin".to_vec(), Some((1, false)), false),
        (b"end".to_vec(), Some((2, true)), true),
        (b"x".to_vec(), None, false),
    ]);
    let places = spill.append(&[piece(&first), piece(&long)]).unwrap();
    assert_eq!(places.iter().map(|place| (place.seq, place.run)).collect::<Vec<_>>(), [(0, 0), (0, 1)]);
    assert!(matches!(spill.read(&rig.budget).unwrap(), Loaded::Nothing), "not durable yet");
    spill.sync().unwrap();
    assert!(spill.next_cost().unwrap().is_some_and(|cost| cost > 0));
    let read = rig.read_all(&mut spill);
    assert_eq!(read.iter().flat_map(|(batch, first)| sent(batch, *first)).collect::<Vec<_>>(), [sent(&first, 0), sent(&long, 0)].concat());
    assert_eq!(read[0].0.before, Count::default());
    assert_eq!(sum(&spill.pending()), Count { events: 5, bytes: 11 + 11 });
    assert!(rig.budget.used() > 0);
}

#[test]
fn a_part_of_a_batch_is_written_with_the_line_it_continues() {
    let rig = Rig::real();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "nginx", 77);
    let lines = [(b"a".to_vec(), None, false), (b"begin".to_vec(), Some((1, false)), false), (b"end".to_vec(), Some((2, true)), false)];
    let mut batch = maker.batch(&lines);
    batch.before = Count { events: 10, bytes: 100 };
    batch.copy = spill.append(&[super::super::Piece { batch: &batch, first: 2, held: false }]).unwrap().pop();
    spill.sync().unwrap();
    let read = rig.read_all(&mut spill);
    assert_eq!(sent(&read[0].0, 0), sent(&batch, 2));
    assert_eq!(read[0].0.before, Count { events: 11, bytes: 107 });
    assert_eq!(spill.acknowledged(&batch, 3), Count { events: 1, bytes: 4 });
    assert!(spill.is_empty());
}

#[test]
fn runs_are_acknowledged_in_any_order_and_the_head_moves_over_what_is_whole() {
    let rig = Rig::real();
    let (mut spill, _) = rig.open(None);
    let (mut one, mut two) = (Maker::new(1, "a", 0), Maker::new(2, "b", 0));
    for _ in 0..3 {
        let (first, second) = (one.lines(&["x", "y"]), two.lines(&["zz"]));
        spill.append(&[piece(&first), piece(&second)]).unwrap();
    }
    spill.sync().unwrap();
    let read = rig.read_all(&mut spill);
    assert_eq!(spill.unread(), 0);
    for (batch, _) in &read[1..] {
        spill.acknowledged(batch, batch.events.len());
    }
    assert_eq!((spill.row().head, spill.row().tail, sum(&spill.pending())), (0, 3, Count { events: 2, bytes: 4 }));
    assert_eq!(spill.acknowledged(&read[0].0, 1), Count { events: 1, bytes: 2 });
    assert_eq!(spill.acknowledged(&read[0].0, 1), Count::default(), "once only");

    // After a kill the acknowledged messages are not sent again.
    let row = spill.row();
    drop(spill);
    let (mut spill, recovered) = rig.open(Some(&row));
    assert_eq!((recovered.rolled.len(), recovered.lost.len(), sum(&spill.pending())), (0, 0, Count { events: 1, bytes: 2 }));
    let again = rig.read_all(&mut spill);
    assert_eq!(again.iter().map(|(batch, first)| sent(batch, *first).len()).collect::<Vec<_>>(), [1]);
    assert_eq!(spill.acknowledged(&again[0].0, 2), Count { events: 1, bytes: 2 });
    assert_eq!((spill.row().head, spill.records(), spill.pending().len()), (3, 0, 0));
    spill.release(0);
    assert_eq!(rig.segments().len(), 1, "no snapshot knows yet");
    spill.release(3);
    assert_eq!((rig.segments().len(), spill.bytes(), rig.room.used()), (0, 0, 0));
}

#[test]
fn what_is_held_is_read_only_after_it_was_let_go() {
    let rig = Rig::real();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let mut held = maker.lines(&["held"]);
    let (mut gone, later) = (maker.lines(&["gone"]), maker.lines(&["later"]));
    held.copy = spill.append(&[super::super::Piece { batch: &held, first: 0, held: true }]).unwrap().pop();
    gone.copy = spill.append(&[super::super::Piece { batch: &gone, first: 0, held: true }]).unwrap().pop();
    spill.append(&[piece(&later)]).unwrap();
    spill.sync().unwrap();
    assert_eq!(spill.unread(), 1);
    let texts = |read: &[(crate::batch::Batch, usize)]| {
        read.iter().map(|(batch, _)| String::from_utf8_lossy(&batch.bytes).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&rig.read_all(&mut spill)), ["later"]);
    spill.let_go(&gone.copy.unwrap());
    assert_eq!(spill.unread(), 1);
    assert_eq!(texts(&rig.read_all(&mut spill)), ["gone"]);
    spill.rewind();
    assert_eq!(spill.unread(), 3);
    assert_eq!(texts(&rig.read_all(&mut spill)), ["held", "gone", "later"]);
    assert_eq!(spill.acknowledged(&held, 1), Count { events: 1, bytes: 5 }, "the original's report passes over the copy");
}

#[test]
fn segments_are_begun_anew_and_deleted_whole() {
    let rig = Rig::real();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(1, "a", 0);
    let text = |round: u64| (0..300).map(|i| format!("{:x}", (round * 1000 + i).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect::<Vec<_>>();
    for round in 0..40 {
        let lines = text(round);
        let batch = maker.lines(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        spill.append(&[piece(&batch)]).unwrap();
        spill.sync().unwrap();
    }
    let files = rig.segments().len();
    assert!(files > 2, "{files}");
    let mut ends = Vec::new();
    while let Loaded::Record(batches) = spill.read(&rig.budget).unwrap() {
        for (batch, _) in &batches {
            spill.acknowledged(batch, batch.events.len());
            ends.extend(sent(batch, 0).iter().map(|sent| sent.end));
        }
        spill.release(spill.row().head);
    }
    assert!(ends.windows(2).all(|pair| pair[0] < pair[1]) && ends.len() == 40 * 300);
    assert_eq!((rig.segments().len(), spill.bytes()), (0, 0));
    let batch = maker.lines(&["again"]);
    assert_eq!(spill.append(&[piece(&batch)]).unwrap()[0].seq, 40, "numbers go on");
}

#[test]
fn what_no_snapshot_knows_is_rolled_forward() {
    let rig = Rig::real();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(9, "a", 500);
    let (first, second) = (maker.lines(&["one"]), maker.lines(&["two", "three"]));
    spill.append(&[piece(&first)]).unwrap();
    spill.sync().unwrap();
    let row = spill.row();
    spill.append(&[piece(&second)]).unwrap();
    spill.sync().unwrap();
    drop(spill);
    let (mut spill, recovered) = rig.open(Some(&row));
    let rolled = &recovered.rolled[0];
    assert_eq!((recovered.rolled.len(), rolled.seq, rolled.from, rolled.to, rolled.behind_damage), (1, 1, 504, 514, false));
    assert_eq!((rolled.before, rolled.count), (Count { events: 1, bytes: 4 }, Count { events: 2, bytes: 10 }));
    assert_eq!(rig.read_all(&mut spill).len(), 2);
    drop(spill);
    let (spill, recovered) = rig.open(None);
    assert_eq!((recovered.rolled.len(), spill.row().tail, spill.row().log), (2, 2, row.log), "also without any snapshot");
}

#[test]
fn an_operator_discards_all_that_is_pending() {
    let rig = Rig::real();
    let (mut spill, _) = rig.open(None);
    let mut maker = Maker::new(9, "a", 500);
    let (first, second) = (maker.lines(&["one"]), maker.lines(&["two"]));
    spill.append(&[piece(&first)]).unwrap();
    spill.sync().unwrap();
    spill.append(&[piece(&second)]).unwrap();
    assert_eq!(sum(&spill.discard()), Count { events: 2, bytes: 8 });
    assert!(spill.is_empty() && rig.read_all(&mut spill).is_empty());
    let row = spill.row();
    spill.release(row.head);
    assert_eq!((row.head, row.tail, rig.segments().len()), (2, 2, 0));
    let third = maker.lines(&["three"]);
    spill.append(&[piece(&third)]).unwrap();
    spill.sync().unwrap();
    assert_eq!(rig.read_all(&mut spill).len(), 1);
    drop(spill);
    let (spill, recovered) = rig.open(Some(&row));
    assert_eq!((recovered.rolled.len(), spill.records()), (1, 1));
}
