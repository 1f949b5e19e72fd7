//! How fast it is and what it takes; measured by hand: `cargo test --release --lib spill::tests::speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::super::Loaded;
use super::rig::{Line, Maker, Rig, piece};
use crate::batch::Batch;

/// Batches of about 1 MiB of lines as nginx writes them, 177 bytes on average.
fn batches(count: usize) -> Vec<Batch> {
    let mut maker = Maker::new(1, "nginx", 0);
    let mut noise = 1_u64;
    let mut next = |below: u64| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) % below
    };
    let paths = ["/", "/index.html", "/api/v1/orders", "/api/v1/users", "/static/app.js", "/static/style.css", "/login", "/healthz"];
    let agents = [
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
        "curl/8.5.0",
        "Go-http-client/2.0",
    ];
    (0..count)
        .map(|round| {
            let lines: Vec<Line> = (0..5924)
                .map(|i| {
                    let (a, b, status, size) = (next(256), next(256), [200, 200, 200, 304, 404][usize::try_from(next(5)).unwrap()], next(100_000));
                    let path = paths[usize::try_from(next(8)).unwrap()];
                    let agent = agents[usize::try_from(next(5).min(2)).unwrap()];
                    let second = (round * 5924 + i) / 2000;
                    let line = format!(
                        "10.{a}.{b}.{} - - [24/Nov/2026:10:{:02}:{:02} +0000] \"GET {path}?id={} HTTP/1.1\" {status} {size} \"https://example.com{path}\" \"{agent}\" 0.{:03}",
                        next(256),
                        second / 60 % 60,
                        second % 60,
                        next(1_000_000),
                        next(1000)
                    );
                    (line.into_bytes(), None, false)
                })
                .collect();
            maker.batch(&lines)
        })
        .collect()
}

/// The processor time of this thread: others may use the machine.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::cast_precision_loss, clippy::print_stdout, reason = "for people to read")]
fn append_and_read() {
    let batches = batches(64);
    for round in 0..3 {
        let rig = Rig::real();
        let (mut spill, _) = rig.open(None);
        let (mut bytes, mut events, mut syncing) = (0, 0, Duration::ZERO);
        let (begin, cpu_begin) = (Instant::now(), cpu());
        for _ in 0..8 {
            for batch in &batches {
                spill.append(&[piece(batch)]).unwrap();
                bytes += u64::from(batch.events.last().unwrap().to);
                events += batch.events.len();
                if spill.unsynced_bytes() > 1 << 20 {
                    let begin = Instant::now();
                    spill.sync().unwrap();
                    syncing += begin.elapsed();
                }
            }
        }
        spill.sync().unwrap();
        let (took, work) = (begin.elapsed(), cpu().saturating_sub(cpu_begin));
        let row = spill.row();
        println!("round {round}: {events} events of {} bytes on average, {} MB", bytes / events as u64, bytes / 1_000_000);
        println!("  append {:.0} MB/s, with sync {:.0} MB/s", rate(bytes, took.saturating_sub(syncing)), rate(bytes, took));
        println!("  append and sync {:.0} MB per second of processor time", rate(bytes, work));
        println!("  written {:.3} bytes per log byte", spill.bytes() as f64 / bytes as f64);
        let (begin, cpu_begin) = (Instant::now(), cpu());
        let mut read = 0;
        while let Loaded::Record(all) = spill.read(&rig.budget).unwrap() {
            for (batch, _) in all {
                read += u64::from(batch.events.last().unwrap().to);
                spill.acknowledged(&batch, batch.events.len());
            }
        }
        let work = cpu().saturating_sub(cpu_begin);
        println!("  read {:.0} MB/s, {:.0} MB per second of processor time", rate(read, begin.elapsed()), rate(read, work));
        assert_eq!(read, bytes);
        drop(spill);
        let begin = Instant::now();
        let (spill, _) = rig.open(Some(&row));
        println!("  open {:?} for {} records of {} MB", begin.elapsed(), spill.records(), spill.bytes() / 1_000_000);
    }
}
