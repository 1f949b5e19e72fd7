//! How streams end: what leaves the state and when, what deleted files may hold of the disk, what is protected.

use super::*;
use crate::source::absent::forget_absent;

/// Longer than between two looks at what can't come back, twice.
const A_WHILE: Duration = Duration::from_mins(11);

fn rows(rig: &Rig) -> usize {
    rig.settlement.streams_of(NAME).len()
}

fn wait_long(rig: &mut Rig) {
    for _ in 0..4 {
        rig.wait(A_WHILE);
        rig.settle();
    }
}

/// Fills the budget, so that nothing that comes later is read.
fn without_room(rig: &mut Rig) {
    rig.budget = Budget::new(10_000);
    rig.write("a.log", "fills the budget\n".repeat(30));
    rig.read();
}

#[test]
fn streams_that_are_gone_and_settled_leave_memory_and_state_and_their_counts_stay() {
    type End = fn(&Rig);
    let ends: [End; 4] = [
        |rig| fs::remove_file(rig.path("app.log")).unwrap(),
        |rig| rig.truncate("app.log"),
        |rig| {
            rig.rename("app.log", "app.log.1");
        },
        |rig| {
            fs::remove_file(rig.path("app.log")).unwrap();
            rig.write("app.log", "another\n");
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let mut rig = Rig::new(&["*.log"]);
        rig.write("app.log", "one\n");
        rig.settle();
        end(&rig);
        rig.settle();
        let _ = fs::remove_file(rig.path("app.log.1"));
        wait_long(&mut rig);
        rig.commit();
        let left = usize::from(rig.path("app.log").exists());
        assert_eq!((rows(&rig), rig.store.rows.len()), (left, left), "{number}");
        let source = rig.source.as_ref().unwrap();
        assert_eq!((source.tailed.len(), source.dormant.len()), (left, 0), "{number}");
        assert_eq!(rig.ledger().delivered.events, 1 + u64::from(number == 3));
    }
}

#[test]
fn what_may_come_back_or_is_not_settled_stays_in_the_state() {
    // Renamed, and still there.
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.settle();
    rig.rename("app.log", "app.log.1");
    rig.settle();
    wait_long(&mut rig);
    assert_eq!(rows(&rig), 1);
    // Deleted, and not acknowledged.
    rig.write("app.log", "two\n");
    rig.read();
    fs::remove_file(rig.path("app.log")).unwrap();
    for _ in 0..4 {
        rig.wait(A_WHILE);
        rig.read();
    }
    assert_eq!(rows(&rig), 2);
    wait_long(&mut rig);
    assert_eq!(rows(&rig), 1);
}

#[test]
fn a_directory_that_is_not_there_at_the_start_forgets_nothing() {
    let mut rig = Rig::new(&["logs/*.log"]);
    fs::create_dir(rig.path("logs")).unwrap();
    rig.write("logs/app.log", "one\n");
    rig.settle();
    rig.stop();
    // As long as it is not mounted.
    rig.rename("logs", "elsewhere");
    rig.settle();
    wait_long(&mut rig);
    assert_eq!(rows(&rig), 1);
    rig.stop();
    rig.rename("elsewhere", "logs");
    rig.write("logs/app.log", "two\n");
    rig.settle();
    assert_eq!(rig.texts(), ["one", "two"]);
}

#[test]
fn streams_of_a_source_that_was_removed_leave_after_their_time_and_their_counts_stay() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.settle();
    rig.stop();
    let day = Duration::from_hours(24);
    let now = streams::now_s();
    assert_eq!(forget_absent(&rig.settlement, [NAME], day, now + 100 * 86_400), 0);
    assert_eq!(forget_absent(&rig.settlement, ["other"], day, now + 3600), 0);
    assert_eq!(forget_absent(&rig.settlement, ["other"], day, now + 2 * 86_400), 1);
    rig.commit();
    assert_eq!((rig.store.rows.len(), rig.ledger().delivered.events), (0, 1));
}

#[test]
fn deleted_files_hold_no_more_of_the_disk_than_they_may() {
    let mut rig = Rig::new(&["*.log"]);
    without_room(&mut rig);
    rig.held = held::Held::new(250 << 10);
    for (number, name) in ["x.log", "y.log", "z.log"].into_iter().enumerate() {
        rig.write(name, format!("{number}, and more of it\n").repeat(5000));
        rig.read();
    }
    rig.stop();
    rig.read();
    let mut deleted = 0;
    for name in ["y.log", "z.log", "x.log"] {
        deleted += fs::metadata(rig.path(name)).unwrap().len();
        fs::remove_file(rig.path(name)).unwrap();
        rig.wait(Duration::from_millis(50));
        rig.read();
        assert!(rig.held.bytes() <= 250 << 10);
    }
    let one = deleted / 3;
    // The first that was deleted has gone.
    assert_eq!(rig.missed(Missed::HoldDeleted), one);
    rig.settle();
    rig.wait(Duration::from_secs(6));
    rig.settle();
    let texts = rig.texts();
    assert_eq!(texts.iter().filter(|text| text.contains("more of it")).count(), 10_000);
    assert!(!texts.iter().any(|text| text.starts_with('1')));
    assert_eq!(rig.held.bytes(), 0);
    rig.stop();
    rig.settle();
    assert_eq!(rig.missed(Missed::HoldDeleted) + rig.missed(Missed::Deleted), one, "once");
}

#[test]
fn deleted_files_are_let_go_while_their_file_system_has_too_little_free() {
    let mut rig = Rig::new(&["*.log"]);
    without_room(&mut rig);
    rig.write("x.log", "deleted\n");
    rig.write("y.log", "kept, since it is there\n");
    rig.read();
    fs::remove_file(rig.path("x.log")).unwrap();
    rig.keep_free = KeepFree::Bytes(u64::MAX);
    rig.source = None;
    rig.settle();
    rig.write("z.log", "deleted as well\n");
    rig.budget = Budget::new(1);
    let charge = rig.budget.charge(1);
    rig.source = None;
    rig.read();
    fs::remove_file(rig.path("z.log")).unwrap();
    rig.read();
    assert_eq!(rig.missed(Missed::KeepFree), 16);
    drop(charge);
    rig.settle();
    assert!(rig.texts().contains(&"kept, since it is there".to_owned()));
}

#[test]
fn what_can_t_be_read_again_is_protected_once_for_each_event() {
    let protected = |rig: &Rig| std::mem::take(&mut *rig.protected.lock().unwrap()).len();
    // Deleted.
    let mut rig = Rig::new(&["*.log"]);
    let mut file = rig.write("app.log", "one\n");
    rig.read();
    assert_eq!(protected(&rig), 0);
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.read();
    rig.read();
    assert_eq!(protected(&rig), 1);
    file.write_all(b"two\n").unwrap();
    rig.wait(Duration::from_millis(100));
    rig.read();
    rig.read();
    assert_eq!(protected(&rig), 1, "more was read of it");
    rig.wait(Duration::from_secs(6));
    rig.read();
    assert_eq!(protected(&rig), 0);
    // Truncated.
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.read();
    rig.truncate("app.log");
    rig.read();
    rig.read();
    assert_eq!(protected(&rig), 1);
    // With a copy it can be read again, and so when all of it is settled.
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.read();
    fs::copy(rig.path("app.log"), rig.path("app.log.1")).unwrap();
    rig.truncate("app.log");
    rig.read();
    rig.settle();
    rig.write("app.log", "two\n");
    rig.settle();
    rig.truncate("app.log");
    rig.settle();
    assert_eq!(protected(&rig), 0);
}
