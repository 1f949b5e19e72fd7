//! What packages hold, as it lies in the repository: the unit, the configuration, the scripts. What becomes of it on a machine is in `install.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::agent::ask;
use crate::harness::temp_dir;

/// A path of the repository.
fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn analyze(args: &[&str], files: &[&Path]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        Command::new("systemd-analyze").args(args).args(files).output().expect("systemd-analyze: Debian package systemd");
    (status.success(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
}

/// The value of a directive of the unit.
fn directive(unit: &str, name: &str) -> String {
    let line = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {name}")).to_owned()
}

#[test]
fn the_units_are_without_mistakes_and_the_service_is_in_a_sandbox() {
    let dir = temp_dir("units");
    let [service, socket] = ["logferry.service", "logferry.socket"].map(|name| dir.path().join(name));
    let unit = fs::read_to_string(path("systemd/logferry.service")).unwrap();
    // What it starts has to be there.
    assert_eq!(directive(&unit, "ExecStart"), "/usr/bin/logferry run");
    fs::write(&service, unit.replace("/usr/bin/logferry", env!("CARGO_BIN_EXE_logferry"))).unwrap();
    fs::copy(path("systemd/logferry.socket"), &socket).unwrap();
    assert_eq!(analyze(&["verify", "--man=no"], &[&service, &socket]), (true, String::new()));

    let (good, said) = analyze(&["security", "--offline=yes", "--threshold=15", "--no-pager"], &[&service]);
    assert!(good, "more exposed than 1.5: {said}");
    let (good, _) = analyze(&["security", "--offline=yes", "--threshold=1", "--no-pager"], &[&service]);
    assert!(!good, "systemd-analyze does not judge");
}

#[test]
fn systemd_waits_for_longer_than_a_stop_takes() {
    let unit = fs::read_to_string(path("systemd/logferry.service")).unwrap();
    let example = fs::read_to_string(path("config.example.toml")).unwrap();
    let seconds = |text: &str| text.trim_matches('"').trim_end_matches('s').parse::<u64>().unwrap();
    let stop = example.lines().find_map(|line| line.strip_prefix("stop_timeout = ")).unwrap();
    // After its end the last threads and the last snapshot have a few seconds.
    assert!(seconds(&directive(&unit, "TimeoutStopSec")) >= seconds(stop) + 10);
}

#[test]
fn the_packaged_configuration_asks_for_the_address_and_is_good_with_it() {
    let dir = temp_dir("config");
    let config = dir.path().join("config.toml");
    let packaged = fs::read_to_string(path("packaging/config.toml")).unwrap();
    fs::write(&config, &packaged).unwrap();
    for command in ["check", "run"] {
        let said = ask(&config, &[command]);
        assert_eq!(said.code, Some(78), "{}", said.text);
        assert!(said.text.contains("kafka.bootstrap_servers: not set; write"), "{}", said.text);
    }
    let filled = packaged.replace("# bootstrap_servers", "bootstrap_servers");
    assert_ne!(filled, packaged);
    fs::write(&config, &filled).unwrap();
    let said = ask(&config, &["check"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert!(said.text.contains("configuration is good: 1 source, topic logs"), "{}", said.text);
    // What is commented out is good as well.
    let whole = filled.lines().map(|line| match line.strip_prefix("# ") {
        Some(text) if text.starts_with("[[") || text.contains(" = ") => text,
        _ => line,
    });
    fs::write(&config, whole.collect::<Vec<_>>().join("\n")).unwrap();
    let said = ask(&config, &["check"]);
    assert!(said.text.contains("configuration is good: 3 sources"), "{}", said.text);
}

#[test]
fn the_user_of_both_packages_is_the_same() {
    let line = fs::read_to_string(path("packaging/sysusers.conf")).unwrap().lines().last().unwrap().to_owned();
    assert!(
        fs::read_to_string(path("packaging/rpm/pre.sh")).unwrap().contains(&line),
        "packaging/rpm/pre.sh makes another user than {line:?}"
    );
}
