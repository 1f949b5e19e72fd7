//! One component of a pattern: how it is read, and which names it matches. Apart from the paths it is put together to.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder};

/// How many alternatives the braces of one component may make; more is refused when the pattern is parsed.
const MAX_ALTERNATIVES: usize = 256;

/// One component of a pattern.
#[derive(Clone)]
pub(super) enum Part {
    /// `**`.
    AnyDirs,
    /// A name that any of these matches.
    Name(Vec<Glob>),
}

/// A name, with wildcards or without.
#[derive(Clone)]
pub(super) enum Glob {
    Literal(Vec<u8>),
    Wild { hidden: bool, regex: Regex },
}

/// Whether names with a leading dot are kept from wildcards.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Hidden {
    Kept,
    Shown,
}

impl Part {
    pub(super) fn parse(component: &str) -> Result<Part, String> {
        if component == "**" {
            return Ok(Part::AnyDirs);
        }
        let mut alternatives = Vec::new();
        expand(component, &mut alternatives)?;
        Ok(Part::Name(alternatives.iter().map(|alternative| Glob::parse(alternative)).collect::<Result<_, _>>()?))
    }

    pub(super) fn literal(&self) -> Option<&[u8]> {
        match self {
            Part::Name(globs) => match globs.as_slice() {
                [Glob::Literal(name)] => Some(name),
                _ => None,
            },
            Part::AnyDirs => None,
        }
    }

    pub(super) fn matches(&self, name: &[u8], show: Hidden) -> bool {
        let Part::Name(globs) = self else { return false };
        globs.iter().any(|glob| match glob {
            Glob::Literal(literal) => literal == name,
            Glob::Wild { hidden, regex } => (*hidden || show == Hidden::Shown || !name.starts_with(b".")) && regex.is_match(name),
        })
    }
}

/// Writes out the braces of a component, so that each alternative is a pattern of its own.
fn expand(component: &str, out: &mut Vec<String>) -> Result<(), String> {
    let bytes = component.as_bytes();
    let (mut at, mut depth, mut cuts) = (0, 0_u32, Vec::new());
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            _ => {}
        }
        if (byte == b'{' && depth == 1 && cuts.is_empty()) || (byte == b',' && depth == 1) {
            cuts.push(at);
        }
        if byte == b'}' && depth == 0 && !cuts.is_empty() {
            cuts.push(at);
            break;
        }
        at = unit_end(bytes, at)?;
    }
    let (Some(&open), Some(&close)) = (cuts.first(), cuts.last()) else {
        out.push(component.to_owned());
        return if out.len() > MAX_ALTERNATIVES {
            Err(format!("its braces make more than {MAX_ALTERNATIVES} alternatives in one component; use * or several patterns"))
        } else {
            Ok(())
        };
    };
    if depth > 0 {
        return Err("a { is not closed before the next /; write alternatives within one component, or \\{ for the character itself".into());
    }
    let (before, after) = (component.get(..open).unwrap_or_default(), component.get(close + 1..).unwrap_or_default());
    for cut in cuts.windows(2) {
        if let [from, to] = cut {
            expand(&format!("{before}{}{after}", component.get(from + 1..*to).unwrap_or_default()), out)?;
        }
    }
    Ok(())
}

/// Where the escape, set or byte that begins here ends.
fn unit_end(bytes: &[u8], at: usize) -> Result<usize, String> {
    match bytes.get(at) {
        Some(b'\\') if at + 1 == bytes.len() => Err("a component ends with a single backslash; write \\\\ for the character itself".into()),
        Some(b'\\') => Ok(at + 2),
        Some(b'[') => {
            let mut end = at + 1 + usize::from(matches!(bytes.get(at + 1), Some(b'!' | b'^')));
            end += usize::from(bytes.get(end) == Some(&b']'));
            while let Some(&byte) = bytes.get(end) {
                if byte == b']' {
                    return Ok(end + 1);
                }
                end += if byte == b'\\' { 2 } else { 1 };
            }
            Err("a [ is not closed before the next /; write [abc], or \\[ for the character itself".into())
        }
        _ => Ok(at + 1),
    }
}

impl Glob {
    fn parse(alternative: &str) -> Result<Glob, String> {
        unit_ends(alternative)?;
        let (mut literal, mut wild) = (String::new(), false);
        let mut regex = String::from(r"\A");
        let mut chars = alternative.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '*' if chars.peek() == Some(&'*') => {
                    return Err("** stands alone between two /; write a/**/b for any number of directories, or a single *".into());
                }
                '*' => regex.push_str("(?s-u:.)*"),
                '?' => regex.push_str("(?s:.)"),
                '[' => push_set(&mut chars, &mut regex)?,
                char => {
                    let char = if char == '\\' { chars.next().unwrap_or(char) } else { char };
                    literal.push(char);
                    regex.push_str(&regex::escape(char.encode_utf8(&mut [0; 4])));
                    continue;
                }
            }
            wild = true;
        }
        if !wild {
            return match literal.as_str() {
                "." | ".." => Err(format!("it has a component {literal}; write the path that this stands for")),
                _ => Ok(Glob::Literal(literal.into_bytes())),
            };
        }
        regex.push_str(r"\z");
        // The limits keep what a pattern takes below about a megabyte; beyond the second one matching is slower, not wrong.
        let regex = RegexBuilder::new(&regex).size_limit(1 << 20).dfa_size_limit(1 << 18).build();
        let regex = regex.map_err(|error| format!("a component is too complicated ({error}); write several simpler patterns"))?;
        Ok(Glob::Wild { hidden: alternative.starts_with('.') || alternative.starts_with("\\."), regex })
    }
}

fn unit_ends(text: &str) -> Result<(), String> {
    let mut at = 0;
    while at < text.len() {
        at = unit_end(text.as_bytes(), at)?;
    }
    Ok(())
}

/// Turns a set, whose `[` has been taken, into a regular expression's class.
fn push_set(chars: &mut Peekable<Chars<'_>>, regex: &mut String) -> Result<(), String> {
    let one = |chars: &mut Peekable<Chars<'_>>| chars.next().map(|char| if char == '\\' { chars.next().unwrap_or(char) } else { char });
    regex.push('[');
    if chars.next_if(|&char| matches!(char, '!' | '^')).is_some() {
        regex.push('^');
    }
    let mut first = true;
    while first || chars.peek().is_some_and(|&char| char != ']') {
        first = false;
        let Some(from) = one(chars) else { break };
        if from == '[' && matches!(chars.peek(), Some(':' | '.' | '=')) {
            return Err("named sets such as [:digit:] are not known; write [0-9]".into());
        }
        let mut to = from;
        if chars.peek() == Some(&'-') && chars.clone().nth(1).is_some_and(|char| char != ']') {
            chars.next();
            to = one(chars).unwrap_or(from);
        }
        if to < from {
            return Err(format!("the range [{from}-{to}] is the wrong way round; write [{to}-{from}]"));
        }
        // Writing to a string does not fail.
        let _ = write!(regex, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(from), u32::from(to));
    }
    chars.next();
    regex.push(']');
    Ok(())
}
