//! Histories that the property test found the source to get wrong; each is named for what it promises.

use super::model::Step::{self, *};
use super::model::play;
use super::writer::Act::*;

const ROOMY: usize = 64 << 20;
/// A batch or two and it is full.
const NARROW: usize = 24_000;

fn restart(meanwhile: Vec<super::writer::Act>) -> Step {
    Restart { kill: false, meanwhile }
}

#[test]
fn the_half_line_of_a_file_that_nothing_was_read_of_is_found_in_its_copy() {
    play(true, ROOMY, &[Do(Half), Turn, Do(CopyTruncate)]);
}

#[test]
fn a_copy_that_has_the_inode_of_a_file_long_gone_is_known_as_a_copy() {
    let again = [Do(Lines(3, 20)), Turn, Ack(1), Do(Recreate), Turn, Wait(6), Turn, Ack(1), Turn];
    let steps: Vec<_> = again.iter().cycle().take(36).cloned().chain([restart(vec![CopyTruncate, Lines(1, 3)])]).collect();
    play(true, ROOMY, &steps);
}

#[test]
fn a_copy_waits_for_its_original_that_was_truncated_and_renamed_while_there_was_no_room() {
    play(true, NARROW, &[Do(Lines(2, 1500)), Turn, Do(CopyTruncate), Do(Rename), Turn, Wait(6)]);
}

#[test]
fn a_closed_copy_that_is_written_over_is_left_to_the_newer_stream() {
    let steps = [Do(Lines(2, 9)), Turn, Do(CopyTruncate), Turn, Wait(700), Turn, Turn, Do(Lines(2, 9)), Turn, Ack(9), Do(CopyOver), Turn];
    play(true, ROOMY, &steps);
    play(false, ROOMY, &steps);
}

#[test]
fn a_file_that_grew_while_stopped_and_was_written_anew_before_it_was_read_is_booked() {
    let steps = [Do(Lines(1, 0)), Turn, Do(Lines(1, 0)), Do(CopyTruncate), Turn, Do(Lines(1, 5000)), restart(Vec::new()), Do(Regrow)];
    play(false, NARROW, &steps);
}

#[test]
fn what_comes_after_a_truncated_file_waits_for_what_that_waited_for() {
    let steps = [
        Do(Lines(1, 5000)),
        Turn,
        restart(vec![Rename, Lines(1, 0)]),
        restart(vec![Rename, Lines(1, 0)]),
        restart(vec![CopyTruncate, CopyOver]),
        Do(Lines(1, 0)),
    ];
    play(false, NARROW, &steps);
}

#[test]
fn a_file_truncated_and_renamed_at_once_goes_on_in_its_copy() {
    for all in [false, true] {
        play(all, ROOMY, &[Do(Lines(3, 9)), Turn, Do(Lines(3, 9)), Do(CopyTruncate), Do(Rename), Do(Lines(1, 9))]);
        play(all, ROOMY, &[Do(Lines(3, 9)), Turn, Ack(1), restart(vec![Lines(3, 9), CopyTruncate, Rename, Lines(1, 9)])]);
    }
}
