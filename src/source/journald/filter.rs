//! Which entries a source ships: what `journalctl -u -t -p -k FIELD=value` would show. A field is looked at once; what it says of the filters is a
//! few bits, kept with it, so that an entry is decided by its references to fields. Pure.

use regex::bytes::Regex;
use xxhash_rust::xxh3::xxh3_64;

use super::format::Id;
use crate::nearest::distance;

/// Kernel messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Like all others.
    #[default]
    Also,
    /// They alone, as `journalctl -k`.
    Only,
    /// All but they.
    Not,
}

/// What is asked for. All of it must hold; within a list one suffices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Names of units, or patterns of them, as `journalctl -u` takes them.
    pub units: Vec<String>,
    /// `SYSLOG_IDENTIFIER`, as `journalctl -t`.
    pub identifiers: Vec<String>,
    /// The most and the least important priority, as `journalctl -p`.
    pub priority: Option<(u8, u8)>,
    /// `FIELD=value`: those of one field are alternatives, those of several must all hold.
    pub matches: Vec<(String, String)>,
    /// Kernel messages.
    pub kernel: Kernel,
    /// Entries of this boot alone.
    pub boot: Option<Id>,
    /// The unit whose entries are left out: logferry's own, which would ship its words about shipping its words. Who names it in `units` (itself,
    /// not by a pattern) wants them.
    pub own_unit: Option<String>,
}

/// Fields of different names in [`Wanted::matches`]; each takes a bit.
pub const MAX_MATCH_FIELDS: usize = 32;

const COREDUMP: &str = "fc2e22bc6ee647b6b90729ab34a250b1";
const SUFFIXES: [&str; 11] =
    [".service", ".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice", ".scope"];

/// Values of one field that set a bit.
#[derive(Debug)]
struct Test {
    field: Vec<u8>,
    values: Values,
    bit: u64,
}

#[derive(Clone, Debug)]
enum Values {
    These(Vec<Vec<u8>>),
    Patterns(Vec<Regex>),
    Slices(Vec<Regex>),
}

impl Values {
    fn has(&self, value: &[u8]) -> bool {
        match self {
            Values::These(values) => values.iter().any(|known| known == value),
            Values::Patterns(patterns) => patterns.iter().any(|pattern| pattern.is_match(value)),
            Values::Slices(patterns) => value.ends_with(b".slice") && patterns.iter().any(|pattern| pattern.is_match(value)),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Filter {
    tests: Vec<Test>,
    /// All groups must hold; of a group one set of bits must be there whole.
    groups: Vec<Vec<u64>>,
    /// None of these bits.
    none: u64,
    boot: Option<Id>,
    /// Every entry is shipped.
    all: bool,
    hash: u32,
}

/// The name of a unit as journalctl completes it: `.service` where it has no suffix of a unit and is no pattern.
#[must_use]
pub fn unit_name(text: &str) -> String {
    let known = SUFFIXES.iter().any(|suffix| text.len() > suffix.len() && text.ends_with(suffix));
    if known || is_pattern(text) { text.to_owned() } else { format!("{text}.service") }
}

/// What matches units of this name or pattern.
#[must_use]
pub fn unit_pattern(text: &str) -> Option<Regex> {
    pattern(&unit_name(text))
}

/// Whether a name has `*`, `?` or `[`.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// A shell's pattern, or a plain name, as an expression for the whole value.
fn pattern(text: &str) -> Option<Regex> {
    let mut expression = String::from("(?s-u)^");
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                let class: String = rest.clone().take_while(|character| *character != ']').collect();
                if class.is_empty() || !rest.as_str().contains(']') {
                    expression.push_str("\\[");
                    continue;
                }
                rest.by_ref().take(class.chars().count() + 1).for_each(drop);
                let (not, class) = class.strip_prefix(['!', '^']).map_or(("", class.as_str()), |class| ("^", class));
                let class = class.replace('\\', "\\\\").replace('[', "\\[").replace("&&", "&");
                for piece in ["[", not, &class, "]"] {
                    expression.push_str(piece);
                }
            }
            plain => expression.push_str(&regex::escape(plain.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    Regex::new(&expression).ok()
}

/// The nearest of the known units where none of them is this one; `None` where one is.
#[must_use]
pub fn nobody_is(unit: &str, known: &[String]) -> Option<Vec<String>> {
    let name = unit_name(unit);
    let wanted = pattern(&name)?;
    if known.iter().any(|known| wanted.is_match(known.as_bytes())) {
        return None;
    }
    let mut near: Vec<(usize, &String)> = known.iter().map(|known| (distance(&name, known), known)).collect();
    near.sort_unstable();
    let limit = (name.len() / 3).max(3);
    Some(near.into_iter().filter(|(distance, _)| *distance <= limit).take(3).map(|(_, known)| known.clone()).collect())
}

impl Filter {
    /// What decides for these wishes.
    #[must_use]
    pub fn new(wanted: &Wanted) -> Filter {
        let mut filter = Filter { boot: wanted.boot, ..Filter::default() };
        let exact = |texts: &[&str]| Values::These(texts.iter().map(|text| text.as_bytes().to_vec()).collect());
        if !wanted.units.is_empty() {
            let units: Vec<Regex> = wanted.units.iter().filter_map(|unit| pattern(&unit_name(unit))).collect();
            let is_unit = || Values::Patterns(units.clone());
            let own = filter.test("_SYSTEMD_UNIT", is_unit());
            let coredump = filter.test("MESSAGE_ID", exact(&[COREDUMP])) | filter.test("COREDUMP_UNIT", is_unit());
            let root = filter.test("_UID", exact(&["0"]));
            let manager = filter.test("_PID", exact(&["1"])) | filter.test("UNIT", is_unit());
            let about = root | filter.test("OBJECT_SYSTEMD_UNIT", is_unit());
            let slice = filter.test("_SYSTEMD_SLICE", Values::Slices(units.clone()));
            filter.groups.push(vec![own, coredump | root, manager, about, slice]);
        }
        if !wanted.identifiers.is_empty() {
            let names: Vec<&str> = wanted.identifiers.iter().map(String::as_str).collect();
            let bit = filter.test("SYSLOG_IDENTIFIER", exact(&names));
            filter.groups.push(vec![bit]);
        }
        if let Some((from, to)) = wanted.priority {
            let numbers: Vec<String> = (from..=to).map(|number| number.to_string()).collect();
            let bit = filter.test("PRIORITY", exact(&numbers.iter().map(String::as_str).collect::<Vec<_>>()));
            filter.groups.push(vec![bit]);
        }
        let mut fields: Vec<&str> = wanted.matches.iter().map(|(field, _)| field.as_str()).collect();
        fields.sort_unstable();
        fields.dedup();
        for field in fields.into_iter().take(MAX_MATCH_FIELDS) {
            let values: Vec<&str> = wanted.matches.iter().filter(|(name, _)| name == field).map(|(_, value)| value.as_str()).collect();
            let bit = filter.test(field, exact(&values));
            filter.groups.push(vec![bit]);
        }
        match wanted.kernel {
            Kernel::Also => {}
            Kernel::Only => {
                let bit = filter.test("_TRANSPORT", exact(&["kernel"]));
                filter.groups.push(vec![bit]);
            }
            Kernel::Not => filter.none |= filter.test("_TRANSPORT", exact(&["kernel"])),
        }
        let is_named = |unit: &String| wanted.units.iter().any(|named| unit_name(named) == *unit);
        if let Some(unit) = wanted.own_unit.as_ref().filter(|unit| !is_named(unit)) {
            filter.none |= filter.test("_SYSTEMD_UNIT", exact(&[unit]));
        }
        filter.all = filter.tests.is_empty();
        #[expect(clippy::cast_possible_truncation, reason = "a part of a hash is one")]
        let hash = xxh3_64(format!("{wanted:?}").as_bytes()) as u32;
        filter.hash = hash;
        filter
    }

    fn test(&mut self, field: &str, values: Values) -> u64 {
        let bit = 1 << self.tests.len().min(63);
        self.tests.push(Test { field: field.as_bytes().to_vec(), values, bit });
        bit
    }

    /// Whether every entry is shipped, of the boots that are.
    #[must_use]
    pub fn takes_all(&self) -> bool {
        self.all
    }

    /// Whether something that was asked for leaves entries out.
    #[must_use]
    pub fn is_choosy(&self) -> bool {
        !self.groups.is_empty() || self.boot.is_some() || self.none != 0
    }

    /// Changes when what is asked for changes.
    #[must_use]
    pub fn hash(&self) -> u32 {
        self.hash
    }

    /// Whether entries of this boot are wanted at all.
    #[must_use]
    pub fn wants_boot(&self, boot: &Id) -> bool {
        self.boot.is_none_or(|wanted| wanted == *boot)
    }

    /// What a field says of what is asked for.
    #[must_use]
    pub fn bits(&self, field: &[u8], value: &[u8]) -> u64 {
        let of_field = self.tests.iter().filter(|test| test.field == field);
        of_field.filter(|test| test.values.has(value)).fold(0, |bits, test| bits | test.bit)
    }

    /// Whether an entry is wanted whose fields say this together.
    #[must_use]
    pub fn wants(&self, bits: u64) -> bool {
        bits & self.none == 0 && self.groups.iter().all(|group| group.iter().any(|mask| bits & mask == *mask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(wanted: &Wanted, fields: &[(&str, &str)]) -> bool {
        let filter = Filter::new(wanted);
        filter.wants(fields.iter().fold(0, |bits, (field, value)| bits | filter.bits(field.as_bytes(), value.as_bytes())))
    }

    #[test]
    fn a_unit_is_its_own_messages_and_those_of_others_about_it() {
        let wanted = Wanted { units: vec!["ssh".into(), "nginx*".into()], ..Wanted::default() };
        let cases: [(&[(&str, &str)], bool); 8] = [
            (&[("_SYSTEMD_UNIT", "ssh.service")], true),
            (&[("_SYSTEMD_UNIT", "ssh.socket")], false),
            (&[("_SYSTEMD_UNIT", "nginx@1.service")], true),
            (&[("UNIT", "ssh.service"), ("_PID", "1")], true),
            (&[("UNIT", "ssh.service"), ("_PID", "17")], false),
            (&[("COREDUMP_UNIT", "ssh.service"), ("_UID", "0"), ("MESSAGE_ID", COREDUMP)], true),
            (&[("COREDUMP_UNIT", "ssh.service"), ("_UID", "0")], false),
            (&[("OBJECT_SYSTEMD_UNIT", "ssh.service"), ("_UID", "0")], true),
        ];
        for (fields, wanted_so) in cases {
            assert_eq!(wants(&wanted, fields), wanted_so, "{fields:?}");
        }
    }

    #[test]
    fn fields_must_all_hold_and_values_of_one_are_alternatives() {
        let matches = [("_UID", "0"), ("_UID", "33"), ("CODE_LINE", "7")].map(|(field, value)| (field.into(), value.into())).into();
        let wanted = Wanted { matches, priority: Some((0, 4)), identifiers: vec!["cron".into()], ..Wanted::default() };
        let good = [("_UID", "33"), ("CODE_LINE", "7"), ("PRIORITY", "4"), ("SYSLOG_IDENTIFIER", "cron")];
        assert!(wants(&wanted, &good));
        for (at, wrong) in [("_UID", "1"), ("CODE_LINE", "77"), ("PRIORITY", "5"), ("SYSLOG_IDENTIFIER", "crond")].into_iter().enumerate() {
            let mut fields = good;
            fields[at] = wrong;
            assert!(!wants(&wanted, &fields), "{fields:?}");
        }
        assert!(!wants(&wanted, &good[..3]), "a field that is not there");
    }

    #[test]
    fn the_own_unit_and_the_kernel_can_be_left_out() {
        let wanted = Wanted { own_unit: Some("logferry.service".into()), kernel: Kernel::Not, ..Wanted::default() };
        assert!(!wants(&wanted, &[("_SYSTEMD_UNIT", "logferry.service")]));
        assert!(!wants(&wanted, &[("_TRANSPORT", "kernel")]));
        assert!(wants(&wanted, &[("_TRANSPORT", "stdout")]) && wants(&wanted, &[]));
        let about = [("UNIT", "logferry.service"), ("_PID", "1"), ("_SYSTEMD_UNIT", "init.scope")];
        assert!(wants(&wanted, &about), "what systemd says of it");
    }

    #[test]
    fn who_names_the_own_unit_wants_it() {
        let of = |unit: &str| {
            let wanted = Wanted { own_unit: Some("logferry.service".into()), units: vec![unit.into()], ..Wanted::default() };
            wants(&wanted, &[("_SYSTEMD_UNIT", "logferry.service")])
        };
        assert!(of("logferry") && of("logferry.service"));
        assert!(!of("log*") && !of("*"), "a pattern is not meant so");
    }

    #[test]
    fn names_get_their_suffix_as_journalctl_gives_it() {
        let names = ["ssh", "a.mount", "foo.bar", "ng*", ".service"].map(unit_name);
        assert_eq!(names, ["ssh.service", "a.mount", "foo.bar.service", "ng*", ".service.service"]);
        let of = |text: &str, name: &str| pattern(text).unwrap().is_match(name.as_bytes());
        assert!(of("a[0-9]?.service", "a1x.service") && !of("a[!0-9].service", "a1.service") && of("a[!0-9].service", "ab.service"));
        assert!(of("a.b", "a.b") && !of("a.b", "aXb") && of("a[", "a["));
    }
}
