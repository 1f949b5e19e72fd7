//! `config.example.toml` against the table of keys: every key is in it, with its line of documentation and the default that the code has.

use std::collections::BTreeSet;

use super::super::collect::{Layer, collect};
use super::super::schema::{KEYS, Kind, Unset};
use super::super::{Origin, Text, print};
use super::{judge, machine};

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The example without its comments.
fn bare() -> String {
    EXAMPLE.lines().filter(|line| !line.starts_with('#')).fold(String::new(), |text, line| text + line + "\n")
}

/// A line that would be a key or a table without its `# `.
fn hidden(line: &str) -> Option<&str> {
    let text = line.strip_prefix("# ")?;
    let key = text.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    (key || text.starts_with('[')).then_some(text)
}

#[test]
fn the_example_without_comments_is_a_good_configuration() {
    let config = judge(&[&bare()], &machine()).unwrap();
    assert_eq!(
        config.warnings.len(),
        3,
        "only that there is no TLS, that UDP may lose, and that the journal begins at its end: {:?}",
        config.warnings
    );
}

#[test]
fn what_the_example_sets_is_the_default_of_the_code() {
    // A second source and Kafka table with nothing but what is required shows what the code has.
    let required = "[kafka]\nbootstrap_servers = [\"kafka-1:9092\", \"kafka-2:9092\"]\ntopic = \"logs\"\n[[source]]\nname = \"nginx\"\ntype = \"file\"\ninclude = [\"/var/log/nginx/*.log\"]\n[[source]]\nname = \"net\"\ntype = \"syslog\"\nlisten = [\"udp://0.0.0.0:514\", \"tcp://0.0.0.0:514\"]\n[[source]]\nname = \"journal\"\ntype = \"journald\"\n";
    let values = |text: &str| {
        let shown = judge(&[text], &machine()).unwrap().shown;
        let line = |header: &str, line: &print::Line| format!("{header} {} = {}", line.key, line.value);
        shown.iter().flat_map(|section| section.lines.iter().map(move |l| line(&section.header, l))).collect::<Vec<_>>()
    };
    assert_eq!(values(&bare()), values(required));
    let set = collect(&[Text { name: "example".into(), text: bare() }], &[], Vec::new());
    for key in KEYS.iter().filter(|key| matches!(key.unset, Unset::Default(_))) {
        let stands =
            set.files.origins.contains_key(key.path) || set.sources.iter().any(|(_, source)| source.origins.contains_key(key.path));
        assert!(stands, "{} has a default, so it stands in the example without \"# \"", key.path);
    }
}

#[test]
fn every_key_stands_in_the_example_below_its_documentation() {
    let text: String = EXAMPLE.lines().map(|line| hidden(line).unwrap_or(line).to_owned() + "\n").collect();
    let collected = collect(&[Text { name: "example".into(), text }], &[], Vec::new());
    assert_eq!(collected.problems, []);
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let mut seen = BTreeSet::new();
    for key in KEYS {
        let is_of = |source: &Layer| key.is_of(source.values.get("type").and_then(|word| word.as_str()));
        let all = collected.sources.iter().filter(|(_, source)| is_of(source)).flat_map(|(_, source)| &source.origins);
        let place = collected.files.origins.iter().chain(all).find(|(path, _)| {
            let free = matches!(key.kind, Kind::Texts | Kind::Properties);
            *path == key.path || free && path.starts_with(&format!("{}.", key.path))
        });
        let Some((_, Origin::File { line, .. })) = place else { panic!("{} is not in the example", key.path) };
        assert!(seen.insert(*line), "{} shares its line with another key", key.path);
        let above: Vec<&str> = lines[..line - 1].iter().rev().take_while(|line| line.starts_with('#')).copied().collect();
        assert!(above.contains(&format!("# {}", key.doc).as_str()), "{}: {:?} does not stand above it, but {above:?}", key.path, key.doc);
        assert_eq!(above.contains(&"# Required."), key.unset == Unset::Required, "{}: required or not", key.path);
    }
}
