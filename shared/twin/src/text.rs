//! How a text becomes another: what is deleted and inserted, so that what two ends change at once merges.
//!
//! What differs little is compared by characters. automerge does so without a bound, and takes seconds for a note that was
//! written anew, of which it keeps letters here and there: so beyond a bound words are compared.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;

/// Characters in which texts may differ that are compared by them.
const CHARACTERS_MAX: usize = 256;
/// Words in which texts may differ that are compared by them; what differs more is replaced as a whole.
const WORDS_MAX: usize = 512;

/// One place that changes, in code points of the text with those before it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Splice {
    pub at: usize,
    pub deleted: usize,
    pub inserted: String,
}

/// What changes, from the begin to the end.
pub(crate) fn splices(old: &str, new: &str) -> Vec<Splice> {
    let (old, new): (Vec<_>, Vec<_>) = (old.graphemes(true).collect(), new.graphemes(true).collect());
    let hunks = hunks(&old, &new, CHARACTERS_MAX).unwrap_or_else(|| by_words(&old, &new));
    let (mut splices, mut at, mut read) = (Vec::with_capacity(hunks.len()), 0, 0);
    for hunk in hunks {
        at += points(part(&old, &(read..hunk.old.start)));
        read = hunk.old.end;
        let inserted = part(&new, &hunk.new).concat();
        let length = inserted.chars().count();
        splices.push(Splice { at, deleted: points(part(&old, &hunk.old)), inserted });
        at += length;
    }
    splices
}

/// How many operations it takes: one for each code point that goes or comes.
pub(crate) fn operations(splices: &[Splice]) -> usize {
    splices.iter().map(|splice| splice.deleted + splice.inserted.chars().count()).sum()
}

/// What made `was` into `after`, done to what `now` has become of `was` meanwhile: what goes is of `was`, and what comes stands
/// behind what it stood behind. It takes no more operations than there.
pub(crate) fn carried(was: &str, after: &str, now: &str) -> Vec<Splice> {
    // Where each code point of `was` stands now, if it does.
    let (mut places, mut at_now) = (Vec::new(), 0);
    let stay = |places: &mut Vec<Option<usize>>, to: usize, at_now: &mut usize| {
        while places.len() < to {
            places.push(Some(*at_now));
            *at_now += 1;
        }
    };
    for (start, splice) in of_old(splices(was, now)) {
        stay(&mut places, start, &mut at_now);
        places.extend(std::iter::repeat_n(None, splice.deleted));
        at_now += splice.inserted.chars().count();
    }
    stay(&mut places, was.chars().count(), &mut at_now);
    let (mut carried, mut came, mut went): (Vec<Splice>, usize, usize) = (Vec::new(), 0, 0);
    for (start, splice) in of_old(splices(was, after)) {
        let before = part(&places, &(0..start)).iter().rev().flatten().next();
        let at = (before.map_or(0, |place| place + 1) + came).saturating_sub(went);
        came += splice.inserted.chars().count();
        if !splice.inserted.is_empty() {
            carried.push(Splice { at, deleted: 0, inserted: splice.inserted });
        }
        for place in part(&places, &(start..start + splice.deleted)).iter().flatten() {
            let at = (place + came).saturating_sub(went);
            went += 1;
            match carried.last_mut().filter(|last| last.deleted > 0 && last.at == at) {
                Some(last) => last.deleted += 1,
                None => carried.push(Splice { at, deleted: 1, inserted: String::new() }),
            }
        }
    }
    carried
}

/// Each with where it begins in the text before all of them.
fn of_old(splices: Vec<Splice>) -> impl Iterator<Item = (usize, Splice)> {
    let (mut came, mut went) = (0, 0);
    splices.into_iter().map(move |splice| {
        let start = (splice.at + went).saturating_sub(came);
        came += splice.inserted.chars().count();
        went += splice.deleted;
        (start, splice)
    })
}

fn points(characters: &[&str]) -> usize {
    characters.iter().map(|character| character.chars().count()).sum()
}

fn part<'a, T>(all: &'a [T], range: &Range<usize>) -> &'a [T] {
    all.get(range.clone()).unwrap_or_default()
}

/// A range of one sequence that another has something else for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    old: Range<usize>,
    new: Range<usize>,
}

/// By words, and within what is one place then by characters, as far as that is bounded.
fn by_words(old: &[&str], new: &[&str]) -> Vec<Hunk> {
    let (old_words, new_words) = (words(old), words(new));
    let text = |of: &[&str], words: &[Range<usize>]| -> Vec<String> {
        words.iter().map(|word| part(of, word).concat()).collect()
    };
    let coarse = hunks(&text(old, &old_words), &text(new, &new_words), WORDS_MAX)
        .unwrap_or_else(|| vec![Hunk { old: 0..old_words.len(), new: 0..new_words.len() }]);
    let mut fine = Vec::with_capacity(coarse.len());
    for hunk in coarse {
        let (of_old, of_new) = (span(&old_words, &hunk.old), span(&new_words, &hunk.new));
        match hunks(part(old, &of_old), part(new, &of_new), CHARACTERS_MAX.min(of_old.len() / 2)) {
            Some(hunks) => fine.extend(hunks.into_iter().map(|hunk| Hunk {
                old: hunk.old.start + of_old.start..hunk.old.end + of_old.start,
                new: hunk.new.start + of_new.start..hunk.new.end + of_new.start,
            })),
            None => fine.push(narrowed((old, of_old), (new, of_new))),
        }
    }
    fine
}

/// A long place without what is the same at its ends: of one word that is cut all else stays.
fn narrowed((old, of_old): (&[&str], Range<usize>), (new, of_new): (&[&str], Range<usize>)) -> Hunk {
    if of_old.len() <= CHARACTERS_MAX {
        return Hunk { old: of_old, new: of_new };
    }
    let (a, b) = (part(old, &of_old), part(new, &of_new));
    let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let left = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(left).take_while(|(a, b)| a == b).count();
    Hunk { old: of_old.start + head..of_old.end - tail, new: of_new.start + head..of_new.end - tail }
}

/// Each a run of letters and digits, or one other character.
fn words(characters: &[&str]) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut within = false;
    for (at, character) in characters.iter().enumerate() {
        let is_letter = character.chars().any(char::is_alphanumeric);
        match words.last_mut().filter(|_| within && is_letter) {
            Some(word) => word.end = at + 1,
            None => words.push(at..at + 1),
        }
        within = is_letter;
    }
    words
}

/// The characters of a run of words; where it is empty, the place that it is at.
fn span(words: &[Range<usize>], run: &Range<usize>) -> Range<usize> {
    let end = words.last().map_or(0, |word| word.end);
    let start = words.get(run.start).map_or(end, |word| word.start);
    let last = part(words, run).last();
    start..last.map_or(start, |word| word.end)
}

/// The fewest differences (Myers 1986, "An O(ND) difference algorithm"). `None` where there are more than `most`.
fn hunks<T: PartialEq>(old: &[T], new: &[T], most: usize) -> Option<Vec<Hunk>> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (old.get(head..)?, new.get(head..)?);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (old.get(..old.len() - tail)?, new.get(..new.len() - tail)?);
    let mut found: Vec<Hunk> = Vec::new();
    for (x, y, is_old) in path(old, new, most)? {
        let (x, y) = (x + head, y + head);
        let (x_end, y_end) = if is_old { (x + 1, y) } else { (x, y + 1) };
        match found.last_mut().filter(|last| last.old.end == x && last.new.end == y) {
            Some(last) => (last.old.end, last.new.end) = (x_end, y_end),
            None => found.push(Hunk { old: x..x_end, new: y..y_end }),
        }
    }
    Some(found)
}

/// The steps that are no matches, each from where it is: over one of the old, or one of the new.
fn path<T: PartialEq>(old: &[T], new: &[T], most: usize) -> Option<Vec<(usize, usize, bool)>> {
    if old.len().abs_diff(new.len()) > most {
        return None;
    }
    // Diagonal k, which is x - y, stands at k + most + 1. Of each it is kept how far x has come with so many differences.
    let zero = most + 1;
    let mut far = vec![0_usize; 2 * most + 3];
    let reach = |far: &[usize], k: usize| far.get(k).copied().unwrap_or(0);
    let mut before: Vec<Vec<usize>> = Vec::new();
    for differences in 0..=most {
        before.push(part(&far, &(zero - differences - 1..zero + differences + 2)).to_vec());
        for k in (zero - differences..=zero + differences).step_by(2) {
            let (left, right) = (reach(&far, k - 1), reach(&far, k + 1));
            let from_new = k == zero - differences || (k != zero + differences && left < right);
            let mut x = if from_new { right } else { left + 1 };
            if differences == 0 {
                x = 0;
            }
            let mut y = x + zero - k;
            while x < old.len() && y < new.len() && old.get(x) == new.get(y) {
                (x, y) = (x + 1, y + 1);
            }
            if let Some(place) = far.get_mut(k) {
                *place = x;
            }
            if x >= old.len() && y >= new.len() {
                return Some(walk_back(&before, (old.len(), new.len())));
            }
        }
    }
    None
}

fn walk_back(before: &[Vec<usize>], end: (usize, usize)) -> Vec<(usize, usize, bool)> {
    let ((mut x, mut y), mut steps) = (end, Vec::new());
    for (differences, far) in before.iter().enumerate().skip(1).rev() {
        // Here diagonal 0 stands in the middle.
        let k = x + differences + 1 - y;
        let reach = |k: usize| far.get(k).copied().unwrap_or(0);
        let (left, right) = (reach(k - 1), reach(k + 1));
        let from_new = k == 1 || (k != 2 * differences + 1 && left < right);
        let is_old = !from_new;
        let from_x = if is_old { left } else { right };
        let from_k = if is_old { k - 1 } else { k + 1 };
        (x, y) = (from_x, from_x + differences + 1 - from_k);
        steps.push((x, y, is_old));
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spliced(old: &str, splices: &[Splice]) -> String {
        let mut points: Vec<char> = old.chars().collect();
        for Splice { at, deleted, inserted } in splices {
            points.splice(*at..at + deleted, inserted.chars());
        }
        points.into_iter().collect()
    }

    #[test]
    fn small_changes_are_found_by_characters() {
        for (old, new, expected) in [
            ("", "", 0),
            ("a", "a", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("the pump is noisy", "the pump was noisy", 3),
            ("motor", "Motors", 3),
            ("abcabba", "cbabac", 5),
            // Marks stay with what they are on.
            ("cafe\u{301}", "cafe", 3),
        ] {
            let found = splices(old, new);
            assert_eq!((spliced(old, &found), operations(&found)), (new.to_owned(), expected), "{found:?}");
        }
    }

    #[test]
    fn a_text_that_is_written_anew_keeps_its_words_and_not_its_letters() {
        let line =
            |n: usize, word: &str| format!("{n}. {word} the bearing of pump {n} at the end of shift {n}.\n");
        let text = |word: &str| (0..120).map(|n| line(n, word)).collect::<String>();
        let found = splices(&text("grease"), &text("inspect"));
        assert_eq!(spliced(&text("grease"), &found), text("inspect"));
        assert!(found.len() <= 240, "{} places", found.len());
        let other: String = (0..800).map(|n| format!("{} ", n * 7919 % 99_991)).collect();
        let found = splices(&text("grease"), &other);
        assert_eq!(spliced(&text("grease"), &found), other);
        assert!(found.len() <= 2 * WORDS_MAX, "{} places", found.len());
    }

    #[test]
    fn what_was_changed_is_changed_in_what_became_of_the_text() {
        let carried = |was: &str, after: &str, now: &str| spliced(now, &carried(was, after, now));
        // Neither the word that came nor the one that went meanwhile is touched.
        let was = "the old pump in the hall is noisy";
        let after = "the pump in the yard is noisy";
        let now = "the old red pump in the hall was noisy, very";
        assert_eq!(carried(was, after, now), "the red pump in the yard was noisy, very");
    }

    proptest! {
        #[test]
        fn what_nobody_else_changed_becomes_what_it_was_made(
            was in "[ab c\u{301}ü]{0,200}", after in "[ab c\u{301}ü]{0,200}", now in "[ab c\u{301}ü]{0,200}",
        ) {
            prop_assert_eq!(spliced(&was, &carried(&was, &after, &was)), after.clone());
            prop_assert_eq!(spliced(&now, &carried(&was, &was, &now)), now.clone());
            let found = carried(&was, &after, &now);
            prop_assert!(operations(&found) <= operations(&splices(&was, &after)));
            let place = |splice: &Splice| splice.at + splice.deleted;
            let mut points: Vec<char> = now.chars().collect();
            for splice in &found {
                prop_assert!(place(splice) <= points.len(), "{found:?}");
                points.splice(splice.at..place(splice), splice.inserted.chars());
            }
        }

        #[test]
        fn any_text_becomes_any_other(old in "[ab c\u{301}ü]{0,400}", new in "[ab c\u{301}ü]{0,400}") {
            prop_assert_eq!(spliced(&old, &splices(&old, &new)), new);
        }
    }
}
