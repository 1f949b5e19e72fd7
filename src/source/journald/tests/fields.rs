//! What is shipped of an entry is what journalctl shows of it: field for field, whatever the fields are and however the file is written.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::export::Writer;
use super::*;

/// All fields of a message, as the journal has them: by name the values.
fn fields_of(event: &Map<String, Value>) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let bytes = |value: &Value| match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Number(number) => number.to_string().into_bytes(),
        Value::Object(marked) => STANDARD.decode(marked["base64"].as_str().unwrap()).unwrap(),
        other => panic!("{other}"),
    };
    let exact = event.get("message_base64").map(|text| STANDARD.decode(text.as_str().unwrap()).unwrap());
    fields.insert("MESSAGE".into(), vec![exact.unwrap_or_else(|| bytes(&event["message"]))]);
    for (name, key) in [
        ("_SYSTEMD_UNIT", "unit"),
        ("SYSLOG_IDENTIFIER", "identifier"),
        ("PRIORITY", "priority"),
        ("_PID", "pid"),
        ("_UID", "uid"),
        ("_BOOT_ID", "boot_id"),
    ] {
        if let Some(value) = event.get(key) {
            fields.insert(name.into(), vec![bytes(value)]);
        }
    }
    for (name, value) in event.get("journal").and_then(Value::as_object).into_iter().flatten() {
        let all = fields.entry(name.clone()).or_default();
        match value {
            Value::Array(values) => all.extend(values.iter().map(bytes)),
            one => all.push(bytes(one)),
        }
    }
    fields
}

fn fields_in(entry: &[(String, Vec<u8>)]) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut fields: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (name, value) in entry.iter().filter(|(name, _)| !name.starts_with("__") && name != "_SOURCE_REALTIME_TIMESTAMP") {
        fields.entry(name.clone()).or_default().push(value.clone());
    }
    fields
}

/// Entries of every kind that is hard.
fn hard(writer: &mut Writer) {
    writer.numbered(300);
    let long = "a long field, quite repetitive; ".repeat(6_400);
    writer.entry(&[("MESSAGE", b"big"), ("BLOB", long.as_bytes()), ("PRIORITY", b"3")]);
    writer.entry(&[("MESSAGE", b"bytes \x00\xff\n that are no text"), ("DATA", &[0, 255, 10, 61]), ("EMPTY", b"")]);
    writer.entry(&[("MESSAGE", b"twice"), ("ERRNO", b"1"), ("ERRNO", b"2"), ("ERRNO", b"\xfe"), ("_PID", b"7"), ("_PID", b"8")]);
    writer.entry(&[
        ("MESSAGE", b"odd values"),
        ("PRIORITY", b"high"),
        ("_PID", b"007"),
        ("_UID", b"-1"),
        ("SYSLOG_IDENTIFIER", &[b'x'; 700]),
    ]);
    writer.entry(&[("PRIORITY", b"5"), ("NOTE", b"no message at all")]);
    writer.entry(&[
        ("MESSAGE", "quotes \" and \\ and ünïcödé \u{1f600}\ttab".as_bytes()),
        ("_SOURCE_REALTIME_TIMESTAMP", b"1600000000123456"),
    ]);
    for number in 0..200_u32 {
        let text = format!("{number} {}", "words of a message that is packed since it is long ".repeat(30));
        writer.entry(&[("MESSAGE", text.as_bytes()), ("CODE_LINE", b"12")]);
    }
    writer.numbered(300);
}

#[test]
fn every_field_of_every_entry_is_shipped_as_journalctl_shows_it() {
    for env in [
        [("SYSTEMD_JOURNAL_COMPACT", "0"), ("SYSTEMD_JOURNAL_KEYED_HASH", "0")],
        [("SYSTEMD_JOURNAL_COMPACT", "1"), ("SYSTEMD_JOURNAL_KEYED_HASH", "1")],
    ] {
        let mut rig = Rig::new();
        let mut writer = Writer::default();
        hard(&mut writer);
        writer = writer.boot(2);
        hard(&mut writer);
        writer.write(&rig.path("system.journal"), &env);
        rig.ship();
        let shown = journalctl(rig.dir.path(), &[]);
        assert!(shown.len() > 1500);
        for message in rig.acked.iter().step_by(7) {
            assert!(crate::encode::tests::in_order(message), "{}", String::from_utf8_lossy(message));
            crate::encode::tests::conforms(message);
        }
        assert_same(&rig, &shown, true);
    }
}

/// What was shipped is what journalctl shows, field for field; with the same cursors, if the file is the same one.
#[track_caller]
fn assert_same(rig: &Rig, shown: &[Vec<(String, Vec<u8>)>], cursors: bool) {
    let events = rig.events();
    assert_eq!(events.len(), shown.len());
    for (event, entry) in events.iter().zip(shown) {
        let (mut ours, mut theirs) = (fields_of(event), fields_in(entry));
        if !theirs.contains_key("MESSAGE") {
            assert_eq!(ours.remove("MESSAGE"), Some(vec![Vec::new()]));
        }
        // Of a field that is there several times journald does not keep the order.
        ours.values_mut().chain(theirs.values_mut()).for_each(|values| values.sort());
        assert_eq!(ours, theirs);
        let cursor = entry.iter().find(|(name, _)| name == "__CURSOR").unwrap();
        assert!(!cursors || event["cursor"].as_str().unwrap().as_bytes() == cursor.1);
    }
    rig.assert_balanced();
}

/// Fields that were met together are copied as one; what an entry has beside them may be of the same names.
#[test]
fn fields_that_come_as_a_group_and_fields_of_the_same_names_are_shipped_as_journalctl_shows_them() {
    for priority in [None, Some((0, 6))] {
        let mut rig = Rig::new();
        rig.settings.wanted.priority = priority;
        let mut writer = Writer::default();
        let common: [(&str, &[u8]); 6] = [
            ("PRIORITY", b"6"),
            ("_SYSTEMD_UNIT", b"app.service"),
            ("SYSLOG_IDENTIFIER", b"app"),
            ("_UID", b"33"),
            ("_TRANSPORT", b"stdout"),
            ("_CMDLINE", b"/usr/bin/app"),
        ];
        // Old enough to be taken into groups.
        writer.numbered(2000);
        for round in 0..200 {
            let [message, new] = [format!("round {round}"), format!("{}", 9000 + round)];
            let own: [&[(&str, &[u8])]; 6] = [
                &[("_PID", b"103")],
                &[("_PID", new.as_bytes())],
                &[("_PID", b"103"), ("_PID", new.as_bytes())],
                &[("_PID", b"103"), ("_CMDLINE", new.as_bytes())],
                &[("_PID", b"103"), ("MESSAGE", b"message 17 of many")],
                &[("_PID", b"103"), ("OTHER", new.as_bytes()), ("OTHER", message.as_bytes())],
            ];
            for own in own {
                writer.entry(&[common.as_slice(), &[("MESSAGE", message.as_bytes())], own].concat());
            }
        }
        writer.write(&rig.path("system.journal"), &[]);
        rig.ship();
        let shown = journalctl(rig.dir.path(), &[]);
        assert_eq!(shown.len(), 3200);
        assert_same(&rig, &shown, true);
    }
}

/// Files of systemd 257, whose header is longer: what its journald wrote over a rotation, in a booted container, and what its systemd-journal-remote
/// wrote with each compression; beside them what its journalctl showed of them.
#[test]
fn what_systemd_257_has_written_is_shipped_as_its_own_journalctl_shows_it() {
    let fixture = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journal-257").join(format!("{name}.zst"));
        zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()
    };
    let [system, remote] = ["system.export", "remote.export"].map(|name| export::parse(&fixture(name)));
    let mut rig = Rig::new();
    std::fs::write(rig.path("system.journal"), fixture("system.journal")).unwrap();
    std::fs::write(rig.path("system@27-bb-66.journal"), fixture("system-first.journal")).unwrap();
    rig.ship();
    assert!(system.len() > 70);
    assert_same(&rig, &system, true);
    for (compression, flags) in [("lz4", 2 | 4), ("xz", 1 | 4 | 16), ("zstd", 8 | 4 | 16)] {
        let (mut rig, bytes) = (Rig::new(), fixture(&format!("remote-{compression}.journal")));
        assert_eq!((bytes[12], bytes[88..90] == 272_u16.to_le_bytes()), (flags, true), "{compression}");
        std::fs::write(rig.path("remote-a.journal"), bytes).unwrap();
        rig.ship();
        assert_eq!(remote.len(), 48);
        assert_same(&rig, &remote, false);
    }
}

#[test]
fn the_time_of_an_event_is_that_of_its_source_and_the_severity_a_word() {
    let mut rig = Rig::new();
    let mut writer = Writer::default();
    writer.entry(&[("MESSAGE", b"told"), ("_SOURCE_REALTIME_TIMESTAMP", b"1600000000123456"), ("PRIORITY", b"3")]);
    writer.entry(&[("MESSAGE", b"received")]);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    let events = rig.events();
    assert_eq!(events[0]["timestamp"], "2020-09-13T12:26:40.123456Z");
    assert_eq!(events[0]["severity"], "error");
    assert_eq!(events[1]["timestamp"], "2023-11-14T22:13:20.002000Z");
    assert!(!events[1].contains_key("severity"));
    let id = events[0]["event_id"].as_str().unwrap();
    assert!(id.len() == 18 && id.ends_with(":1"), "{id}");
}

#[test]
fn a_message_longer_than_may_be_goes_in_parts_that_make_it_whole() {
    let mut rig = Rig::new();
    rig.encode.max_event = 20_000;
    let long = (0..20_000).fold(String::new(), |text, number| text + &number.to_string() + " ü\n");
    let mut writer = Writer::default();
    writer.numbered(3);
    writer.entry(&[("MESSAGE", long.as_bytes()), ("BIG", &b"b".repeat(50_000)), ("SMALL", b"s"), ("_SYSTEMD_UNIT", b"app.service")]);
    writer.numbered(3);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    let events = rig.events();
    assert!(rig.acked.iter().all(|message| message.len() <= 20_000));
    let parts: Vec<_> = events.iter().filter(|event| event.contains_key("part")).collect();
    assert!(parts.len() > 6);
    let whole: String = parts.iter().map(|part| part["message"].as_str().unwrap()).collect();
    assert!(whole == long);
    for (number, part) in (1..).zip(&parts) {
        assert_eq!(
            (part["part"].as_u64(), part["last"].as_bool()),
            (Some(number), Some(usize::try_from(number).ok() == Some(parts.len())))
        );
        assert_eq!(part["unit"], "app.service");
    }
    let fields = parts[0]["journal"].as_object().unwrap();
    assert_eq!((fields["SMALL"].as_str(), fields["BIG"]["length"].as_u64()), (Some("s"), Some(50_000)));
    let cut = rig.missed(Missed::Cut);
    assert!(cut.bytes > 40_000 && cut.bytes < 50_000, "{cut:?}");
    let books = &rig.settlement.books()[0].1.ledger;
    assert_eq!((books.read.events, books.delivered.events), (7, 7), "parts are one event");
    rig.assert_balanced();
}

#[test]
fn raw_ships_the_message_alone() {
    let mut rig = Rig::new();
    rig.encode.format = encode::Format::Raw;
    let mut writer = Writer::default();
    writer.entry(&[("MESSAGE", b"plain \xff"), ("PRIORITY", b"3")]);
    writer.entry(&[("NOTE", b"none")]);
    writer.write(&rig.path("system.journal"), &[]);
    rig.ship();
    assert_eq!(rig.acked, [b"plain \xff".to_vec(), Vec::new()]);
}

#[test]
fn only_the_fields_that_are_asked_for_are_shipped() {
    let mut rig = Rig::new();
    let mut writer = Writer::default();
    writer.numbered(1);
    writer.write(&rig.path("system.journal"), &[]);
    rig.settings.fields.only = vec!["_CMDLINE".into(), "_PID".into()];
    rig.ship();
    let event = &rig.events()[0];
    assert!(event.contains_key("pid") && !event.contains_key("unit") && !event.contains_key("priority"));
    assert_eq!(event["journal"].as_object().unwrap().keys().collect::<Vec<_>>(), ["_CMDLINE"]);
    let mut rig = Rig { dir: rig.dir, ..Rig::new() };
    rig.settings.place = Where::Given(rig.dir.path().to_owned());
    rig.settings.fields.not = vec!["_CMDLINE".into(), "_PID".into()];
    rig.ship();
    let event = &rig.events()[0];
    assert!(!event.contains_key("pid") && event.contains_key("unit"));
    assert_eq!(event["journal"].as_object().unwrap().keys().collect::<Vec<_>>(), ["_TRANSPORT"]);
}
