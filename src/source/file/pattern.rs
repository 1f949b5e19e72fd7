//! Paths with wildcards: what may stand in them, and what they match. Pure: bytes in, yes or no out; the walk that asks is in
//! [`super::discover`].
//!
//! | written | matches |
//! | --- | --- |
//! | `*` | any bytes within one component, none included |
//! | `?` | one character; a byte that is no UTF-8 is only matched by `*` |
//! | `[abc0-9]`, `[!abc]` | one character in, or not in, the set |
//! | `{a,b*}` | each alternative, as if it had been written out in a pattern of its own; not across a `/` |
//! | `**` | alone between two `/`: any number of directories, none included; at the end: every file below |
//! | `\x` | the character `x` itself |
//!
//! As in shells, a name that begins with a dot is matched only by a component that begins with a dot, and `**` enters no hidden directory.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use glob::{Hidden, Part};

mod glob;
#[cfg(test)]
mod tests;

/// An absolute path with wildcards, see the table of this module. Two are equal when they are written alike.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    /// The components after the first `/`; never empty, the last is a [`Part::Name`], no two [`Part::AnyDirs`] follow each other.
    parts: Vec<Part>,
    /// How many of them, from the first, are the fixed part.
    fixed: usize,
}

impl Pattern {
    /// Reads a pattern. The error says what is wrong and what would be right, without naming the pattern.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() {
            return Err("the path is empty; write an absolute one such as /var/log/app/*.log".into());
        }
        if !text.starts_with('/') {
            return Err(format!("the path is relative; write it from the root, such as /var/log/{text}"));
        }
        if text.ends_with('/') {
            return Err(
                "the path names a directory; end it with /* for its files, or with /** for those of its subdirectories as well".into()
            );
        }
        if text.contains('\0') {
            return Err("the path contains a NUL byte, which no file name can".into());
        }
        let mut parts = Vec::new();
        for component in text.split('/').filter(|component| !component.is_empty()) {
            let part = Part::parse(component)?;
            if !matches!((&part, parts.last()), (Part::AnyDirs, Some(Part::AnyDirs))) {
                parts.push(part);
            }
        }
        if let Some(Part::AnyDirs) = parts.last() {
            parts.push(Part::parse("*")?);
        }
        let fixed = parts.iter().take(parts.len().saturating_sub(1)).take_while(|part| part.literal().is_some()).count();
        Ok(Pattern { text: text.to_owned(), parts, fixed })
    }

    /// The directory part without wildcards: the administrator's own word, in which links are followed whoever made them.
    #[must_use]
    pub fn fixed(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        for name in self.parts.iter().take(self.fixed).filter_map(Part::literal) {
            path.push(std::ffi::OsStr::from_bytes(name));
        }
        path
    }

    /// Whether it matches this path, which is to be absolute and without `..`.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.matches_with(path, Hidden::Kept)
    }

    /// Whether it would match this path but for the rule that hides names with a leading dot.
    #[must_use]
    pub fn matches_but_for_hidden(&self, path: &Path) -> bool {
        !self.matches(path) && self.matches_with(path, Hidden::Shown)
    }

    fn matches_with(&self, path: &Path, hidden: Hidden) -> bool {
        let Some((last, dirs)) = names(path).as_deref().and_then(<[_]>::split_last).map(|(last, dirs)| (*last, dirs.to_vec())) else {
            return false;
        };
        let patterns = std::slice::from_ref(self);
        let mut standing = Standing::at_root(patterns);
        for dir in dirs {
            standing = standing.below_with(patterns, dir, hidden);
        }
        standing.matched_with(patterns, last, hidden).next().is_some()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

/// The names a path is made of; `None` for one that is relative or has `..` in it.
#[must_use]
pub fn names(path: &Path) -> Option<Vec<&[u8]>> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    components.map(|component| if let Component::Normal(name) = component { Some(name.as_bytes()) } else { None }).collect()
}

/// Where a walk stands in several patterns at once: per pattern, the parts that the next name may match. Lets each directory be read once,
/// however many patterns lead through it. At most the patterns' parts taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(Vec<(usize, usize)>);

impl Standing {
    /// At the root directory, in all patterns.
    #[must_use]
    pub fn at_root(patterns: &[Pattern]) -> Standing {
        let mut standing = Standing::default();
        for number in 0..patterns.len() {
            standing.enter(patterns, number, 0);
        }
        standing
    }

    /// Stands at the fixed part of one more pattern.
    pub fn add_fixed(&mut self, patterns: &[Pattern], number: usize) {
        if let Some(pattern) = patterns.get(number) {
            self.enter(patterns, number, pattern.fixed);
        }
    }

    fn enter(&mut self, patterns: &[Pattern], number: usize, part: usize) {
        if !self.0.contains(&(number, part)) {
            self.0.push((number, part));
            if let Some(Part::AnyDirs) = part_of(patterns, number, part) {
                self.enter(patterns, number, part + 1);
            }
        }
    }

    /// Whether nothing further can match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where it stands in the subdirectory of that name.
    #[must_use]
    pub fn below(&self, patterns: &[Pattern], dir: &[u8]) -> Standing {
        self.below_with(patterns, dir, Hidden::Kept)
    }

    fn below_with(&self, patterns: &[Pattern], dir: &[u8], hidden: Hidden) -> Standing {
        let mut below = Standing::default();
        for &(number, part) in &self.0 {
            match part_of(patterns, number, part) {
                Some(Part::AnyDirs) if hidden == Hidden::Shown || !dir.starts_with(b".") => below.enter(patterns, number, part),
                Some(name @ Part::Name(_)) if part_of(patterns, number, part + 1).is_some() && name.matches(dir, hidden) => {
                    below.enter(patterns, number, part + 1);
                }
                _ => {}
            }
        }
        below
    }

    /// The numbers of the patterns that a file of that name in this directory matches; one may come twice.
    pub fn matched<'a>(&'a self, patterns: &'a [Pattern], file: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        self.matched_with(patterns, file, Hidden::Kept)
    }

    fn matched_with<'a>(&'a self, patterns: &'a [Pattern], file: &'a [u8], hidden: Hidden) -> impl Iterator<Item = usize> + 'a {
        let ends = self.0.iter().filter(move |&&(number, part)| part_of(patterns, number, part + 1).is_none());
        ends.filter(move |&&(number, part)| part_of(patterns, number, part).is_some_and(|part| part.matches(file, hidden)))
            .map(|&(number, _)| number)
    }

    /// The only names that can matter in this directory, where no wildcard is next: it need not be read, nor be readable.
    #[must_use]
    pub fn only<'a>(&self, patterns: &'a [Pattern]) -> Option<Vec<&'a [u8]>> {
        let mut names: Vec<_> =
            self.0.iter().map(|&(number, part)| part_of(patterns, number, part).and_then(Part::literal)).collect::<Option<_>>()?;
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

fn part_of(patterns: &[Pattern], number: usize, part: usize) -> Option<&Part> {
    patterns.get(number).and_then(|pattern| pattern.parts.get(part))
}
