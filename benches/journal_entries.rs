//! Makes the journal that is read: entries as services, syslog and the kernel write them, with the fields that journald adds, the same ones each
//! time: on average 22 fields and 760 bytes of them. `systemd-journal-remote` makes files of them, which it rotates by itself.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const MACHINE: &str = "3d1219c7c4c5404aaa1f6d2a48adfda4";
const BOOT: &str = "5b1f0c2e9a4d4d6c8e7f3a2b1c0d9e8f";
/// Where time begins, microseconds since 1970, and since the boot.
const BEGIN: (u64, u64) = (1_764_000_000_000_000, 20_000_000);

struct Service {
    unit: &'static str,
    comm: &'static str,
    exe: &'static str,
    transport: &'static str,
    /// Of a hundred entries.
    share: u64,
}

const fn service(unit: &'static str, comm: &'static str, exe: &'static str, transport: &'static str, share: u64) -> Service {
    Service { unit, comm, exe, transport, share }
}

const SERVICES: [Service; 9] = [
    service("nginx.service", "nginx", "/usr/sbin/nginx", "syslog", 17),
    service("api-gateway.service", "api-gateway", "/opt/api/bin/api-gateway", "stdout", 28),
    service("postgresql@15-main.service", "postgres", "/usr/lib/postgresql/15/bin/postgres", "stdout", 8),
    service("ssh.service", "sshd", "/usr/sbin/sshd", "syslog", 6),
    service("cron.service", "cron", "/usr/sbin/cron", "syslog", 4),
    service("docker.service", "dockerd", "/usr/bin/dockerd", "journal", 12),
    service("kubelet.service", "kubelet", "/usr/bin/kubelet", "stdout", 14),
    service("edge-worker@3.service", "python3", "/usr/bin/python3.11", "stdout", 8),
    service("kernel", "", "", "kernel", 3),
];

/// Writes a journal of so many entries into the folder.
pub fn write(dir: &Path, entries: u64) -> io::Result<()> {
    let mut remote = Command::new("/lib/systemd/systemd-journal-remote");
    let mut remote = remote.arg("-o").arg(dir.join("system.journal")).arg("-").stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let pipe = remote.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let mut out = BufWriter::with_capacity(1 << 20, pipe);
    let (mut random, mut time, mut entry) = (Random(0x9E37_79B9_7F4A_7C15), 0, String::new());
    for _ in 0..entries {
        time += random.below(10_000) + 1;
        entry.clear();
        let mut field = |name: &str, value: &str| entry.extend([name, "=", value, "\n"]);
        field("__REALTIME_TIMESTAMP", &(BEGIN.0 + time).to_string());
        field("__MONOTONIC_TIMESTAMP", &(BEGIN.1 + time).to_string());
        fields(&mut random, time, &mut field);
        entry.push('\n');
        out.write_all(entry.as_bytes())?;
    }
    out.into_inner()?;
    let status = remote.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("systemd-journal-remote: {status}"))) }
}

fn fields(random: &mut Random, time: u64, field: &mut impl FnMut(&str, &str)) {
    let mut lot = random.below(100);
    let chosen = SERVICES.iter().find(|service| {
        let chosen = lot < service.share;
        lot = lot.saturating_sub(service.share);
        chosen
    });
    let service = chosen.unwrap_or(&SERVICES[0]);
    field("_BOOT_ID", BOOT);
    field("_MACHINE_ID", MACHINE);
    field("_HOSTNAME", "edge-0042");
    field("_TRANSPORT", service.transport);
    field("MESSAGE", &message(random, service));
    if service.transport == "kernel" {
        field("SYSLOG_FACILITY", "0");
        field("SYSLOG_IDENTIFIER", "kernel");
        field("_SOURCE_MONOTONIC_TIMESTAMP", &(BEGIN.1 + time - 30).to_string());
        field("PRIORITY", random.one_of(&["4", "5", "6"]));
        return;
    }
    let own = service.unit.bytes().fold(7, |sum: u64, byte| sum * 31 % 3_999_971 + u64::from(byte));
    // Sessions have a process each, servers one for long.
    let generation = if matches!(service.comm, "sshd" | "cron") { time / 50_000 } else { time / 600_000_000 };
    let pid = (300 + (own + generation * 7) % 3_999_000).to_string();
    field("PRIORITY", random.one_of(&["6", "6", "6", "6", "6", "6", "6", "3"]));
    field("SYSLOG_IDENTIFIER", service.comm);
    by_transport(random, service, (time, own, &pid), field);
    let (uid, capabilities) = if service.comm == "api-gateway" { ("998", "0") } else { ("0", "1ffffffffff") };
    let slice = if service.unit.contains('@') { "system-instances.slice" } else { "system.slice" };
    field("_PID", &pid);
    field("_UID", uid);
    field("_GID", uid);
    field("_COMM", service.comm);
    field("_EXE", service.exe);
    field("_CMDLINE", &format!("{} --config /etc/{}/config.yaml --log-level info", service.exe, service.comm));
    field("_CAP_EFFECTIVE", capabilities);
    field("_SELINUX_CONTEXT", "unconfined");
    field("_SYSTEMD_CGROUP", &format!("/{slice}/{}", service.unit));
    field("_SYSTEMD_UNIT", service.unit);
    field("_SYSTEMD_SLICE", slice);
    field("_SYSTEMD_INVOCATION_ID", &format!("{:032x}", u128::from(own) << 64 | 0x1234_5678_9abc));
    field("_RUNTIME_SCOPE", "system");
}

fn by_transport(random: &mut Random, service: &Service, (time, own, pid): (u64, u64, &str), field: &mut impl FnMut(&str, &str)) {
    match service.transport {
        "stdout" => {
            field("SYSLOG_FACILITY", "3");
            field("_STREAM_ID", &format!("{:032x}", u128::from(own) * 0x9E37_79B9_7F4A_7C15));
        }
        "syslog" => {
            let (hour, minute, second) = (time / 3_600_000_000 % 24, time / 60_000_000 % 60, time / 1_000_000 % 60);
            field("SYSLOG_FACILITY", "4");
            field("SYSLOG_PID", pid);
            field("SYSLOG_TIMESTAMP", &format!("Nov 24 {hour:02}:{minute:02}:{second:02} "));
            field("_SOURCE_REALTIME_TIMESTAMP", &(BEGIN.0 + time - 40).to_string());
        }
        _ => {
            field("CODE_FILE", "daemon/logs.go");
            field("CODE_LINE", random.one_of(&["417", "612", "933"]));
            field("CODE_FUNC", "handleLog");
            field("CONTAINER_ID", &format!("{:012x}", own * 7919));
            field("CONTAINER_NAME", &format!("app-{}", random.below(12)));
            field("_SOURCE_REALTIME_TIMESTAMP", &(BEGIN.0 + time - 25).to_string());
        }
    }
}

fn message(random: &mut Random, service: &Service) -> String {
    let [a, b, c] = [random.below(256), random.below(60_000), random.below(1 << 30)];
    let path = random.one_of(&["/api/v1/users", "/api/v1/orders", "/healthz", "/login", "/static/app.js", "/api/v2/search"]);
    let status = random.one_of(&["200", "200", "200", "304", "404", "500"]);
    match service.comm {
        "nginx" => format!(
            "10.1.2.{a} - - \"GET {path}?id={c} HTTP/1.1\" {status} {b} \"-\" \"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\" rt=0.{a:03}"
        ),
        "api-gateway" => format!(
            "{{\"level\":\"info\",\"ts\":\"1764000000.{c:06}\",\"msg\":\"request served\",\"trace_id\":\"{:032x}\",\"path\":\"{path}\",\"status\":{status},\"dur_ms\":{a}.21,\"tenant\":\"t-{}\"}}",
            u128::from(c) * 0x9E37_79B9_7F4A_7C15_F39C,
            b % 50
        ),
        "kubelet" => format!(
            "I1123 04:12:33.{c:06}     812 reconciler.go:{a}] \"operationExecutor.VerifyControllerAttachedVolume started for volume\" volume=\"kube-api-access-{b:05x}\" pod=\"prod/worker-{}\"",
            a % 40
        ),
        "cron" => "pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)".to_owned(),
        "sshd" => format!("Accepted publickey for deploy from 10.1.{a}.7 port {b} ssh2: ED25519 SHA256:{:016x}", a % 30),
        "" => random
            .one_of(&[
                "eth0: Link is Up - 1Gbps/Full - flow control rx/tx",
                "TCP: request_sock_TCP: Possible SYN flooding on port 443. Sending cookies.",
            ])
            .to_owned(),
        comm => format!("{comm}[{}]: worker {} processed batch {c} in {} ms (queue depth {a})", c % 70, a % 8, b % 900),
    }
}

/// Marsaglia's xorshift: good enough to look unalike, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }
}
