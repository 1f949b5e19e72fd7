//! Rotation, truncation and copies while the source runs.

use super::*;

const GLOBS: [&str; 2] = ["*.log", "app.log*"];

fn copy_and_truncate(rig: &Rig, to: &str) {
    fs::copy(rig.path("app.log"), rig.path(to)).unwrap();
    rig.truncate("app.log");
}

#[test]
fn a_last_line_without_its_end_is_partial_after_rotation_and_not_before() {
    for glob in GLOBS {
        let mut rig = Rig::new(&[glob]);
        rig.write("app.log", "one\nhal");
        rig.settle();
        rig.wait(Duration::from_hours(1));
        rig.settle();
        assert_eq!(rig.texts(), ["one"]);
        rig.rename("app.log", "app.log.1");
        rig.settle();
        rig.wait(Duration::from_secs(4));
        rig.settle();
        // A writer that has not noticed yet.
        rig.write("app.log.1", "f\nfo");
        rig.settle();
        rig.wait(Duration::from_secs(4));
        rig.settle();
        assert_eq!(rig.texts(), ["half"], "{glob}");
        rig.wait(Duration::from_secs(2));
        rig.settle();
        assert_eq!(rig.texts(), ["fo…"], "{glob}");
    }
}

#[test]
fn a_late_writer_of_a_file_that_was_renamed_long_ago_gets_time_to_end_its_line() {
    for glob in GLOBS {
        let mut rig = Rig::new(&[glob]);
        rig.write("app.log", "one\n");
        rig.settle();
        rig.rename("app.log", "app.log.1");
        rig.settle();
        rig.wait(Duration::from_secs(20));
        rig.write("app.log.1", "ha");
        rig.settle();
        rig.write("app.log.1", "lf\n");
        rig.settle();
        assert_eq!(rig.texts(), ["one", "half"], "{glob}");
    }
}

#[test]
fn a_rotated_file_that_still_matches_is_closed_in_the_end_and_opened_again_when_it_grows() {
    let mut rig = Rig::new(&["app.log*"]);
    rig.write("app.log", "one\n");
    rig.settle();
    rig.rename("app.log", "app.log.1");
    rig.settle();
    let open = |rig: &Rig| rig.source.as_ref().unwrap().tailed.values().filter(|tailed| tailed.file.is_some()).count();
    assert_eq!(open(&rig), 1);
    rig.wait(Duration::from_mins(11));
    rig.settle();
    rig.settle();
    assert_eq!(open(&rig), 0);
    rig.write("app.log.1", "two\n");
    rig.settle();
    assert_eq!(rig.texts(), ["one", "two"]);
    let row = rig.settlement.streams_at(rig.path("app.log.1").as_os_str().as_encoded_bytes()).remove(0).1;
    assert_eq!((row.size, row.position.offset), (8, 8));
}

#[test]
fn a_deleted_file_that_was_seen_is_read_to_its_end() {
    let mut rig = Rig::new(&["*.log"]);
    let mut file = rig.write("app.log", "one\n");
    rig.turn();
    fs::remove_file(rig.path("app.log")).unwrap();
    rig.write("app.log", "another\n");
    file.write_all(b"two\nhal").unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["one", "two", "another"]);
    rig.wait(Duration::from_secs(6));
    rig.settle();
    assert_eq!(rig.texts(), ["hal…"]);
    rig.settle();
    assert_eq!(rig.source.as_ref().unwrap().tailed.len(), 1);
    assert!(rig.ledger().missed.is_empty());
}

#[test]
fn what_was_not_read_before_copytruncate_is_read_from_the_copy_and_what_was_is_not_read_again() {
    for glob in GLOBS {
        let mut rig = Rig::new(&[glob]);
        rig.write("app.log", "one\n");
        rig.settle();
        for round in 0..3 {
            rig.write("app.log", format!("rest {round}\n"));
            if round > 0 {
                rig.rename("app.log.1", &format!("app.log.{}", 5 - round));
            }
            copy_and_truncate(&rig, "app.log.1");
            rig.write("app.log", format!("new {round}, which is longer than what was there before\n"));
            rig.settle();
            rig.wait(Duration::from_secs(10));
        }
        rig.settle();
        let texts: Vec<_> = rig.texts().into_iter().map(|text| text.split(',').next().unwrap().to_owned()).collect();
        assert_eq!(texts, ["one", "rest 0", "new 0", "rest 1", "new 1", "rest 2", "new 2"], "{glob}");
        assert!(rig.ledger().missed.is_empty());
        assert_eq!(rig.ledger().possible_duplicates, 0);
    }
}

#[test]
fn copytruncate_over_the_same_copy_again_and_again_loses_and_repeats_nothing() {
    for glob in GLOBS {
        let mut rig = Rig::new(&[glob]);
        rig.write("app.log", "0\n");
        rig.settle();
        for round in 0..4 {
            rig.write("app.log", format!("rest {round}\n"));
            copy_and_truncate(&rig, "app.log.1");
            rig.write("app.log", format!("new {round}\n"));
            rig.settle();
            // Long enough for the copy to be closed, or not.
            rig.wait(Duration::from_mins(if round % 2 == 0 { 11 } else { 1 }));
            rig.settle();
        }
        let wanted: Vec<_> = (0..4).flat_map(|round| [format!("rest {round}"), format!("new {round}")]).collect();
        assert_eq!(rig.texts()[1..], wanted, "{glob}");
        assert!(rig.ledger().missed.is_empty());
    }
}

#[test]
fn a_file_that_was_copied_and_truncated_before_anything_of_it_was_read_is_read_from_the_copy() {
    let mut rig = Rig::new(&["*.log"]);
    rig.budget = Budget::new(10_000);
    rig.write("z.log", "fills the budget\n".repeat(30));
    rig.read();
    rig.write("app.log", "seen\n");
    assert!(!rig.read());
    copy_and_truncate(&rig, "app.log.1");
    rig.write("app.log", "new and longer\n");
    assert!(!rig.read());
    rig.settle();
    assert_eq!(rig.texts()[30..], ["seen", "new and longer"]);
    assert!(rig.ledger().missed.is_empty());
}

#[test]
fn what_is_truncated_before_it_is_read_is_counted() {
    for again in ["", "new\n", "new, and more of it than before\n"] {
        let mut rig = Rig::new(&["*.log"]);
        rig.budget = Budget::new(10_000);
        rig.write("z.log", "fills the budget\n".repeat(30));
        rig.read();
        rig.write("app.log", "lost, all of it\n");
        assert!(!rig.read());
        rig.truncate("app.log");
        rig.write("app.log", again);
        rig.settle();
        assert_eq!(rig.missed(Missed::Truncated), 16);
        assert_eq!(rig.texts().split_off(30), again.lines().collect::<Vec<_>>());
    }
}

#[test]
fn what_is_cut_off_before_it_is_read_is_counted() {
    let mut rig = Rig::new(&["*.log"]);
    rig.budget = Budget::new(10_000);
    rig.write("app.log", "kept\n");
    rig.settle();
    rig.write("z.log", "fills the budget\n".repeat(30));
    rig.read();
    rig.write("app.log", "cut off\n");
    assert!(!rig.read());
    File::options().write(true).open(rig.path("app.log")).unwrap().set_len(5).unwrap();
    rig.write("app.log", "new\n");
    rig.settle();
    assert_eq!(rig.texts().split_off(1)[30..], ["new"]);
    assert_eq!(rig.missed(Missed::Truncated), 4, "the size last seen is all that is known");
}

#[test]
fn a_file_written_anew_to_the_very_same_size_is_noticed() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "first\n").set_modified(std::time::SystemTime::now() - Duration::from_secs(9)).unwrap();
    rig.settle();
    rig.truncate("app.log");
    rig.write("app.log", "other\n");
    // Without the word of the watcher, as on a network file system.
    rig.source.as_mut().unwrap().watcher = Watcher::new(|| {});
    rig.settle();
    assert_eq!(rig.texts(), ["first", "other"]);
}

#[test]
fn a_busy_file_with_the_name_of_a_copy_is_not_held_back() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "main\n".repeat(100));
    rig.settle();
    let mut file = File::create(rig.path("app-access.log")).unwrap();
    rig.settle();
    file.write_all(b"access\n").unwrap();
    rig.settle();
    rig.settle();
    assert_eq!(rig.texts().pop().unwrap(), "access");
    // One that begins alike, as with a banner, is held back until it goes on otherwise.
    let mut file = rig.write("app-banner.log", "main\n".repeat(90));
    rig.settle();
    assert!(rig.texts().is_empty());
    file.write_all(b"banner\n").unwrap();
    rig.settle();
    rig.settle();
    assert_eq!(rig.texts().pop().unwrap(), "banner");
    assert_eq!(rig.ledger().possible_duplicates, 0);
}

#[test]
fn a_copy_whose_original_is_not_truncated_is_read_in_the_end_and_told() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "one\n");
    rig.settle();
    fs::copy(rig.path("app.log"), rig.path("app.1.log")).unwrap();
    rig.settle();
    assert_eq!(rig.texts(), ["one"]);
    rig.wait(Duration::from_secs(6));
    rig.settle();
    assert_eq!(rig.texts(), ["one"]);
    assert_eq!(rig.ledger().possible_duplicates, 1);
}
