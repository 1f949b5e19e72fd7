//! How a log ends and how it goes on: after kills, losses of power, and with disks that fail or are full.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::super::intake::{Frame, Frames, Intake, Taken, Transport};
use super::super::log::SEGMENT;
use super::{MIB, Rig, take, texts};
use crate::batch::{Position, StreamId};
use crate::durable::disk::Space;
use crate::ledger::Missed;
use crate::snapshot::rows::{Evidence, FileState, StreamRow};
use crate::spill::tests::faults::Kind;

/// The texts alone, without keys.
fn read(rig: &mut Rig) -> Vec<String> {
    rig.read().into_iter().map(|text| text.split_once('|').unwrap().1.to_owned()).collect()
}

/// The offsets that name what was read since the last call.
fn names(rig: &mut Rig) -> Vec<u64> {
    let batches = std::mem::take(&mut rig.run().waiting);
    batches.iter().flat_map(|batch| batch.events.iter().map(|event| batch.base + u64::from(event.from))).collect()
}

fn durable(rig: &Rig) -> u64 {
    rig.streams.values().next().map_or(0, |row| row.position.offset)
}

#[test]
fn a_loss_of_power_behind_a_mark_costs_nothing_of_what_comes_later_and_no_name_is_given_twice() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 10, 20));
    rig.read();
    rig.acknowledge(0, 5);
    rig.snapshot();
    let before = names(&mut rig);
    // The kernel had written nothing of it yet.
    for file in rig.segments() {
        std::fs::File::options().write(true).open(&file).unwrap().set_len(super::super::format::SEGMENT_HEADER as u64).unwrap();
    }
    rig.boot = [2; 16];
    rig.kill();
    assert!(rig.run().recovered.power_loss.is_some());
    rig.take("a", &texts(10, 20, 20));
    assert_eq!(read(&mut rig), texts(10, 20, 20));
    let after = names(&mut rig);
    assert!(after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
    assert_eq!(rig.missed(Missed::Unreadable), (0, 0, 0), "numbers that were left out are no loss");
    let (events, bytes, times) = rig.missed(Missed::PowerLoss);
    assert_eq!((events, bytes > 5 * 33, times), (0, true, 1), "what the state knows to be gone, and what nobody knows");
}

#[test]
fn what_memory_alone_held_at_a_kill_is_counted_and_its_names_are_not_given_again() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 3, 20));
    rig.disk.fail(Kind::Write, Errno::IO, u32::MAX);
    rig.disk.fail(Kind::Create, Errno::IO, u32::MAX);
    rig.take("a", &texts(3, 9, 20));
    assert_eq!(read(&mut rig).len(), 9);
    rig.acknowledge(1, 2);
    rig.snapshot();
    let before = names(&mut rig);
    rig.disk.heal();
    rig.kill();
    assert!(rig.missed(Missed::Unreadable).1 > 0, "what is gone is told");
    rig.take("a", &texts(9, 12, 20));
    assert_eq!(read(&mut rig), texts(9, 12, 20));
    let after = names(&mut rig);
    assert!(after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
}

#[test]
fn a_file_that_takes_its_header_and_nothing_else_costs_no_room() {
    let mut rig = Rig::new();
    rig.disk.fail_behind(60);
    for from in 0..20 {
        assert!(matches!(rig.take("a", &texts(from, from + 1, 20)), Taken::Accepted { .. }), "{from}");
        if let Some((_, again)) = &mut rig.run().arrivals.lock().broken {
            *again = Instant::now();
        }
    }
    assert!(rig.run().arrivals.is_unprotected());
    assert!(rig.run().arrivals.bytes() <= 2 * SEGMENT, "{}", rig.run().arrivals.bytes());
    assert!(rig.segments().len() <= 2, "{:?}", rig.segments());
}

#[test]
fn a_log_that_is_full_says_so_until_there_is_room() {
    let mut rig = Rig::new();
    rig.disk.set_space(Space { free: 0, total: MIB });
    rig.kill();
    assert_eq!(rig.take("a", &texts(0, 1, 20)), Taken::Full);
    rig.run().arrivals.tidy(0, 0);
    assert!(!rig.run().arrivals.has_room(), "nothing has changed");
    rig.disk.set_space(Space { free: 100 * MIB, total: MIB });
    rig.run().arrivals.tidy(0, 0);
    assert!(rig.run().arrivals.has_room());
}

#[test]
fn who_waits_for_room_waits_also_when_the_last_block_went_beyond_it() {
    let mut rig = Rig::new();
    rig.max = 4 * SEGMENT;
    rig.kill();
    let mut count = 0;
    while rig.take("a", &texts(count, count + 1, 3000)) != Taken::Full {
        count += 1;
        assert!(count < 100);
    }
    let begun = Instant::now();
    assert!(!rig.run().arrivals.wait_for_room(Duration::from_millis(50)));
    assert!(begun.elapsed() >= Duration::from_millis(50), "it has not waited");
    assert_eq!(read(&mut rig).len(), count);
    rig.acknowledge(usize::MAX, 0);
    rig.snapshot();
    let durable = durable(&rig);
    rig.run().arrivals.tidy(durable, durable);
    assert!(matches!(rig.take("a", &texts(count, count + 1, 3000)), Taken::Accepted { .. }));
}

#[test]
fn memory_is_given_back_when_it_is_settled_though_no_snapshot_can_be_written() {
    let mut rig = Rig::new();
    rig.disk.fail(Kind::Write, Errno::IO, u32::MAX);
    rig.disk.fail(Kind::Create, Errno::IO, u32::MAX);
    let mut count = 0;
    for round in 0..3 {
        let before = count;
        while rig.take("a", &texts(count, count + 100, 50)) != Taken::Full {
            count += 100;
        }
        assert!(count > before && !rig.run().arrivals.has_room(), "round {round}");
        rig.read();
        rig.acknowledge(usize::MAX, 0);
        let settled = rig.run().settlement.reached(StreamId(0xfeed)).0;
        rig.run().arrivals.tidy(settled, 0);
        assert!(rig.run().arrivals.has_room(), "Kafka has it all: the source goes on");
    }
}

#[test]
fn what_is_in_memory_goes_to_the_disk_as_soon_as_that_is_whole_again() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 3, 20));
    rig.disk.fail(Kind::Write, Errno::IO, u32::MAX);
    rig.disk.fail(Kind::Create, Errno::IO, u32::MAX);
    let mut end = 0;
    for from in 1..10 {
        let Taken::Accepted { end: behind } = rig.take("a", &texts(from * 3, from * 3 + 3, 20)) else { panic!() };
        end = behind;
    }
    assert!(rig.run().arrivals.is_unprotected());
    rig.run().arrivals.sync();
    assert!(!rig.run().arrivals.is_safe(end));
    rig.disk.heal();
    if let Some((_, again)) = &mut rig.run().arrivals.lock().broken {
        *again = Instant::now();
    }
    rig.run().arrivals.tidy(0, 0);
    assert!(!rig.run().arrivals.is_unprotected());
    rig.run().arrivals.sync();
    assert!(rig.run().arrivals.is_safe(end));
    rig.kill();
    assert_eq!(read(&mut rig), texts(0, 30, 20));
}

#[test]
fn a_kill_while_a_file_is_written_anew_costs_nothing() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 30, 20));
    rig.disk.fail(Kind::SyncData, Errno::IO, 1);
    // The copy gets half of its bytes, and can't be taken away.
    rig.disk.fail_behind(100);
    rig.disk.fail(Kind::Remove, Errno::IO, u32::MAX);
    rig.run().arrivals.sync();
    rig.disk.heal();
    rig.kill();
    assert_eq!(read(&mut rig), texts(0, 30, 20));
    assert_eq!(rig.missed(Missed::Unreadable), (0, 0, 0));
}

#[test]
fn a_source_that_was_of_another_type_before_begins_a_log_of_its_own() {
    let mut rig = Rig::new();
    rig.run = None;
    let position = Position { offset: 1 << 30, line_start: 1 << 30, ..Position::START };
    let file = StreamRow {
        source: super::SOURCE.into(),
        key: b"h:/var/log/x"[..].into(),
        first_path: b"/var/log/x"[..].into(),
        path: b"/var/log/x"[..].into(),
        state: FileState::Live,
        evidence: Evidence::default(),
        size: 1 << 30,
        seen_s: 1,
        begun_at: 0,
        position,
        feeds: Vec::new(),
        routed: 0,
    };
    rig.streams.insert(StreamId(1), file.clone());
    rig.open();
    assert_eq!(rig.run().arrivals.stream(), StreamId(0xfeed));
    rig.take("a", &texts(0, 3, 20));
    assert_eq!(read(&mut rig), texts(0, 3, 20));
    rig.snapshot();
    assert_eq!(rig.streams[&StreamId(1)], file);
}

#[test]
fn a_segment_with_a_damaged_header_is_counted_and_its_numbers_are_not_used_again() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 10, 20));
    let tail = rig.run().arrivals.tail();
    let file = rig.segments().remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[9] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    rig.kill();
    rig.take("a", &texts(10, 20, 20));
    assert_eq!(read(&mut rig), texts(10, 20, 20));
    assert_eq!(rig.missed(Missed::Unreadable).1, tail);
    assert!(names(&mut rig).iter().all(|name| *name >= tail));
}

#[test]
fn a_clean_stop_after_a_kill_is_clean_though_nothing_came() {
    let mut rig = Rig::new();
    rig.take("a", &texts(0, 3, 20));
    rig.kill();
    rig.run().arrivals.close();
    rig.boot = [2; 16];
    rig.kill();
    assert_eq!(rig.run().recovered.power_loss, None);
}

#[test]
fn a_machine_that_went_down_before_anything_was_synced_is_noticed() {
    let mut rig = Rig::new();
    let durable = rig.segments();
    rig.take("a", &texts(0, 3, 20));
    // Files whose names no fsync of the directory has made durable are gone.
    for file in rig.segments().into_iter().filter(|file| !durable.contains(file)) {
        std::fs::remove_file(file).unwrap();
    }
    rig.boot = [2; 16];
    rig.kill();
    assert!(rig.run().recovered.power_loss.is_some());
}

#[test]
fn all_parts_of_a_message_are_refused_alike_when_the_disk_is_full_in_between() {
    let mut rig = Rig::new();
    let part = |number, last| Frame { start: 0, len: 4, part: number, last, partial: false };
    let give = |rig: &mut Rig, frame| {
        let frames = Frames { transport: Transport::Udp, peer: "a", peer_key: "a", received_ns: 7, bytes: b"abcd", frames: &[frame] };
        rig.run().arrivals.take(&frames)
    };
    rig.disk.fail(Kind::Write, Errno::NOSPC, 1);
    give(&mut rig, part(1, false));
    rig.run().arrivals.tidy(0, 0);
    give(&mut rig, part(2, true));
    assert_eq!((rig.read().len(), rig.missed(Missed::Shed)), (0, (1, 0, 0)));
}

#[test]
fn at_a_start_a_datagram_is_accepted_at_once() {
    let mut rig = Rig::new();
    assert!(matches!(take(&rig.run().arrivals, Transport::Udp, "a", &texts(0, 1, 5)), Taken::Accepted { .. }));
}
