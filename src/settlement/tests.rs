//! Two lanes of one stream, records of a spill behind the snapshot, and that a count left out is noticed. How files and kills play with it is tested
//! by the model of the file source.

use super::*;
use crate::spill::Rolled;

const ID: StreamId = StreamId(7);

fn topics() -> (Arc<str>, Arc<str>) {
    ("a".into(), "b".into())
}

fn row() -> StreamRow {
    StreamRow::begun("web".into(), (*b"k").into(), b"/p", Position::START)
}

fn to(offset: u64) -> Position {
    Position { offset, line_start: offset, ..Position::START }
}

fn count(events: u64) -> Count {
    Count { events, bytes: events * 10 }
}

/// Admits events of ten bytes each, so many for the lanes a and b.
fn admit(settlement: &Settlement, base: u64, a: u64, b: u64) -> u64 {
    let (lane_a, lane_b) = topics();
    let end = base + (a + b) * 10;
    settlement.admit(ID, (base, to(end), end), &[(lane_a, count(a)), (lane_b, count(b))]).0
}

fn settle(settlement: &Settlement, ticket: u64, topic: &str, upto: Option<(u64, u64)>, fate: Fate) {
    let part = part_of(settlement, ticket, topic);
    settlement.lock().settle(ID, (ticket, part), topic, upto.map(|(events, offset)| (count(events), offset)), fate);
}

/// The first record behind a snapshot.
fn rolled((from, to): (u64, u64), before: Count, count: Count) -> Rolled {
    Rolled { seq: 0, run: 0, stream: ID, source: "web".into(), from, to, before, count, behind_damage: false, routed: 0 }
}

/// The first part of a ticket for this lane that is not settled.
fn part_of(settlement: &Settlement, ticket: u64, topic: &str) -> u32 {
    settlement.lock().streams[&ID].part_of(ticket, topic)
}

fn after_a_kill(settlement: &Settlement) -> Settlement {
    Settlement::restored(settlement.changes().kept, KeptGaps::default())
}

fn ledger(settlement: &Settlement) -> Ledger {
    settlement.books().remove(0).1.ledger
}

#[test]
fn a_lane_that_is_blocked_holds_the_position_and_the_other_is_ahead_by_its_mark() {
    let settlement = Settlement::default();
    settlement.put(ID, row());
    let tickets = [admit(&settlement, 0, 2, 1), admit(&settlement, 30, 2, 2), admit(&settlement, 70, 3, 0)];
    for ticket in tickets {
        settle(&settlement, ticket, "a", None, Fate::Delivered);
    }
    settle(&settlement, tickets[0], "b", None, Fate::Delivered);
    assert_eq!(settlement.imbalances(), []);
    let again = after_a_kill(&settlement);
    assert_eq!(again.imbalances(), [], "what is read again is not in the stored books");
    let (row, pending) = again.stream(ID).unwrap();
    assert_eq!((row.position.offset, pending), (30, Count::default()));
    assert_eq!((row.feed("a").unwrap().mark, row.feed("a").unwrap().settled), (100, count(7)));
    assert_eq!((row.feed("b").unwrap().mark, row.feed("b").unwrap().settled), (30, count(1)));
    assert_eq!((ledger(&again).read, ledger(&again).delivered), (count(8), count(8)));
    // Read again: what lies below the mark of a is for b alone.
    let ticket = admit(&again, 30, 0, 2);
    settle(&again, ticket, "a", None, Fate::Delivered);
    settle(&again, ticket, "b", Some((1, 50)), Fate::DeadLettered);
    settle(&again, ticket, "b", None, Fate::Delivered);
    assert_eq!(again.imbalances(), []);
    assert_eq!(ledger(&again).dead_lettered.events, 1);
    assert_eq!(ledger(&again).read, count(10));
}

#[test]
fn records_behind_the_snapshot_move_the_mark_and_what_lies_between_is_told_apart() {
    let (lane, _) = topics();
    for behind_damage in [false, true] {
        let settlement = Settlement::default();
        settlement.put(ID, row());
        let ticket = admit(&settlement, 0, 10, 0);
        settle(&settlement, ticket, "a", Some((4, 40)), Fate::Delivered);
        let again = after_a_kill(&settlement);
        // Two more were acknowledged after the snapshot, then the rest went to the spill.
        let run = Rolled { behind_damage, ..rolled((60, 100), count(6), count(4)) };
        let row = LaneRow { tail: 1, pending: vec![("web".into(), count(4))], ..LaneRow::default() };
        again.roll(&lane, row, &[run], &[]);
        assert_eq!(again.gaps().0, usize::from(behind_damage), "what is lost is told");
        assert_eq!(again.imbalances(), []);
        let books = ledger(&again);
        assert_eq!(books.read, count(10));
        let lost = books.lost.get(&Lost::SpillDamaged).copied().unwrap_or_default();
        assert_eq!((books.delivered, lost), if behind_damage { (count(4), count(2)) } else { (count(6), count(0)) });
        let feed = again.stream(ID).unwrap().0.feeds.remove(0);
        assert_eq!((feed.mark, feed.settled), (100, count(10)), "nothing of it is read again");
        assert_eq!(again.admit(ID, (100, to(110), 110), &[(lane.clone(), count(1))]).1, [count(10)]);
    }
}

#[test]
fn what_is_in_the_spill_is_pending_until_its_fate_is_known() {
    let (lane, _) = topics();
    let settlement = Settlement::default();
    settlement.put(ID, row());
    let ticket = admit(&settlement, 0, 5, 0);
    settle(&settlement, ticket, "b", None, Fate::Delivered);
    let with = |pending| LaneRow { pending: vec![("web".into(), count(pending))], ..LaneRow::default() };
    settlement.spilled(&lane, with(5), &[(ID, ticket, 0)]);
    assert_eq!((settlement.imbalances(), settlement.totals().spilled), (vec![], count(5)));
    assert_eq!(settlement.stream(ID).unwrap().0.position.offset, 50, "it is settled");
    settlement.spill_ended(&lane, with(2), &[("web".into(), count(3))], Fate::Delivered);
    assert_eq!((settlement.imbalances(), settlement.totals().pending()), (vec![], count(2)));
    let again = after_a_kill(&settlement);
    assert_eq!((again.imbalances(), ledger(&again).read), (vec![], count(5)));
}

#[test]
fn each_increment_that_is_left_out_is_noticed() {
    let (lane, _) = topics();
    for term in ["read", "delivered", "filtered", "merged", "dead_lettered", "lost", "pending"] {
        let settlement = Settlement::default();
        settlement.put(ID, row());
        settlement.leave_out(term);
        let ticket = admit(&settlement, 0, 50, 0);
        for (events, fate) in [Fate::Delivered, Fate::Filtered, Fate::Merged, Fate::DeadLettered].into_iter().enumerate() {
            settle(&settlement, ticket, "a", Some((events as u64 + 1, events as u64 * 10 + 10)), fate);
        }
        settlement.spilled(&lane, LaneRow { pending: vec![("web".into(), count(46))], ..LaneRow::default() }, &[(ID, ticket, 0)]);
        if term == "lost" {
            let row = LaneRow { pending: vec![("web".into(), count(40))], ..LaneRow::default() };
            settlement.spill_ended(&lane, row, &[("web".into(), count(6))], Fate::Lost(Lost::SpillDamaged));
        }
        let wrong = settlement.imbalances();
        assert!(wrong.len() == 1 && wrong[0].1.contains("but delivered"), "{term}: {wrong:?}");
    }
}

#[test]
fn what_rules_left_out_is_booked_when_the_position_passes_and_not_before() {
    let settlement = Settlement::default();
    settlement.put(ID, row());
    let (a, _) = topics();
    let admit = |settlement: &Settlement, base: u64, events: u64| {
        let end = base + events * 10;
        settlement.admit(ID, (base, to(end), end), &[(Arc::clone(&a), count(events))]).0
    };
    let sifted = |skipped, filtered: u64, bytes| Sifted {
        skipped,
        filtered: Count { events: filtered, bytes },
        by_rule: vec![("noise".into(), count(filtered))],
        ..Sifted::default()
    };
    let tickets = [admit(&settlement, 0, 5), admit(&settlement, 50, 2), admit(&settlement, 70, 4)];
    settlement.sift((ID, tickets[0]), &a, sifted(Count::default(), 2, 0), &[], false);
    settlement.sift((ID, tickets[1]), &a, sifted(Count::default(), 2, 20), &[], true);
    settlement.sift((ID, tickets[2]), &a, sifted(Count::default(), 1, 0), &[], false);
    assert_eq!(settlement.imbalances(), []);
    assert_eq!((ledger(&settlement).filtered, ledger(&after_a_kill(&settlement)).read), (Count::default(), Count::default()));
    settlement.put(ID, row());
    settle(&settlement, tickets[0], "a", None, Fate::Delivered);
    settle(&settlement, tickets[2], "a", Some((2, 90)), Fate::Delivered);
    assert_eq!(settlement.imbalances(), []);
    let again = after_a_kill(&settlement);
    assert_eq!(again.imbalances(), []);
    assert_eq!((ledger(&again).filtered.events, ledger(&again).filtered_by[&Arc::from("noise")].events), (4, 4));
    assert_eq!(
        (ledger(&again).delivered.events, ledger(&again).read.events, again.began(ID, std::slice::from_ref(&a), 0).settled),
        (5, 9, vec![90])
    );
    // Read again, with one more: two were delivered, one is left out once more, and two are sent, one after the other.
    let ticket = admit(&again, 70, 5);
    again.sift((ID, ticket), &a, sifted(Count { events: 2, bytes: 20 }, 1, 0), &[], false);
    for upto in [Some((1, 110)), None] {
        settle(&again, ticket, "a", upto, Fate::Delivered);
        assert_eq!(again.imbalances(), []);
    }
    assert_eq!((ledger(&again).read, ledger(&again).filtered.events, ledger(&again).delivered.events), (count(12), 5, 7));
}

/// Of an arrival log only what is not settled was counted when it was opened; where rules have to see all of it again, the rest is not read twice.
#[test]
fn what_rules_see_again_of_an_arrival_log_is_not_taken_out_of_what_is_still_to_be_read() {
    for (unread, left) in [(3, 0), (10, 7)] {
        let settlement = Settlement::default();
        settlement.put(ID, row());
        let (a, _) = topics();
        settlement.arrived(ID, count(unread));
        let ticket = settlement.admit(ID, (0, to(50), 50), &[(Arc::clone(&a), count(5))]).0;
        let sifted = Sifted {
            skipped: Count { events: 2, bytes: 20 },
            filtered: Count { events: 1, bytes: 0 },
            by_rule: Vec::new(),
            ..Sifted::default()
        };
        settlement.sift((ID, ticket), &a, sifted, &[], false);
        assert_eq!((ledger(&settlement).read, settlement.imbalances()), (count(unread), vec![]));
        settle(&settlement, ticket, "a", None, Fate::Delivered);
        assert_eq!((ledger(&settlement).read, settlement.imbalances()), (count(unread), vec![]));
        let rest = settlement.read_whole(ID);
        assert_eq!((rest, ledger(&settlement).read, settlement.imbalances()), (count(left), count(unread - left), vec![]));
    }
}

#[test]
fn what_was_joined_is_read_at_once_and_merged_when_the_position_has_passed_it() {
    for (leaves_out, balanced) in [("", true), ("merged", false)] {
        let settlement = Settlement::default();
        settlement.put(ID, row());
        settlement.leave_out(leaves_out);
        let (a, _) = topics();
        let ticket = settlement.admit_joined(ID, (0, to(50), 50), &[(Arc::clone(&a), count(5))], 7).0;
        let joined = Count { events: 7, bytes: 0 };
        let read: Count = [count(5), joined].into_iter().sum();
        assert_eq!((ledger(&settlement).read, ledger(&settlement).merged), (read, count(0)));
        settle(&settlement, ticket, "a", Some((2, 20)), Fate::Delivered);
        assert_eq!((settlement.stream(ID).unwrap().1, settlement.imbalances()), (read - count(2), vec![]));
        assert_eq!(ledger(&after_a_kill(&settlement)).read, count(2), "the others are read again, and so what is joined to them");
        settle(&settlement, ticket, "a", None, Fate::Delivered);
        assert_eq!(settlement.imbalances().is_empty(), balanced);
        if balanced {
            settlement.pass_joined(ID, to(60), 60, 1);
            assert_eq!((ledger(&settlement).merged.events, ledger(&settlement).read.events), (8, 13));
            assert_eq!((settlement.imbalances(), ledger(&after_a_kill(&settlement)).read.events), (vec![], 13));
        }
    }
}

#[test]
fn lanes_that_rules_share_a_stream_among_are_each_told_what_they_had() {
    let (a, b) = topics();
    let settlement = Settlement::default();
    settlement.put(ID, row());
    assert_eq!(settlement.began(ID, &[a.clone(), b.clone()], 7), Began { settled: vec![0, 0], again_to: 0 });
    let share = |settlement: &Settlement, base: u64, lane_a: u64, lane_b: u64, filtered: u64, routed| {
        let end = base + (lane_a + lane_b + filtered) * 10;
        let (ticket, _) = settlement.admit(ID, (base, to(end), end), &[(a.clone(), count(lane_a + lane_b + filtered))]);
        let sifted = Sifted { filtered: count(filtered), routed, ..Sifted::default() };
        let others: Vec<_> = if lane_b > 0 { vec![(b.clone(), base, count(lane_b))] } else { vec![] };
        let before = settlement.sift((ID, ticket), &a, sifted, &others, lane_a == 0);
        let before: Vec<Count> = before.into_iter().map(|(_, before)| before).collect();
        assert_eq!(settlement.imbalances(), []);
        (ticket, before)
    };
    let (first, before) = share(&settlement, 0, 2, 3, 1, 7);
    assert_eq!(before, [count(0)]);
    let (second, before) = share(&settlement, 60, 0, 4, 0, 7);
    assert_eq!(before, [count(3)]);
    // One lane is stuck: the other goes on, and its mark with it.
    settle(&settlement, first, "b", None, Fate::Delivered);
    settle(&settlement, second, "b", Some((1, 75)), Fate::Delivered);
    assert_eq!(settlement.imbalances(), []);
    let again = after_a_kill(&settlement);
    assert_eq!((again.imbalances(), ledger(&again).read, ledger(&again).delivered), (vec![], count(4), count(4)));
    assert_eq!(again.began(ID, &[a.clone(), b.clone()], 7), Began { settled: vec![0, 75], again_to: 0 });
    // Other rules may have given the same to other lanes: nothing is passed over.
    settlement.update(ID, |_| ());
    let other = after_a_kill(&settlement);
    assert!(other.was_routed("web"));
    assert_eq!(other.began(ID, &[a.clone(), b.clone()], 8), Began { settled: vec![0, 0], again_to: 75 });
    assert_eq!(other.began(ID, &[a.clone(), b.clone()], 8), Began { settled: vec![0, 0], again_to: 0 });
    settle(&again, again.admit(ID, (75, to(95), 95), &[(a.clone(), count(2))]).0, "a", None, Fate::Delivered);
    assert_eq!(again.stream(ID).unwrap().0.position.offset, 95);
    // While both kinds are on their way, no rules know what the marks say.
    settlement.began(ID, std::slice::from_ref(&a), 8);
    share(&settlement, 100, 1, 1, 0, 8);
    let mixed = after_a_kill(&settlement);
    assert_eq!(mixed.stream(ID).unwrap().0.routed, crate::snapshot::rows::MIXED);
}

#[test]
fn a_record_behind_the_snapshot_that_other_rules_gave_its_lane_hides_nothing() {
    let (a, b) = topics();
    for (rules, expected) in [(7, vec![0, 40]), (8, vec![0, 0])] {
        let settlement = Settlement::default();
        settlement.put(ID, row());
        settlement.began(ID, &[a.clone(), b.clone()], 7);
        let (ticket, _) = settlement.admit(ID, (0, to(20), 20), &[(a.clone(), count(2))]);
        settlement.sift((ID, ticket), &a, Sifted { routed: 7, ..Sifted::default() }, &[(b.clone(), 0, count(1))], false);
        settle(&settlement, ticket, "b", None, Fate::Delivered);
        let again = after_a_kill(&settlement);
        let run = Rolled { routed: rules, ..rolled((30, 40), count(1), count(1)) };
        again.roll(&b, LaneRow { tail: 1, pending: vec![("web".into(), count(1))], ..LaneRow::default() }, &[run], &[]);
        assert_eq!(again.imbalances(), []);
        assert_eq!(again.began(ID, &[a.clone(), b.clone()], 7).settled, expected);
    }
}

#[test]
fn what_a_lane_gets_of_a_batch_after_it_was_admitted_is_waited_for() {
    let (a, b) = topics();
    let settlement = Settlement::default();
    settlement.put(ID, row());
    settlement.began(ID, &[a.clone(), b.clone()], 7);
    let admit = |base: u64| settlement.admit(ID, (base, to(base + 20), base + 20), &[(a.clone(), count(2))]).0;
    let sift = |ticket| {
        let sifted = Sifted { routed: 7, ..Sifted::default() };
        let given = settlement.sift((ID, ticket), &a, sifted, &[(b.clone(), ticket * 20 - 20, count(1))], false);
        given.into_iter().map(|(_, before)| before).collect::<Vec<_>>()
    };
    let first = admit(0);
    assert_eq!(sift(first), [count(0)]);
    let second = admit(20);
    // Before rules have said what of the second is for it, the lane is done with the first.
    settle(&settlement, first, "b", None, Fate::Delivered);
    assert_eq!(sift(second), [count(1)]);
    let again = after_a_kill(&settlement);
    assert_eq!(again.began(ID, std::slice::from_ref(&b), 7).settled, [20], "the second is not settled");
    settle(&settlement, second, "b", None, Fate::Delivered);
    let again = after_a_kill(&settlement);
    let feed = again.stream(ID).unwrap().0.feed("b").unwrap().clone();
    assert_eq!((feed.mark, feed.settled), (40, count(2)));
}

#[test]
fn shares_of_several_keys_are_booked_in_order_and_the_mark_waits_for_all_before_it() {
    let (a, _) = topics();
    let settlement = Settlement::default();
    settlement.put(ID, row());
    settlement.began(ID, std::slice::from_ref(&a), 7);
    // Events of two keys lie between each other: one has those that end at 10, 30 and 40, the other the one that ends at 20.
    let (ticket, _) = settlement.admit(ID, (0, to(40), 40), &[(a.clone(), count(4))]);
    let others = [(a.clone(), 0, count(3)), (a.clone(), 10, count(1))];
    let given = settlement.sift((ID, ticket), &a, Sifted { routed: 7, ..Sifted::default() }, &others, true);
    assert_eq!(given, [(1, count(0)), (2, count(3))]);
    let settle = |part, upto: Option<(u64, u64)>| {
        settlement.lock().settle(ID, (ticket, part), "a", upto.map(|(events, offset)| (count(events), offset)), Fate::Delivered);
        assert_eq!(settlement.imbalances(), []);
        let feed = settlement.stream(ID).unwrap().0.feeds.remove(0);
        (feed.mark, feed.settled.events, ledger(&settlement).delivered.events)
    };
    assert_eq!(settle(1, Some((1, 10))), (10, 1, 1));
    assert_eq!(settle(1, Some((2, 30))), (10, 2, 2), "an event between is not settled");
    assert_eq!(settle(2, None), (30, 2, 2), "and is not in the books before those in front of it");
    assert_eq!(settle(1, None), (40, 4, 4));
    assert_eq!(settlement.stream(ID).unwrap().0.position.offset, 40);
}
