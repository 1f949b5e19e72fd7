//! How a file source's lines are read: joined into events.

use std::time::Duration;

use super::{SMALL, judge, machine, mistakes};
use crate::source::multiline::Lines;

fn with(more: &str) -> String {
    format!("{SMALL}{more}\n")
}

#[test]
fn multiline_is_a_preset_or_patterns() {
    let of = |more: &str| judge(&[&with(more)], &machine()).unwrap().files[0].multiline.clone();
    assert!(of("").is_none());
    let ready = of("multiline = { preset = \"java\" }").unwrap();
    assert!(matches!(ready.lines, Lines::Ready(_)));
    assert_eq!((ready.max_lines, ready.max_size, ready.timeout), (1000, 256 << 10, Duration::from_secs(1)));
    let own = of("multiline = { start = '^\\d', continue = '^\\s', max_lines = 5, max_size = \"4KiB\", timeout = \"50ms\" }").unwrap();
    let Lines::Own(patterns) = &own.lines else { panic!("{own:?}") };
    assert!(patterns.start.is_some() && patterns.next.is_some() && patterns.end.is_none());
    let net = SMALL.replace("include = [\"/var/log/app/*.log\"]", "listen = [\"tcp://127.0.0.1:514\"]\nmultiline = { start = '^<' }");
    let net = judge(&[&net.replace("\"file\"", "\"syslog\"")], &machine()).unwrap();
    assert!(net.syslogs[0].multiline.is_some() && net.warnings.is_empty(), "{:?}", net.warnings);
    assert_eq!((own.max_lines, own.max_size, own.timeout), (5, 4 << 10, Duration::from_millis(50)));
}

#[test]
fn multiline_where_nothing_can_be_joined_is_told() {
    let text = SMALL.replace("include = [\"/var/log/app/*.log\"]", "listen = [\"udp://127.0.0.1:514\"]\nmultiline = { start = '^<' }");
    let warnings = judge(&[&text.replace("\"file\"", "\"syslog\"")], &machine()).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("multiline joins lines of tcp://")), "{warnings:?}");
}

#[test]
fn what_is_wrong_with_multiline_is_told() {
    insta::assert_snapshot!(mistakes(&with("multiline = { start = '', preset = \"jva\" }")), @r#"
    a.toml:9: source.multiline.preset: "jva" is not known; did you mean "java"? write one of "java", "python", "go", "ruby", "node", "dotnet", "postgres"
    a.toml:9: source.multiline.start: the regex is empty, so it would match everything; write what to look for
    a.toml:9: source.multiline: a preset has patterns already; leave out preset, or start, continue and end
    "#);
    insta::assert_snapshot!(mistakes(&with("multiline = { timeout = \"1s\" }")), @r#"a.toml:9: source.multiline: there is nothing to tell which lines belong together; add preset, as "java", or one of start, continue and end"#);
    insta::assert_snapshot!(mistakes(&with("multiline = { start = '(' , end = 'x{1000}{1000}', max_size = \"1GiB\" }")), @r#"
    a.toml:9: source.multiline.end: the regex takes more than 1MiB compiled; make its repetitions smaller, or write (?-u) for bytes instead of characters
    a.toml:9: source.multiline.max_size: "1GiB" is too large; write at most "1MiB"
    a.toml:9: source.multiline.start: not a regex: error: unclosed group; a \ before what is to be taken as it is, in '…', may help
    "#);
    insta::assert_snapshot!(mistakes(&with("multiline = { preset = \"go\", continue = '^\\s' }")), @r#"a.toml:9: source.multiline: a preset has patterns already; leave out preset, or start, continue and end"#);
    insta::assert_snapshot!(mistakes(&with("multiline = true")), @r#"a.toml:9: source.multiline: a boolean is no table; write multiline = { preset = "java" }, or start = '…', continue = '…' or end = '…' in it"#);
    insta::assert_snapshot!(mistakes(&with("multiline = { begin = 'x' }")), @r#"
    a.toml:9: source.multiline.begin: unknown key; there are continue, end, max_lines, max_size, preset, start, timeout
    a.toml:9: source.multiline: there is nothing to tell which lines belong together; add preset, as "java", or one of start, continue and end
    "#);
}

#[test]
fn an_encoding_is_one_that_files_can_be_read_in() {
    let of = |more: &str| judge(&[&with(more)], &machine()).unwrap().files[0].charset;
    assert_eq!(of(""), None);
    assert!(of("encoding = \"utf-16\"").unwrap().is_by_mark());
    insta::assert_snapshot!(mistakes(&with("encoding = \"utf-7\"")), @r#"a.toml:9: source.encoding: files can't be read as "utf-7"; write its name in the WHATWG Encoding Standard, as "utf-16le", "latin1", "windows-1252", "shift_jis" or "gbk""#);
    insta::assert_snapshot!(mistakes(&SMALL.replace("type = \"file\"", "type = \"syslog\"\nencoding = \"gbk\"")), @r#"
    a.toml:5: source.listen: not set; write a list, as ["udp://0.0.0.0:514", "tcp://0.0.0.0:514"]
    a.toml:8: source.encoding: a source of type "syslog" has no such key; sources of type "file" have it; leave it out
    a.toml:9: source.include: a source of type "syslog" has no such key; sources of type "file" have it; leave it out
    "#);
}
