//! Hints of real directories.

use std::fs;
use std::io::Write;
use std::sync::mpsc::{Receiver, channel};

use notify::event::{CreateKind, DataChange, Flag};
use tempfile::TempDir;

use super::*;

fn watcher() -> (Watcher, Receiver<()>) {
    let (wake, woken) = channel();
    (Watcher::new(move || wake.send(()).unwrap_or_default()), woken)
}

/// Collects hints until they satisfy the condition.
fn until(watcher: &mut Watcher, woken: &Receiver<()>, done: impl Fn(&Hints) -> bool) -> Hints {
    let mut all = Hints::default();
    while !done(&all) {
        woken.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("nothing more came after {all:?}"));
        let hints = watcher.take();
        all.changed.extend(hints.changed);
        all.structure |= hints.structure;
        all.everything |= hints.everything;
    }
    all
}

#[test]
fn a_write_a_creation_a_rename_and_a_removal_are_hinted_at() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (mut watcher, woken) = watcher();
    watcher.watch_only([dir.path().to_owned()].into_iter());
    let mut file = fs::File::create(&a).unwrap();
    until(&mut watcher, &woken, |hints| hints.structure);
    file.write_all(b"x").unwrap();
    until(&mut watcher, &woken, |hints| hints.changed.contains(&a));
    rustix::fs::rename(&a, &b).unwrap();
    until(&mut watcher, &woken, |hints| hints.structure);
    file.write_all(b"x").unwrap();
    until(&mut watcher, &woken, |hints| hints.changed.contains(&b));
    fs::remove_file(&b).unwrap();
    until(&mut watcher, &woken, |hints| hints.structure);
    assert!(!watcher.take().everything);
}

#[test]
fn only_what_is_wanted_is_watched() {
    let dir = TempDir::new().unwrap();
    let [a, b, gone] = ["a", "b", "gone"].map(|name| dir.path().join(name));
    fs::create_dir(&a).unwrap();
    fs::create_dir(&b).unwrap();
    let (mut watcher, woken) = watcher();
    watcher.watch_only([a.clone(), b.clone(), gone.clone()].into_iter());
    assert_eq!(watcher.watching(), 2);
    watcher.watch_only([b.clone()].into_iter());
    assert_eq!(watcher.watching(), 1);
    fs::write(a.join("file"), "x").unwrap();
    fs::write(b.join("file"), "x").unwrap();
    let hints = until(&mut watcher, &woken, |hints| hints.changed.contains(&b.join("file")));
    assert!(!hints.changed.contains(&a.join("file")));
    fs::create_dir(&gone).unwrap();
    watcher.watch_only([gone.clone()].into_iter());
    fs::write(gone.join("file"), "x").unwrap();
    until(&mut watcher, &woken, |hints| hints.changed.contains(&gone.join("file")));
}

#[test]
fn a_directory_that_took_the_place_of_another_is_watched_anew() {
    let dir = TempDir::new().unwrap();
    let (logs, old) = (dir.path().join("logs"), dir.path().join("old"));
    let (mut watcher, woken) = watcher();
    for round in 0..3 {
        fs::create_dir(&logs).unwrap();
        watcher.watch_only([logs.clone()].into_iter());
        let file = logs.join(round.to_string());
        fs::write(&file, "x").unwrap();
        until(&mut watcher, &woken, |hints| hints.changed.contains(&file));
        // Once moved aside, once removed.
        if round == 1 {
            rustix::fs::rename(&logs, &old).unwrap();
        } else {
            fs::remove_dir_all(&logs).unwrap();
        }
    }
}

#[test]
fn lost_or_too_many_events_mean_everything() {
    let data = |path: &str| Ok(Event::new(EventKind::Modify(ModifyKind::Data(DataChange::Any))).add_path(path.into()));
    let mut hints = Hints::default();
    hints.note(&Ok(Event::new(EventKind::Access(notify::event::AccessKind::Any)).add_path("/a".into())));
    assert!(hints.is_empty());
    for number in 0..MAX_CHANGED {
        hints.note(&data(&number.to_string()));
    }
    hints.note(&data("0"));
    assert!(!hints.everything);
    hints.note(&data("one more"));
    assert!(hints.everything && hints.changed.len() == MAX_CHANGED && !hints.structure);
    let mut hints = Hints::default();
    hints.note(&Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
    assert!(hints.everything);
    let mut hints = Hints::default();
    hints.note(&Err(notify::Error::generic("lost")));
    assert!(hints.everything);
    let mut hints = Hints::default();
    hints.note(&Ok(Event::new(EventKind::Create(CreateKind::File)).add_path("/a".into())));
    assert!(hints.structure && hints.changed.is_empty());
}

#[test]
fn a_limit_is_named_with_what_to_raise() {
    assert!(trouble(&notify::Error::new(ErrorKind::MaxFilesWatch)).contains("fs.inotify.max_user_watches"));
    assert!(trouble(&notify::Error::io(std::io::Error::from_raw_os_error(24))).contains("fs.inotify.max_user_instances"));
}

/// CPU time of the watching threads of this process, milliseconds.
fn watching_cpu_ms() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let mine = tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("notify-rs")));
    mine.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok()?.split(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        / 1e6
}

/// Measures what a file costs that is written to all the time; run by itself: `cargo test --lib -- --ignored --nocapture busy_file`.
#[test]
#[ignore = "measures; takes seconds and wants the machine for itself"]
fn a_busy_file_costs_the_watching_thread_little() {
    let dir = TempDir::new().unwrap();
    let (mut watcher, woken) = watcher();
    watcher.watch_only([dir.path().to_owned()].into_iter());
    let names = ["a", "b", "c", "d"].map(|name| dir.path().join(name));
    for (files, gap) in [(1, Duration::from_micros(50)), (4, Duration::from_micros(50)), (1, Duration::ZERO), (4, Duration::ZERO)] {
        let mut open: Vec<_> = names.iter().take(files).map(|name| fs::File::create(name).unwrap()).collect();
        let (start, cpu) = (Instant::now(), watching_cpu_ms());
        let (mut writes, mut wakes) = (0_u32, 0);
        while start.elapsed() < Duration::from_secs(3) {
            let due = gap * writes;
            while start.elapsed() < due {
                std::hint::spin_loop();
            }
            open[writes as usize % files].write_all(b"x").unwrap();
            writes += 1;
            if woken.try_recv().is_ok() {
                wakes += 1;
                assert!(!watcher.take().is_empty());
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let core = (watching_cpu_ms() - cpu) / seconds / 10.0;
        eprintln!("{files} files, {:.0} writes/s: {core:.2} % of a core, {wakes} wakes", f64::from(writes) / seconds);
        assert!(core < 2.0, "{core}");
    }
}

#[test]
fn a_busy_directory_does_not_keep_others_from_being_watched() {
    let dir = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    let (mut watcher, _woken) = watcher();
    watcher.watch_only([dir.path().to_owned()].into_iter());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let mut file = fs::File::create(dir.path().join(name)).unwrap();
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    file.write_all(b"x").unwrap();
                }
            });
        }
        let mut slowest = Duration::ZERO;
        for round in 0..50 {
            let start = Instant::now();
            watcher.watch_only([dir.path(), other.path()].into_iter().take(1 + round % 2).map(Path::to_owned));
            slowest = slowest.max(start.elapsed());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        eprintln!("slowest: {slowest:?}");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    });
}
