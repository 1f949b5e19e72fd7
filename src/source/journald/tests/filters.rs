//! Filters mean what those of journalctl mean: the same entries of the same journal.

use super::super::filter::Kernel;
use super::export::Writer;
use super::*;

/// Entries of services, of others about them, of the kernel, of every priority.
fn written(rig: &Rig) {
    let mut writer = Writer::default();
    let of = |writer: &mut Writer, fields: &[(&str, &str)]| {
        let message = format!("message {} of many", writer.number + 1);
        let mut all = vec![("MESSAGE", message.as_bytes())];
        all.extend(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        writer.entry(&all);
    };
    for round in 0..40 {
        let priority = (round % 8).to_string();
        for unit in ["ssh.service", "nginx.service", "nginx@1.service", "ssh.socket", "app.slice"] {
            of(
                &mut writer,
                &[("_SYSTEMD_UNIT", unit), ("PRIORITY", &priority), ("SYSLOG_IDENTIFIER", unit.split('.').next().unwrap()), ("_UID", "33")],
            );
        }
        of(&mut writer, &[("UNIT", "ssh.service"), ("_PID", "1"), ("_SYSTEMD_UNIT", "init.scope"), ("PRIORITY", &priority)]);
        of(&mut writer, &[("UNIT", "ssh.service"), ("_PID", "77"), ("PRIORITY", &priority)]);
        of(&mut writer, &[("COREDUMP_UNIT", "ssh.service"), ("_UID", "0"), ("MESSAGE_ID", "fc2e22bc6ee647b6b90729ab34a250b1")]);
        of(&mut writer, &[("COREDUMP_UNIT", "ssh.service"), ("_UID", "5"), ("MESSAGE_ID", "fc2e22bc6ee647b6b90729ab34a250b1")]);
        of(&mut writer, &[("OBJECT_SYSTEMD_UNIT", "nginx.service"), ("_UID", "0"), ("PRIORITY", &priority)]);
        of(&mut writer, &[("_SYSTEMD_SLICE", "app.slice"), ("_SYSTEMD_UNIT", "in-a-slice.service"), ("PRIORITY", &priority)]);
        of(&mut writer, &[("_TRANSPORT", "kernel"), ("SYSLOG_IDENTIFIER", "kernel"), ("PRIORITY", &priority)]);
        of(&mut writer, &[("_TRANSPORT", "audit"), ("_UID", "33"), ("_UID", "34")]);
        of(&mut writer, &[("_TRANSPORT", "audit"), ("_UID", "0")]);
    }
    writer.write(&rig.path("system.journal"), &[]);
}

#[test]
fn every_filter_shows_what_journalctl_shows() {
    let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let pairs = |texts: &[&str]| {
        texts.iter().filter_map(|text| text.split_once('=')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect::<Vec<_>>()
    };
    let units = |names: &[&str]| Wanted { units: words(names), ..Wanted::default() };
    let cases: Vec<(Wanted, Vec<&str>)> = vec![
        (units(&["ssh"]), vec!["-u", "ssh"]),
        (units(&["ssh.service"]), vec!["-u", "ssh.service"]),
        (units(&["nginx*"]), vec!["-u", "nginx*"]),
        (units(&["ssh", "nginx@1"]), vec!["-u", "ssh", "-u", "nginx@1"]),
        (units(&["app.slice"]), vec!["-u", "app.slice"]),
        (units(&["n?inx.service"]), vec!["-u", "n?inx.service"]),
        (Wanted { priority: Some((0, 4)), ..Wanted::default() }, vec!["-p", "warning"]),
        (Wanted { priority: Some((3, 6)), ..Wanted::default() }, vec!["-p", "err..info"]),
        (Wanted { identifiers: words(&["ssh", "kernel"]), ..Wanted::default() }, vec!["-t", "ssh", "-t", "kernel"]),
        (Wanted { matches: pairs(&["_UID=33"]), ..Wanted::default() }, vec!["_UID=33"]),
        (
            Wanted { matches: pairs(&["_UID=33", "_UID=0", "_TRANSPORT=audit"]), ..Wanted::default() },
            vec!["_UID=33", "_UID=0", "_TRANSPORT=audit"],
        ),
        (Wanted { kernel: Kernel::Only, ..Wanted::default() }, vec!["_TRANSPORT=kernel"]),
        (Wanted { priority: Some((0, 3)), identifiers: words(&["ssh"]), ..units(&["ssh"]) }, vec!["-u", "ssh", "-p", "3", "-t", "ssh"]),
        (Wanted { matches: pairs(&["_UID=33"]), ..units(&["ssh"]) }, vec!["-u", "ssh", "_UID=33"]),
    ];
    let journal = Rig::new();
    written(&journal);
    for (wanted, args) in cases {
        let mut rig = Rig::new();
        rig.settings.place = Where::Given(journal.dir.path().to_owned());
        rig.settings.wanted = wanted;
        rig.ship();
        let ours: Vec<String> = rig.events().iter().map(|event| event["cursor"].as_str().unwrap().to_owned()).collect();
        let shown = journalctl(journal.dir.path(), &args);
        let theirs: Vec<String> = shown
            .iter()
            .map(|entry| String::from_utf8(entry.iter().find(|(name, _)| name == "__CURSOR").unwrap().1.clone()).unwrap())
            .collect();
        assert_eq!(ours, theirs, "{args:?}");
        assert!(!ours.is_empty(), "{args:?}");
        rig.assert_balanced();
    }
}

#[test]
fn the_kernel_and_other_boots_can_be_left_out() {
    let mut rig = Rig::new();
    written(&rig);
    rig.settings.wanted.kernel = Kernel::Not;
    rig.ship();
    assert_eq!(rig.acked.len(), 40 * 13);
    let mut rig = Rig::new();
    let mut writer = Writer::default().boot(1);
    writer.numbered(10);
    writer = writer.boot(2);
    writer.numbered(5);
    writer.write(&rig.path("system.journal"), &[]);
    rig.settings.wanted.boot = Some(2_u128.to_be_bytes());
    rig.ship();
    assert_eq!(rig.numbers(), (11..=15).collect::<Vec<_>>());
}
