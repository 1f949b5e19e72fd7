//! From a host, made in a directory or described, to a configuration that `check` takes.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::host::{self, Host};
use super::plan::{Wishes, configuration};
use crate::config;

fn wishes() -> Wishes {
    Wishes { bootstrap_servers: Some("kafka-1:9092, kafka-2:9092".into()), topic: "logs".into() }
}

/// A host with nginx, an application that rotates by copying, and rsyslog beside the journal.
fn debian() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &[u8]| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("var/log/journal/0123/system.journal", b"LPKSHHRH\0");
    put("var/log/nginx/access.log", b"GET /\n");
    put("var/log/nginx/error.log", b"");
    put("var/log/nginx/access.log.1", b"GET /old\n");
    put("var/log/nginx/access.log.2.gz", b"\x1F\x8B\x08");
    put("var/log/app/out", b"line\n");
    put("var/log/syslog", b"Nov 27 x\n");
    put("var/log/auth.log", b"Nov 27 x\n");
    put("var/log/dpkg.log", b"2026 x\n");
    put("var/log/wtmp", b"\x07\0\0\0");
    put("var/log/odd [1]/a b.log", b"x\n");
    put(
        "etc/rsyslog.conf",
        b"# comment\nmodule(load=\"imuxsock\")\nauth,authpriv.*  /var/log/auth.log\n$IncludeConfig /etc/rsyslog.d/*.conf\n",
    );
    put(
        "etc/rsyslog.d/50-default.conf",
        b"*.*;auth,authpriv.none -/var/log/syslog\nif $x then { action(type=\"omfile\" file=\"/var/log/other.log\") }\n",
    );
    put("etc/logrotate.conf", b"weekly\ncompress\ninclude /etc/logrotate.d\n");
    put("etc/logrotate.d/nginx", b"/var/log/nginx/*.log {\n\tdaily\n\tdelaycompress\n\tpostrotate\n\t\tkill -USR1 1\n\tendscript\n}\n");
    put("etc/logrotate.d/app", b"/var/log/app/out\n{\n  copytruncate\n  nocompress\n}\n");
    root
}

#[test]
fn a_host_is_seen_and_a_configuration_for_it_is_good() {
    let root = debian();
    let host = host::look(root.path());
    assert_eq!((host.journal, host.rsyslog_listens, host.more), (Some(true), false, false));
    assert_eq!(host.rsyslog_files, ["/var/log/auth.log", "/var/log/syslog", "/var/log/other.log"].map(PathBuf::from));
    let text = configuration(&host, &wishes());
    insta::assert_snapshot!(text, @r##"
    # Written by logferry init for this host. logferry.toml(5) has every key; logferry check --connect judges this file.

    [kafka]
    bootstrap_servers = ["kafka-1:9092", "kafka-2:9092"]
    topic = "logs"

    # Services, the kernel, and what programs hand to syslog(3).
    [[source]]
    name = "journal"
    type = "journald"

    # logrotate copies and truncates: what is written between the two is lost to everybody; create instead of copytruncate loses nothing.
    [[source]]
    name = "app-out"
    type = "file"
    include = ["/var/log/app/out"]

    [[source]]
    name = "dpkg"
    type = "file"
    include = ["/var/log/dpkg.log"]

    [[source]]
    name = "nginx"
    type = "file"
    include = ["/var/log/nginx/*.log"]

    [[source]]
    name = "odd---1--"
    type = "file"
    include = ["/var/log/odd \\[1\\]/*.log"]

    # rsyslog writes these, out of what is in the journal as well: with them everything would be shipped twice.
    # [[source]]
    # name = "auth"
    # type = "file"
    # include = ["/var/log/auth.log"]
    # [[source]]
    # name = "syslog"
    # type = "file"
    # include = ["/var/log/syslog"]

    # Syslog from the network.
    # [[source]]
    # name = "net"
    # type = "syslog"
    # listen = ["udp://0.0.0.0:514", "tcp://0.0.0.0:514"]
    "##);
    let file = root.path().join("config.toml");
    fs::write(&file, format!("{text}\n[agent]\nid = \"i\"\nhost = \"h\"\nstate_dir = \"/s\"\n")).unwrap();
    let config = config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.named.len(), 5);
}

#[test]
fn without_a_journal_what_rsyslog_writes_is_shipped_and_without_an_address_it_is_to_be_filled_in() {
    let host = Host {
        logs: vec!["/var/log/syslog".into()],
        rsyslog_files: vec!["/var/log/syslog".into()],
        rsyslog_listens: true,
        ..Host::default()
    };
    let text = configuration(&host, &Wishes { bootstrap_servers: None, topic: "logs".into() });
    assert!(text.contains("\n[[source]]\nname = \"syslog\"\n") && text.contains("# There is no journal"), "{text}");
    assert!(text.contains("# bootstrap_servers = [") && text.contains("# rsyslog takes syslog from the network"), "{text}");
}

#[test]
fn nothing_at_all_is_no_reason_to_fail() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(host::look(root.path()), Host::default());
    assert!(host::look(&root.path().join("missing")).logs.is_empty());
}

#[test]
fn rsyslog_that_listens_is_noticed_in_both_forms() {
    for text in ["input(type=\"imtcp\" port=\"514\")", "$UDPServerRun 514", "  $InputTCPServerRun 10514"] {
        assert!(host::rsyslog_listens(text), "{text}");
    }
    assert!(!host::rsyslog_listens("#input(type=\"imtcp\" port=\"514\")\nmodule(load=\"imudp\")"));
}

proptest! {
    #[test]
    fn whatever_the_logs_are_called_the_configuration_is_good(names in prop::collection::btree_set("[a-zA-Z0-9 .*?\\[\\]{}\"'\\\\#-]{1,12}(/[a-z*]{1,5})?(\\.log)?", 0..8), mask in any::<u8>(), journal in any::<Option<bool>>()) {
        // What a directory has of itself is no file.
        let logs: Vec<PathBuf> = names.iter().filter(|name| name.split('/').all(|part| part != "." && part != "..")).map(|name| PathBuf::from(format!("/var/log/{name}"))).collect();
        let rsyslog_files = logs.iter().enumerate().filter(|(at, _)| mask & (1 << (at % 8)) != 0).map(|(_, log)| log.clone()).collect();
        let host = Host { logs, rsyslog_files, journal: Some(journal.unwrap_or(true)), ..Host::default() };
        let text = configuration(&host, &wishes());
        let machine = config::tests::machine();
        let head = "[agent]\nhost = \"h\"\nid = \"i\"\nstate_dir = \"/s\"\n";
        let judged = config::tests::judge(&[&format!("{head}{text}")], &machine);
        prop_assert!(judged.is_ok(), "{}\n{}", text, judged.unwrap_err());
    }
}
