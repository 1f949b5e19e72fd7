//! What the documentation names is there: each test that docs/delivery.md says shows something exists, and is run.

use std::collections::BTreeSet;
use std::path::Path;

/// The functions of a file that are tests and run by themselves.
fn tests_of(source: &str) -> BTreeSet<String> {
    let (mut tests, mut attributes) = (BTreeSet::new(), Vec::new());
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push(line);
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if attributes.contains(&"#[test]") && !attributes.iter().any(|attribute| attribute.starts_with("#[ignore")) {
                tests.extend(rest.split('(').next().map(str::to_owned));
            }
            attributes.clear();
        } else if !line.starts_with("//") {
            attributes.clear();
        }
    }
    tests
}

/// The names in the last column of the table under this heading, a list for each row.
fn shown_by(document: &str, heading: &str) -> Vec<Vec<String>> {
    let section = document.split(heading).nth(1).expect("the heading is there").split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        row.trim_end_matches('|').rsplit('|').next().unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect()
    })
    .collect()
}

#[test]
fn what_the_table_of_failures_names_is_a_test_that_runs() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(here.join("docs/delivery.md")).unwrap();
    let rows = shown_by(&document, "## What holds in every failure\n");
    assert!(rows.len() > 20, "{rows:?}");
    let mut wrong = Vec::new();
    for row in rows {
        if row.is_empty() {
            wrong.push("a row names no test".to_owned());
        }
        for name in row {
            let (module, test) = name.split_once("::").unwrap_or_default();
            let source = std::fs::read_to_string(here.join("tests/it").join(format!("{module}.rs"))).unwrap_or_default();
            if !tests_of(&source).contains(test) {
                wrong.push(name);
            }
        }
    }
    assert!(wrong.is_empty(), "no such test that runs: {wrong:?}");
}

#[test]
fn a_test_that_is_not_there_or_not_run_is_seen() {
    let source = "#[test]\nfn runs() {}\n\n#[test]\n#[ignore = \"x\"]\nfn ignored() {}\nfn helper() {}\n/// Words.\n#[test]\n#[should_panic]\nfn panics() {}\n";
    assert_eq!(tests_of(source).into_iter().collect::<Vec<_>>(), ["panics", "runs"]);
    let document = "## T\n\n| a | b |\n| - | - |\n| x | `m::one`, `m::two` |\n| y | none |\n\n## U\n| z | `m::no` |\n";
    assert_eq!(shown_by(document, "## T\n"), [vec!["m::one".to_owned(), "m::two".into()], vec![]]);
}
