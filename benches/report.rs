//! The results as tables, on the terminal and between marker lines of docs/performance.md, a section for each benchmark.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What one contestant needed for one file.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// From the start of the process to the moment when the last line is in the topic.
    pub wall: Duration,
    /// User and system time of the process, its whole life long.
    pub cpu: Duration,
    /// The most resident memory it had, bytes.
    pub peak_rss: u64,
}

/// What a contestant costs that has nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Of one core, per cent.
    pub cpu_percent: f64,
    /// Resident memory at the end, bytes.
    pub rss: u64,
}

/// A row's medians.
struct Row {
    name: String,
    rate: f64,
    cpu_per_line: f64,
    peak_rss: f64,
}

/// The table of throughput: medians, and the ratios to rsyslog and to the bare loop with the short queue.
pub fn throughput(lines: u64, results: &[(String, Vec<Run>)]) -> String {
    let lines = lines as f64;
    let rows: Vec<Row> = results
        .iter()
        .filter(|(_, runs)| !runs.is_empty())
        .map(|(name, runs)| Row {
            name: name.clone(),
            rate: median(runs, |run| lines / run.wall.as_secs_f64()),
            cpu_per_line: median(runs, |run| run.cpu.as_secs_f64() * 1e6 / lines),
            peak_rss: median(runs, |run| run.peak_rss as f64 / 1e6),
        })
        .collect();
    let find = |name: &str| rows.iter().find(|row| row.name.starts_with(name));
    let ratio = |of: f64, to: Option<f64>| to.map_or_else(|| "–".to_owned(), |to| format!("{:.2}", of / to));
    let mut table = "| who | lines/s | CPU µs/line | peak RSS | lines/s to rsyslog | CPU to rsyslog | lines/s to bare loop |\n".to_owned();
    table += "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n";
    for row in &rows {
        let (rsyslog, bare) = (find("rsyslog"), find("bare loop"));
        let _ = writeln!(
            table,
            "| {} | {} | {:.2} | {:.0} MB | {} | {} | {} |",
            row.name,
            thousands(row.rate),
            row.cpu_per_line,
            row.peak_rss,
            ratio(row.rate, rsyslog.map(|row| row.rate)),
            ratio(row.cpu_per_line, rsyslog.map(|row| row.cpu_per_line)),
            ratio(row.rate, bare.map(|row| row.rate)),
        );
    }
    table
}

/// The table of idling; who failed is left out.
pub fn idle(results: &[(String, Option<Idle>)]) -> String {
    let mut table = "| who | CPU, % of a core | RSS |\n| --- | ---: | ---: |\n".to_owned();
    for (name, idle) in results.iter().filter_map(|(name, idle)| Some((name, (*idle)?))) {
        let _ = writeln!(table, "| {name} | {:.2} | {:.0} MB |", idle.cpu_percent, idle.rss as f64 / 1e6);
    }
    table
}

/// Where and when this was measured.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned()).unwrap_or_default()
    };
    let memory: f64 = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    let rsyslog = Command::new("/usr/sbin/rsyslogd").arg("-v").output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let rsyslog = rsyslog.ok().and_then(|text| text.split_whitespace().nth(1).map(str::to_owned));
    format!(
        "{} · {} cores ({}), {:.0} GB of memory, Linux {} · Apache Kafka 4.1.0 on the same machine, librdkafka {}, rsyslog {}",
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        std::thread::available_parallelism().map_or(0, usize::from),
        field(&read("/proc/cpuinfo"), "model name"),
        memory / 1e6,
        read("/proc/sys/kernel/osrelease").trim(),
        rdkafka::util::get_rdkafka_version().1,
        rsyslog.as_deref().unwrap_or("–").trim_end_matches(','),
    )
}

/// Puts `text` between the marker lines of `section` in `file`; both are made if they do not exist.
#[expect(clippy::disallowed_methods, reason = "a document, not state: nobody's data is at stake")]
pub fn write(file: &Path, section: &str, text: &str) -> io::Result<()> {
    let [begin, end] = ["begin", "end"].map(|place| format!("<!-- written by make bench, {section}: {place} -->"));
    let mut old = fs::read_to_string(file).unwrap_or_else(|_| "# Performance\n".to_owned());
    if !old.contains(&begin) {
        let _ = write!(old, "\n## {section}\n\n{begin}\n{end}\n");
    }
    let lacks = |marker: &str| io::Error::other(format!("{} lacks the line {marker}", file.display()));
    let (before, rest) = old.split_once(&begin).ok_or_else(|| lacks(&begin))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| lacks(&end))?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = file.with_extension("md.new");
    fs::write(&new, format!("{before}{begin}\n{text}{end}{after}"))?;
    fs::rename(new, file)
}

/// A rate as it is read: whole thousands, grouped.
pub fn thousands(rate: f64) -> String {
    let text = format!("{:.0}000", rate / 1000.0);
    let first = text.len() % 3;
    let groups = text.as_bytes()[first..].chunks(3).map(String::from_utf8_lossy);
    let head = text[..first].to_owned();
    groups.fold(head, |all, group| if all.is_empty() { group.into_owned() } else { format!("{all},{group}") })
}

/// The median of a figure.
pub fn median<R>(runs: &[R], of: impl Fn(&R) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}
