//! How near two words are: for remedies of typing mistakes. Pure.

/// Edits (insert, remove, replace) between two words. Words are cut at 64 characters: longer ones are nobody's typing mistake.
#[must_use]
pub fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().take(64).enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        let mut next = vec![before];
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            before = (diagonal + usize::from(a != *b)).min(before + 1).min(above + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
