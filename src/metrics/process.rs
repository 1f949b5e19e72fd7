//! What the process costs, from `/proc`, under the names that every Prometheus client gives. Reading is apart from making sense of what was read.

use rustix::process::{Resource, getrlimit};

/// What is known of the process; what the system does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Processor time, user and system, seconds.
    pub cpu_seconds: f64,
    /// When it was started, seconds since 1970.
    pub started: f64,
    /// Virtual memory, bytes.
    pub virtual_bytes: u64,
    /// Memory that is really there, bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// As many there may be; `None`: no limit.
    pub max_fds: Option<u64>,
}

impl Process {
    /// As it is now.
    #[must_use]
    pub fn now() -> Process {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        let known = Process {
            // One of them reads the directory.
            open_fds: open_fds.saturating_sub(1),
            max_fds: getrlimit(Resource::Nofile).current,
            ..Process::default()
        };
        let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
        known.with(&read("/proc/self/stat"), &read("/proc/stat"), ticks, rustix::param::page_size() as u64)
    }

    /// With what these files say (proc(5)).
    fn with(self, own: &str, system: &str, ticks: u32, page: u64) -> Process {
        // Behind the name, which may hold anything: state is field 3.
        let fields: Vec<&str> = own.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let seconds = |count: u64| precise(count) / f64::from(ticks.max(1));
        let boot = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0);
        Process {
            cpu_seconds: seconds(field(14) + field(15)),
            started: precise(boot) + seconds(field(22)),
            virtual_bytes: field(23),
            resident_bytes: field(24) * page,
            threads: field(20),
            ..self
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds and ticks, far below 2^53")]
fn precise(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_files_are_understood() {
        let own = "7 (log) ferry)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 12345 1000000 300 18446744073709551615 1";
        let process = Process::default().with(own, "cpu 1 2\nbtime 1700000000\n", 100, 4096);
        let Process { cpu_seconds, started, virtual_bytes, resident_bytes, threads, .. } = process;
        assert_eq!((cpu_seconds, started), (3.0, 1_700_000_123.45));
        assert_eq!((virtual_bytes, resident_bytes, threads), (1_000_000, 300 * 4096, 9));
        assert_eq!(Process::default().with("", "", 100, 4096), Process::default());
    }

    #[test]
    fn this_process_has_threads_files_and_memory() {
        let now = Process::now();
        assert!(now.threads > 0 && now.open_fds > 2 && now.resident_bytes > 0 && now.started > 1e9, "{now:?}");
    }
}
