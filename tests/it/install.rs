//! The packages on machines: Debian 12 and 13 boot in containers, and logferry is installed, configured, killed, upgraded under load, stopped and
//! removed, with a broker that asks for TLS and a password. By `make test-install`, which makes the packages: the same sources twice, the first one
//! with a lower version.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::books::Status;
use crate::harness::broker::Broker;
use crate::harness::container::Container;
use crate::harness::{soaking, wait_until};
use crate::site::{Site, package};
use crate::tls::secure;

const SOON: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(180);

/// Installed, nothing runs; without an address it ends with 78, says why, and is not tried again.
fn install(site: &Site) {
    let said = site.run(&["dpkg", "--install", "/root/previous.deb"]);
    assert!(said.contains("fill in Kafka's address in /etc/logferry/config.toml"), "{said}");
    assert_eq!((site.show("ActiveState"), site.show("UnitFileState")), ("inactive".into(), "disabled".into()));
    let modes = site.run(&[
        "stat",
        "--format=%n %a %U:%G",
        "/etc/logferry",
        "/etc/logferry/config.toml",
        "/etc/logferry/conf.d",
        "/var/lib/logferry",
    ]);
    assert_eq!(
        modes,
        "/etc/logferry 750 root:logferry\n/etc/logferry/config.toml 640 root:logferry\n/etc/logferry/conf.d 750 root:logferry\n/var/lib/logferry 700 logferry:logferry\n"
    );
    assert!(!site.container.run(&["systemctl", "start", "logferry"]).status.success());
    assert_eq!((site.show("ExecMainStatus"), site.show("NRestarts")), ("78".into(), "0".into()));
    assert_eq!(site.show("ActiveState"), "failed");
    let log = site.run(&["journalctl", "--unit=logferry", "--output=cat"]);
    assert!(log.contains("kafka.bootstrap_servers: not set; write"), "{log}");
}

/// Ready means that the syslog port is open, and the sandbox is what the unit says.
fn start(site: &Site) {
    let check =
        ["systemd-run", "--quiet", "--pipe", "--wait", "--property=User=logferry", "--property=SupplementaryGroups=adm systemd-journal"];
    let check = [&check[..], &["--property=LoadCredential=kafka:/etc/logferry/password", "logferry", "check", "--connect"]].concat();
    let said = site.run(&check);
    assert!(said.contains("configuration is good: 3 sources"), "{said}");
    site.run(&["systemctl", "reset-failed", "logferry"]);
    site.run(&["systemctl", "enable", "--now", "logferry"]);
    assert_eq!(site.show("ActiveState"), "active");
    drop(TcpStream::connect(("127.0.0.1", site.port)).expect("the port is open when systemctl comes back"));
    let status = site.run(&["cat", &format!("/proc/{}/status", site.show("MainPID"))]);
    // CAP_NET_BIND_SERVICE alone.
    for line in ["CapEff:\t0000000000000400", "CapBnd:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    let limits = site.run(&["cat", &format!("/proc/{}/limits", site.show("MainPID"))]);
    let limit = |name: &str| limits.lines().find_map(|line| Some(line.strip_prefix(name)?.split_whitespace().next()?.to_owned()));
    assert_eq!(limit("Max core file size").as_deref(), Some("0"), "{limits}");
    wait_until("a line for systemctl status", SOON, || site.show("StatusText").contains("delivered"));
}

/// Removed, its state and its configuration stay; purged, they are gone.
fn remove(site: &Site) {
    let there = |path: &str| site.container.run(&["test", "-e", path]).status.success();
    site.run(&["systemctl", "stop", "logferry.socket", "logferry.service"]);
    assert_eq!((site.show("ActiveState"), site.show("Result")), ("inactive".into(), "success".into()));
    site.run(&["systemctl", "start", "logferry.service"]);
    site.run(&["dpkg", "--remove", "logferry"]);
    assert!(!there("/usr/bin/logferry") && !there("/etc/systemd/system/multi-user.target.wants/logferry.service"));
    assert!(!site.container.run(&["pidof", "logferry"]).status.success());
    assert!(there("/var/lib/logferry/state.redb") && there("/etc/logferry/config.toml"));
    site.run(&["dpkg", "--purge", "logferry"]);
    assert!(!there("/var/lib/logferry") && !there("/etc/logferry"));
}

#[test]
#[ignore = "needs packages and systems that boot: make test-install"]
fn installed_killed_upgraded_under_load_and_removed_nothing_is_lost() {
    for suite in ["bookworm", "trixie"] {
        let mut site = Site::boot(suite, "install", &secure().0);
        install(&site);
        site.configure(&["udp", "tcp"].map(|transport| format!("{transport}://127.0.0.1:{}", site.port)));
        start(&site);
        let load = site.load();
        site.send_tcp("tcp:before", 5_000);
        site.send_udp("udp:before");
        site.assert_syslog_is_there();

        site.run(&["systemctl", "kill", "--signal=KILL", "logferry"]);
        site.wait_for_restarts("1");
        site.send_tcp("tcp:killed", 5_000);
        site.assert_syslog_is_there();

        let before = site.show("MainPID");
        let config = fs::read(site.container.path("etc/logferry/config.toml")).unwrap();
        site.run(&["dpkg", "--install", "/root/current.deb"]);
        assert_eq!(site.show("ActiveState"), "active");
        let now = site.show("MainPID");
        assert_ne!(now, before, "the new binary runs");
        assert_eq!(site.run(&["readlink", &format!("/proc/{now}/exe")]), "/usr/bin/logferry\n");
        assert_eq!(fs::read(site.container.path("etc/logferry/config.toml")).unwrap(), config);
        site.send_udp("udp:upgraded");

        // Sockets of systemd's: what comes while logferry is dead is there when it is back.
        site.configure(&["systemd://syslog".to_owned()]);
        site.listen_elsewhere();
        site.run(&["systemctl", "stop", "logferry"]);
        site.run(&["systemctl", "enable", "--now", "logferry.socket"]);
        site.run(&["systemctl", "start", "logferry"]);
        site.run(&["systemctl", "kill", "--signal=KILL", "logferry"]);
        site.send_tcp("tcp:dead", 100);
        site.send_udp("udp:dead");
        wait_until("systemd to restart it", SOON, || site.show("ActiveState") == "active");

        site.assert_nothing_is_lost(load);
        let status = Status::parse(&site.run(&["logferry", "status", "--json"])).unwrap();
        assert!(status.running());
        status.assert_balanced();
        remove(&site);
        site.container.shut_down();
    }
}

/// Stops one thread as a debugger does, in the middle of its rest: for a thread that works it is not known whether it goes on.
const STOP_THREAD: &str = r#"
my ($ptrace, $futex) = `uname -m` =~ /x86_64/ ? (101, 202) : (117, 98);
my ($seize, $interrupt, $cont) = (0x4206, 0x4207, 7);
my ($tid) = grep { open my $comm, "<", "/proc/$ARGV[0]/task/$_/comm"; index(<$comm>, $ARGV[1]) == 0 } map { m{(\d+)\z}; $1 + 0 } glob "/proc/$ARGV[0]/task/*";
$tid && syscall($ptrace, $seize, $tid, 0, 0) == 0 or die "there is no thread $ARGV[1]";
for (1 .. 1000) {
    syscall($ptrace, $interrupt, $tid, 0, 0);
    select undef, undef, undef, 0.1;
    open my $call, "<", "/proc/$ARGV[0]/task/$tid/syscall";
    # Until it has ended, and is taken notice of: it can't go before.
    if (<$call> =~ /^$futex / || $ARGV[0] == $tid) { 1 while waitpid($tid, 0x40000000) > 0; exit }
    waitpid $tid, 0x40000000;
    syscall($ptrace, $cont, $tid, 0, 0);
    select undef, undef, undef, 0.01;
}
"#;

#[test]
#[ignore = "needs packages and systems that boot: make test-install"]
fn the_watchdog_notices_a_thread_that_is_stopped_and_no_broker_that_is_frozen() {
    const WATCHDOG: Duration = Duration::from_secs(20);
    let broker = Broker::start();
    let site = Site::boot("bookworm", "watchdog", &broker);
    site.run(&["dpkg", "--install", "/root/current.deb"]);
    site.configure(&["unixgram:///run/logferry/log".to_owned()]);
    fs::write(site.container.path("etc/systemd/system/logferry.service.d/watchdog.conf"), "[Service]\nWatchdogSec=20s\n").expect("write");
    site.run(&["systemctl", "daemon-reload"]);
    site.run(&["systemctl", "start", "logferry"]);
    let load = site.load();
    let arrives = |more: u64| {
        let before = broker.count(&site.topics["app"]);
        wait_until("lines to arrive", SOON, || broker.count(&site.topics["app"]) > before + more);
    };
    arrives(1_000);

    let java = Pid::from_raw(i32::try_from(broker.process_id()).unwrap()).unwrap();
    let frozen = if soaking() { Duration::from_secs(600) } else { WATCHDOG * 4 };
    kill_process(java, Signal::STOP).unwrap();
    thread::sleep(frozen);
    kill_process(java, Signal::CONT).unwrap();
    arrives(1_000);
    assert_eq!(site.show("NRestarts"), "0", "a broker that was frozen for {frozen:?} has tripped the watchdog");

    let lane = format!("lane {}", site.topics["app"]);
    for (restarts, stopped) in ["1", "2", "3"].iter().zip([&lane[..15], "source app", "logferry"]) {
        let pid = site.show("MainPID");
        site.run(&["systemd-run", "--collect", "perl", "-e", STOP_THREAD, &pid, stopped]);
        wait_until(&format!("the watchdog to notice that {stopped} stands still"), LATE, || site.show("NRestarts") == *restarts);
        let log = site.run(&["journalctl", "--unit=logferry", "--output=cat"]);
        assert_eq!(log.matches("Watchdog timeout").count().to_string(), *restarts, "{log}");
        site.wait_for_restarts(restarts);
        arrives(1_000);
    }
    site.assert_nothing_is_lost(load);
}

#[test]
#[ignore = "needs packages and a system: make test-install"]
fn the_rpm_holds_the_same_and_installs_into_a_root() {
    let (rpm, system) = (package("packages", ".rpm"), Container::of("bookworm"));
    let root = system.path("");
    let ask = |args: &[&str]| {
        // Scripts of packages want /proc.
        let mut rpm = Command::new("unshare");
        rpm.args(["--mount", "sh", "-c", "mount -t proc proc \"$0/proc\" && exec rpm --root \"$0\" \"$@\""]).arg(&root).args(args);
        let output = rpm.output().expect("rpm: Debian package rpm");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        said
    };
    let outside = rpm.to_str().unwrap();
    let listed = |args: &[&str]| {
        let output = Command::new("rpm").args(args).arg(outside).output().expect("rpm");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for kind in ["preinstall", "postinstall", "preuninstall", "postuninstall"] {
        assert!(listed(&["--query", "--scripts", "--package"]).contains(kind), "it has no {kind} script");
    }
    assert!(listed(&["--query", "--configfiles", "--package"]).contains("/etc/logferry/config.toml"));
    let rpm_files = listed(&["--query", "--list", "--package"]);
    let deb = Command::new("dpkg-deb").arg("--contents").arg(package("packages", ".deb")).output().expect("dpkg-deb");
    for line in String::from_utf8_lossy(&deb.stdout).lines().filter(|line| !line.starts_with('d')) {
        let path = line.split_whitespace().nth(5).unwrap().trim_start_matches('.');
        let elsewhere = path.contains("/doc/logferry/copyright")
            || path.contains("/doc/logferry/LICENSE")
            || path.contains("/zsh/")
            || path.contains("changelog");
        assert!(elsewhere || rpm_files.lines().any(|found| found == path), "{path} of the .deb is not in the .rpm: {rpm_files}");
    }

    // Debian's database of packages knows nothing of RPM's names.
    ask(&["--install", "--nodeps", outside]);
    let config = fs::metadata(root.join("etc/logferry/config.toml")).unwrap();
    assert_eq!((config.mode() & 0o777, config.uid()), (0o640, 0));
    assert_ne!(config.gid(), 0);
    assert_eq!(fs::metadata(root.join("etc/logferry")).unwrap().gid(), config.gid());
    let version = Command::new("chroot").arg(&root).args(["/usr/bin/logferry", "--version"]).output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("logferry "));
    assert_eq!(ask(&["--verify", "--nodeps", "logferry"]), "");
    fs::write(root.join("var/lib/logferry/state.redb"), "").unwrap();
    ask(&["--erase", "logferry"]);
    assert!(!root.join("usr/bin/logferry").exists() && root.join("var/lib/logferry/state.redb").exists());
}

#[test]
#[ignore = "needs packages: make test-install"]
fn the_packaged_binary_tells_what_it_is_made_of_and_needs_the_c_library_alone() {
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages/logferry");
    let dir = crate::harness::temp_dir("sbom");
    let section = dir.path().join("section");
    let mut copy = Command::new("objcopy");
    copy.args(["--output-target=binary", "--only-section=.dep-v0", "--set-section-flags=.dep-v0=alloc"]).arg(&binary).arg(&section);
    assert!(copy.status().expect("objcopy: Debian package binutils").success());
    let mut list = String::new();
    flate2::read::ZlibDecoder::new(fs::File::open(section).unwrap()).read_to_string(&mut list).expect("a list of crates");
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let names: Vec<&str> = list["packages"].as_array().unwrap().iter().filter_map(|package| package["name"].as_str()).collect();
    assert!(["logferry", "rdkafka-sys", "openssl-src", "tokio"].iter().all(|name| names.contains(name)), "{names:?}");

    let needs = Command::new("objdump").arg("--private-headers").arg(&binary).output().expect("objdump");
    let needs = String::from_utf8_lossy(&needs.stdout).into_owned();
    let libraries: Vec<&str> = needs.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim).collect();
    let known = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
    assert!(!libraries.is_empty() && libraries.iter().all(|library| known.contains(library)), "{libraries:?}");
}
