//! Rotation without end: what is kept of it, in memory and in the state, does not grow.

use super::*;
use crate::snapshot::State;

/// How files are rotated: a line is there and read before each.
#[derive(Clone, Copy, Debug)]
enum Way {
    Rename,
    CopyTruncate,
    Compress,
}

/// Rotated files that are kept.
const KEPT: usize = 3;
/// 10,000 rotations a day.
const BETWEEN: Duration = Duration::from_millis(8640);
const MIB: u64 = 1 << 20;

/// What is kept: rows in the state, and everything in the maps of the source.
fn kept(rig: &Rig) -> usize {
    let source = rig.source.as_ref().unwrap();
    let maps = [
        source.tailed.len(),
        source.dormant.values().map(Vec::len).sum(),
        source.by_path.len(),
        source.by_inode.values().map(Vec::len).sum(),
        source.by_key.len(),
        source.ready.len(),
        source.hot.len(),
        source.unborn.len(),
        source.linked.len(),
        source.suspects.len(),
        source.pursued.len(),
        source.to_unpack.len(),
        source.strangers.len(),
        source.impossible.len(),
        source.told.len(),
        source.ignored.len(),
    ];
    rig.settlement.streams_of(NAME).len() + maps.into_iter().sum::<usize>()
}

fn rotate(rig: &Rig, way: Way) {
    let suffix = if matches!(way, Way::Compress) { ".gz" } else { "" };
    let name = |number: usize| format!("app.log.{number}{suffix}");
    let _ = fs::remove_file(rig.path(&name(KEPT)));
    for number in (1..KEPT).rev().filter(|number| rig.path(&name(*number)).exists()) {
        rig.rename(&name(number), &name(number + 1));
    }
    match way {
        Way::Rename => rig.rename("app.log", &name(1)),
        Way::CopyTruncate => {
            fs::copy(rig.path("app.log"), rig.path(&name(1))).unwrap();
            rig.truncate("app.log");
        }
        Way::Compress => {
            let file = File::create(rig.path(&name(1))).unwrap();
            let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            gzip.write_all(&fs::read(rig.path("app.log")).unwrap()).unwrap();
            gzip.finish().unwrap();
            fs::remove_file(rig.path("app.log")).unwrap();
        }
    }
}

/// Plays so many rotations on a file system in memory, where there is one. In the second half nothing may become more, neither what is kept nor
/// the database: so what this shows for thousands holds for any number.
fn soak(way: Way, all: bool, rotations: usize) {
    let mut rig = Rig::new(&[if all { "app.log*" } else { "*.log" }]);
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        rig = rig.moved_to(TempDir::new_in(memory).unwrap(), if all { "app.log*" } else { "*.log" });
    }
    let home = TempDir::new_in(rig.dir.path().parent().unwrap()).unwrap();
    let mut state = State::open(home.path(), "soak").unwrap();
    let size = || fs::metadata(home.path().join("state.redb")).unwrap().len();
    let mut most = [0; 2];
    let mut sizes = [0; 2];
    for number in 0..rotations {
        let half = usize::from(number >= rotations / 2);
        rig.write("app.log", format!("line {number}\n"));
        rig.settle();
        rotate(&rig, way);
        rig.wait(BETWEEN);
        rig.settle();
        rig.acked.clear();
        if number % 7 == 0 {
            let changes = rig.settlement.changes();
            state.commit(&changes).unwrap();
            rig.settlement.committed(&changes);
        }
        most[half] = most[half].max(kept(&rig));
        sizes[half] = size();
    }
    eprintln!("{way:?}, all: {all}: {rotations} rotations; kept at most {most:?}; the database has {sizes:?} bytes");
    assert_eq!(rig.ledger().delivered.events, rotations as u64);
    assert_eq!((rig.ledger().missed, rig.ledger().possible_duplicates), Default::default());
    assert!(most[1] <= most[0] + most[0] / 10 + 10, "{way:?}: grows from {} to {}", most[0], most[1]);
    assert!(most[1] < 3000, "{way:?}: {}", most[1]);
    assert!(sizes[1] <= sizes[0] * 2 && sizes[1] < 64 * MIB, "{way:?}: {sizes:?}");
}

#[test]
fn what_is_kept_does_not_grow_with_rotations() {
    for way in [Way::Rename, Way::CopyTruncate, Way::Compress] {
        soak(way, false, 600);
    }
}

#[test]
#[ignore = "takes minutes: make soak"]
fn what_is_kept_over_a_day_of_ten_thousand_rotations_does_not_grow_in_its_second_half() {
    for way in [Way::Rename, Way::CopyTruncate, Way::Compress] {
        soak(way, false, 10_000);
        soak(way, true, 2_000);
    }
}

/// A host with 10,000 logs of which each has two rotated ones, all known, with long paths. Thousands of rows are written again at a time, as when it
/// is noted that files are still there; that about doubles the database once (of 50,000 rows it makes 68 MiB), and then it stays.
#[test]
#[ignore = "takes a minute: make soak"]
fn the_state_of_ten_thousand_logs_with_two_rotated_files_each_stays_small() {
    let mut rig = Rig::new(&["*.log"]);
    rig.write("app.log", "a line\n".repeat(200));
    rig.settle();
    let (_, row) = rig.settlement.streams_of(NAME).remove(0);
    let home = TempDir::new().unwrap();
    let mut state = State::open(home.path(), "soak").unwrap();
    let mut sizes = Vec::new();
    for round in 0..6_u64 {
        for number in 0..30_000_u64 {
            if round == 0 || number % 3 == round % 3 {
                let path = format!("/var/log/applications/some-service-{:05}/application.log.{}", number / 3, number % 3);
                let mut row = row.clone();
                (row.first_path, row.path, row.seen_s) =
                    (path.as_bytes().into(), path.as_bytes().into(), row.seen_s + i64::try_from(round).unwrap());
                rig.settlement.put(StreamId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)), row);
            }
        }
        state.commit(&rig.settlement.changes()).unwrap();
        sizes.push(fs::metadata(home.path().join("state.redb")).unwrap().len());
    }
    eprintln!("30,000 streams: {sizes:?} bytes");
    assert!(*sizes.last().unwrap() < 64 * MIB, "{sizes:?}");
}

/// 10,000 files at once after the first run, in a directory that has as many already: measured, and bounded at what a slow machine needs.
#[test]
#[ignore = "measures: make soak"]
fn ten_thousand_files_at_once_are_taken_in_without_a_pause() {
    let mut rig = Rig::new(&["*"]);
    rig.settle();
    for round in 0..2 {
        for number in 0..10_000 {
            rig.write(&format!("service-{round}-{number:05}.log"), "a line\n");
        }
        let begun = Instant::now();
        rig.turn();
        let took = begun.elapsed();
        eprintln!("10,000 new files beside {}: taken in in {took:?}", round * 10_000);
        rig.settle();
        assert_eq!(rig.texts().len(), 10_000);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}
