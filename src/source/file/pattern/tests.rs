//! Patterns against paths: cases by hand, and any pattern against a matcher that is slow and obvious.

use std::ffi::OsStr;

use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, path: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(Path::new(path))
}

#[test]
fn wildcards_stay_within_their_component() {
    for (pattern, path, expected) in [
        ("/var/log/*.log", "/var/log/a.log", true),
        ("/var/log/*.log", "/var/log/a/b.log", false),
        ("/var/log/*.log", "/var/log/.a.log", false),
        ("/var/log/*.log", "/var/log/.log", false),
        ("/var/log/.*", "/var/log/.a.log", true),
        ("/var/log/{.a,b*}", "/var/log/.a", true),
        ("/var/log/{.a,b*}", "/var/log/bc", true),
        ("/var/log/**/*.log", "/var/log/a.log", true),
        ("/var/log/**/*.log", "/var/log/a/b/c.log", true),
        ("/var/log/**/*.log", "/var/log/.git/c.log", false),
        ("/var/log/**", "/var/log/a/b", true),
        ("/**", "/a", true),
        ("/a?c", "/aéc", true),
        ("/a??c", "/aéc", false),
        ("/[!a-c]x", "/dx", true),
        ("/[!a-c]x", "/bx", false),
        ("/[]a-]x", "/-x", true),
        ("/[]a-]x", "/]x", true),
        (r"/[\]x]", "/]", true),
        (r"/a\*{b,c\,}", "/a*c,", true),
        (r"/a\*", "/ab", false),
        ("/{a,b{c,d}}e", "/bde", true),
        ("/{a,}e", "/e", true),
        ("//var//log/x", "/var/log/x", true),
        ("/var/log/x", "/var/log/../log/x", false),
        ("/x.log", "/xalog", false),
    ] {
        assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
    }
}

#[test]
fn names_that_are_not_utf8_are_matched_as_bytes() {
    let path = Path::new(OsStr::from_bytes(b"/var/log/\xff\xfe.log"));
    assert!(Pattern::parse("/var/log/*.log").unwrap().matches(path));
    assert!(!Pattern::parse("/var/log/??.log").unwrap().matches(path));
}

#[test]
fn the_fixed_part_ends_before_the_first_wildcard_and_never_takes_the_file() {
    for (pattern, fixed) in [
        ("/var/log/*.log", "/var/log"),
        ("/var/log/a.log", "/var/log"),
        ("/var/log/*/a.log", "/var/log"),
        ("/var/{log,lib}/a", "/var"),
        ("/*", "/"),
        ("/a", "/"),
        (r"/a\*b/c", "/a*b"),
        ("/a/**", "/a"),
    ] {
        assert_eq!(Pattern::parse(pattern).unwrap().fixed(), Path::new(fixed), "{pattern}");
    }
}

#[test]
fn a_wrong_pattern_is_told_what_would_be_right() {
    for (pattern, word) in [
        ("", "empty"),
        ("var/log/*.log", "/var/log/var/log/*.log"),
        ("/", "/**"),
        ("/var/log/", "/**"),
        ("/var/../log/x", "component .."),
        ("/var/./log/x", "component ."),
        ("/var/{..,x}/log", "component .."),
        ("/var/a**b", "a/**/b"),
        ("/var/[a", "[abc]"),
        ("/var/[a/b]", "[abc]"),
        ("/var/{a,b", "\\{"),
        ("/var/{a/b,c}", "\\{"),
        ("/var/a\\", "\\\\"),
        ("/var/[z-a]", "[a-z]"),
        ("/var/[[:digit:]]", "[0-9]"),
        ("/a\0b", "NUL"),
        ("/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "256"),
    ] {
        let error = Pattern::parse(pattern).unwrap_err();
        assert!(error.contains(word), "{pattern}: {error}");
    }
}

/// One piece of a component, in two forms: as written, and as the slow matcher reads it.
#[derive(Clone, Debug)]
enum Piece {
    Char(char),
    Star,
    One,
    Set(bool, Vec<char>),
    Braces(Vec<Vec<Piece>>),
}

fn written(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Char(c) => c.to_string(),
            Piece::Star => "*".into(),
            Piece::One => "?".into(),
            Piece::Set(not, set) => format!("[{}{}]", if *not { "!" } else { "" }, set.iter().collect::<String>()),
            Piece::Braces(all) => format!("{{{}}}", all.iter().map(|one| written(one)).collect::<Vec<_>>().join(",")),
        })
        .collect()
}

fn written_out(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let Some((first, rest)) = pieces.split_first() else { return vec![vec![]] };
    let heads = match first {
        Piece::Braces(all) => all.iter().flat_map(|one| written_out(one)).collect(),
        other => vec![vec![other.clone()]],
    };
    let tails = written_out(rest);
    heads.iter().flat_map(|head| tails.iter().map(move |tail| [head.as_slice(), tail].concat())).collect()
}

fn slow_name(pieces: &[Piece], name: &[char]) -> bool {
    match (pieces.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((Piece::Star, rest)), _) => slow_name(rest, name) || name.split_first().is_some_and(|(_, tail)| slow_name(pieces, tail)),
        (Some((Piece::One, rest)), Some((_, tail))) => slow_name(rest, tail),
        (Some((Piece::Char(c), rest)), Some((n, tail))) => c == n && slow_name(rest, tail),
        (Some((Piece::Set(not, set), rest)), Some((n, tail))) => set.contains(n) != *not && slow_name(rest, tail),
        _ => false,
    }
}

fn slow_component(pieces: &[Piece], name: &str) -> bool {
    let chars: Vec<char> = name.chars().collect();
    written_out(pieces)
        .iter()
        .any(|one| (!name.starts_with('.') || matches!(one.first(), Some(Piece::Char('.')))) && slow_name(one, &chars))
}

/// `None` is `**`.
fn slow_path(pattern: &[Option<Vec<Piece>>], path: &[String]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((None, [])), None) => false,
        (Some((None, [])), Some((name, rest))) => !name.starts_with('.') && (rest.is_empty() || slow_path(pattern, rest)),
        (Some((None, rest)), _) => {
            slow_path(rest, path) || path.split_first().is_some_and(|(name, tail)| !name.starts_with('.') && slow_path(pattern, tail))
        }
        (Some((Some(pieces), rest)), Some((name, tail))) => slow_component(pieces, name) && slow_path(rest, tail),
        _ => false,
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    let char = prop::sample::select(vec!['a', 'b', '.', 'é']);
    let leaf = prop_oneof![
        4 => char.clone().prop_map(Piece::Char),
        2 => Just(Piece::Star),
        1 => Just(Piece::One),
        1 => (any::<bool>(), prop::collection::vec(char, 1..3)).prop_map(|(not, set)| Piece::Set(not, set)),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| prop::collection::vec(prop::collection::vec(inner, 0..3), 1..3).prop_map(Piece::Braces))
}

fn pattern() -> impl Strategy<Value = Vec<Option<Vec<Piece>>>> {
    prop::collection::vec(
        prop_oneof![1 => Just(None), 3 => prop::collection::vec(piece(), 1..4).prop_map(|pieces| (written(&pieces) != "**").then_some(pieces))],
        1..4,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn any_pattern_matches_what_a_slow_matcher_matches(pattern in pattern(), path in prop::collection::vec("[ab.é]{1,4}", 1..5)) {
        let parts: Vec<String> = pattern.iter().map(|part| part.as_deref().map_or("**".into(), written)).collect();
        let text = format!("/{}", parts.join("/"));
        // What is refused (`..`, `**` in a component) is no pattern, and `.` and `..` are no names.
        let Ok(parsed) = Pattern::parse(&text) else { return Ok(()) };
        if path.iter().any(|name| name == "." || name == "..") {
            return Ok(());
        }
        let whole = format!("/{}", path.join("/"));
        prop_assert_eq!(parsed.matches(Path::new(&whole)), slow_path(&pattern, &path), "{} {}", text, whole);
    }

    #[test]
    fn any_text_is_parsed_or_refused_and_any_path_matched_without_a_panic(text in "/?[a*?.\\[\\]{},!\\\\/é-]{0,24}", path in prop::collection::vec(any::<u8>(), 0..24)) {
        if let Ok(pattern) = Pattern::parse(&text) {
            let _ = pattern.matches(Path::new(OsStr::from_bytes(&path)));
            prop_assert!(pattern.fixed().is_absolute());
        }
    }
}
