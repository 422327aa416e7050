//! What words alone cannot hold, in a table beside their column.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{
    EXACT_MAX, NULL, NULL_INDEX, Quality, VALUE_TEXT_BYTES_MAX, Value, ValueKind, any_nan, index_of,
    is_boxed, plain, word_of,
};

/// What a word alone cannot hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Boxed {
    /// Null, a number (a truth value as 0 or 1), an integer beyond 2^53, or a text.
    value: Value,
    quality: Quality,
}

impl Boxed {
    /// The quality.
    #[must_use]
    pub const fn quality(&self) -> Quality {
        self.quality
    }

    /// The value in a series of this kind.
    #[must_use]
    pub fn value(&self, kind: ValueKind) -> Value {
        match &self.value {
            Value::Float(number) => plain(*number, kind),
            other => other.clone(),
        }
    }

    /// What it is to who calculates: NaN but for good integers that are beyond doubles, which are rounded.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "calculations are those of doubles")]
    pub const fn number(&self) -> f64 {
        match (&self.value, self.quality) {
            (Value::Int(integer), Quality::Good) => *integer as f64,
            _ => f64::NAN,
        }
    }

    /// Adds its bytes: a byte of content and quality, then the content.
    pub fn write(&self, out: &mut Vec<u8>) {
        let quality = (self.quality as u8) << 4;
        match &self.value {
            Value::Null => out.push(quality),
            Value::Float(number) => {
                out.push(quality | 1);
                out.extend_from_slice(&number.to_bits().to_le_bytes());
            }
            Value::Bool(truth) => {
                out.push(quality | 1);
                out.extend_from_slice(&f64::from(u8::from(*truth)).to_bits().to_le_bytes());
            }
            Value::Int(integer) => {
                out.push(quality | 2);
                out.extend_from_slice(&integer.to_le_bytes());
            }
            Value::Text(text) => {
                out.push(quality | 3);
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&len.to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Reads what [`Boxed::write`] wrote from the beginning of `bytes`; none when it is not that.
    #[must_use]
    pub fn read(bytes: &mut &[u8]) -> Option<Self> {
        fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
            let (taken, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            Some(*taken)
        }
        let [head] = take(bytes)?;
        let quality = *Quality::ALL.get(usize::from(head >> 4))?;
        let value = match head & 15 {
            0 => Value::Null,
            1 => Value::Float(f64::from_bits(u64::from_le_bytes(take(bytes)?))),
            2 => Value::Int(i64::from_le_bytes(take(bytes)?)),
            3 => {
                let len = usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()?;
                if len > VALUE_TEXT_BYTES_MAX {
                    return None;
                }
                let (text, rest) = bytes.split_at_checked(len)?;
                *bytes = rest;
                Value::Text(std::str::from_utf8(text).ok()?.into())
            }
            _ => return None,
        };
        Some(Self { value, quality })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    fn hash(&self) -> u128 {
        xxh3_128(&self.bytes())
    }

    /// Bytes of its text; 0 of anything else.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match &self.value {
            Value::Text(text) => text.len(),
            _ => 0,
        }
    }
}

/// The entries that the boxed words of a column, or of several, stand for. What is equal has one entry.
///
/// An empty table takes the room of a pointer.
#[derive(Clone, Default)]
pub struct Boxes(Option<Box<Inner>>);

#[derive(Clone, Default)]
struct Inner {
    entries: Vec<Boxed>,
    // By the hash of their bytes, so that a text stands once; filled only once something is added.
    index: HashMap<u128, u32>,
    text_bytes: usize,
    wide: bool,
}

impl Inner {
    fn push(&mut self, boxed: Boxed) -> f64 {
        if self.index.len() < self.entries.len() {
            self.index = self.entries.iter().map(Boxed::hash).zip(0..).collect();
        }
        let next = u32::try_from(self.entries.len()).unwrap_or(NULL_INDEX);
        let at = *self.index.entry(boxed.hash()).or_insert(next);
        if at == next && next < NULL_INDEX {
            self.note(&boxed);
            self.entries.push(boxed);
        }
        word_of(at)
    }

    fn note(&mut self, boxed: &Boxed) {
        self.text_bytes += boxed.text_bytes();
        self.wide |= !boxed.number().is_nan();
    }
}

impl fmt::Debug for Boxes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries()).finish()
    }
}

impl PartialEq for Boxes {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Boxes {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// A table of these entries, whose words count from 0.
    #[must_use]
    pub fn of(entries: Vec<Boxed>) -> Self {
        if entries.is_empty() {
            return Self(None);
        }
        let mut inner = Inner::default();
        entries.iter().for_each(|boxed| inner.note(boxed));
        inner.entries = entries;
        Self(Some(Box::new(inner)))
    }

    /// The entries in the order of their numbers.
    #[must_use]
    pub fn entries(&self) -> &[Boxed] {
        self.0.as_ref().map(|inner| inner.entries.as_slice()).unwrap_or_default()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// About how much memory they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // An entry, its place in the index, and what a text of its own takes besides.
        const EACH: usize = 96;
        self.0.as_ref().map_or(0, |inner| inner.entries.len() * EACH + inner.text_bytes)
    }

    /// Whether some are numbers to who calculates, see [`Boxed::number`].
    #[must_use]
    pub fn are_wide(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.wide)
    }

    /// The word of a value; of a text only as much is kept as is allowed.
    pub fn word(&mut self, value: Value, quality: Quality) -> f64 {
        let value = match (value, quality) {
            (Value::Null, Quality::Good) => return NULL,
            (Value::Float(number), Quality::Good) if !is_boxed(number) => return number,
            (Value::Float(_), Quality::Good) => return f64::NAN,
            (Value::Bool(truth), Quality::Good) => return f64::from(u8::from(truth)),
            #[expect(clippy::cast_precision_loss, reason = "it is exact up to there")]
            (Value::Int(integer), _) if integer.unsigned_abs() <= EXACT_MAX => match quality {
                Quality::Good => return integer as f64,
                _ => Value::Float(integer as f64),
            },
            (Value::Bool(truth), _) => Value::Float(f64::from(u8::from(truth))),
            (Value::Text(text), _) if text.len() > VALUE_TEXT_BYTES_MAX => {
                let end = (0..=VALUE_TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
                Value::Text(text.get(..end.unwrap_or(0)).unwrap_or_default().into())
            }
            (other, _) => other,
        };
        self.add(Boxed { value, quality })
    }

    /// The word of an entry.
    pub fn add(&mut self, boxed: Boxed) -> f64 {
        self.0.get_or_insert_default().push(boxed)
    }

    /// What a word stands for; none when it stands for itself or null.
    #[must_use]
    pub fn get(&self, word: f64) -> Option<&Boxed> {
        self.entries().get(index_of(word)? as usize)
    }

    /// The value of a word in a series of this kind, with its quality.
    #[must_use]
    pub fn value(&self, word: f64, kind: ValueKind) -> (Value, Quality) {
        match self.get(word) {
            Some(boxed) => (boxed.value(kind), boxed.quality),
            None if is_boxed(word) => (Value::Null, Quality::Good),
            None => (plain(word, kind), Quality::Good),
        }
    }

    /// The words as who calculates sees them: those that are no numbers are NaN.
    #[must_use]
    pub fn numbers<'w>(&self, words: &'w [f64]) -> Cow<'w, [f64]> {
        if self.are_wide() {
            Cow::Owned(words.iter().map(|word| self.number(*word)).collect())
        } else {
            Cow::Borrowed(words)
        }
    }

    /// What a word is to who calculates; NaN when it is no number.
    #[must_use]
    pub fn number(&self, word: f64) -> f64 {
        match self.get(word) {
            Some(boxed) => boxed.number(),
            None if is_boxed(word) => f64::NAN,
            None => word,
        }
    }

    /// The number of the entry that a word stands for; none of null of good quality, and of what stands for itself.
    #[must_use]
    pub fn entry_of(word: f64) -> Option<u32> {
        index_of(word).filter(|index| *index != NULL_INDEX)
    }

    /// The word of the entry of this number.
    #[must_use]
    pub const fn word_of_entry(number: u32) -> f64 {
        word_of(number)
    }

    /// Makes words of `other`'s table words of this one.
    pub fn adopt(&mut self, words: &mut [f64], other: &Self) {
        let mut known: HashMap<u32, f64> = HashMap::new();
        for word in words.iter_mut().filter(|word| word.is_nan()) {
            let Some(index) = index_of(*word) else { continue };
            *word = match other.entries().get(index as usize) {
                Some(boxed) => *known.entry(index).or_insert_with(|| self.add(boxed.clone())),
                None => NULL,
            };
        }
    }

    /// Adds words of `other`'s table to `out` as words of this one.
    pub fn append(&mut self, out: &mut Vec<f64>, words: &[f64], other: &Self) {
        let start = out.len();
        out.extend_from_slice(words);
        if let Some(added) = out.get_mut(start..)
            && any_nan(added)
        {
            self.adopt(added, other);
        }
    }

    /// What tells whether two readings have the same value and quality, wherever their tables are.
    #[must_use]
    pub fn print(&self, word: f64) -> u64 {
        match self.get(word) {
            Some(boxed) => xxh3_64(&boxed.bytes()),
            None if is_boxed(word) => NULL.to_bits(),
            None => word.to_bits(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<f64>().prop_map(Value::Float),
            any::<i64>().prop_map(Value::Int),
            (-9_i64..9).prop_map(Value::Int),
            any::<bool>().prop_map(Value::Bool),
            "[a-zä]{0,8}".prop_map(|text| Value::Text(text.into())),
        ]
    }

    proptest! {
        #[test]
        fn a_value_comes_back_through_its_word_and_through_other_tables(
            rows in prop::collection::vec((values(), 0_usize..3), 0..40),
        ) {
            let mut boxes = Boxes::new();
            let words: Vec<f64> =
                rows.iter().map(|(value, q)| boxes.word(value.clone(), Quality::ALL[*q])).collect();
            let mut other = Boxes::new();
            other.word(Value::Text("before".into()), Quality::Good);
            let mut moved = vec![1.0];
            other.append(&mut moved, &words, &boxes);
            for ((value, quality), (word, moved)) in rows.iter().zip(words.iter().zip(&moved[1..])) {
                let kind = value.kind().unwrap_or_default();
                let expected = (value.clone(), Quality::ALL[*quality]);
                prop_assert_eq!(&boxes.value(*word, kind), &expected);
                prop_assert_eq!(&other.value(*moved, kind), &expected);
                prop_assert_eq!(boxes.print(*word), other.print(*moved));
                let number = match (value, quality) {
                    (Value::Float(number), 0) => *number,
                    (Value::Int(integer), 0) => *integer as f64,
                    (Value::Bool(truth), 0) => f64::from(u8::from(*truth)),
                    _ => f64::NAN,
                };
                prop_assert_eq!(boxes.number(*word).to_bits(), number.to_bits());
            }
            for boxed in boxes.entries() {
                let bytes = boxed.bytes();
                let mut rest = bytes.as_slice();
                prop_assert_eq!(Boxed::read(&mut rest), Some(boxed.clone()));
                prop_assert!(rest.is_empty());
                prop_assert!(Boxed::read(&mut &bytes[..bytes.len() - 1]).is_none());
            }
        }
    }

    #[test]
    fn what_is_equal_has_one_entry_and_what_has_none_is_null() {
        let mut boxes = Boxes::new();
        let words = ["on", "off", "on"].map(|text| boxes.word(Value::Text(text.into()), Quality::Good));
        assert_eq!((boxes.entries().len(), words[0].to_bits()), (2, words[2].to_bits()));
        assert_eq!(boxes.value(word_of(7), ValueKind::Float), (Value::Null, Quality::Good));
        assert!(boxes.number(word_of(0)).is_nan() && boxes.number(NULL).is_nan() && !boxes.are_wide());
        boxes.word(Value::Int(i64::MAX), Quality::Good);
        assert!(boxes.are_wide());
        // A foreign NaN that looks like a word is not one.
        let mut out = Vec::new();
        boxes.append(&mut out, &[word_of(1), f64::NAN], &Boxes::new());
        assert_eq!(
            out.iter().map(|word| word.to_bits()).collect::<Vec<_>>(),
            [NULL, f64::NAN].map(f64::to_bits)
        );
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let mut boxes = Boxes::new();
        let word = boxes.word(Value::Text("ä".repeat(3000).into()), Quality::Good);
        let (Value::Text(text), _) = boxes.value(word, ValueKind::Text) else { panic!("no text") };
        assert_eq!(text.len(), VALUE_TEXT_BYTES_MAX);
        let word = boxes.word(Value::Text(format!("a{}", "ä".repeat(3000)).into()), Quality::Good);
        let (Value::Text(text), _) = boxes.value(word, ValueKind::Text) else { panic!("no text") };
        assert_eq!(text.len(), VALUE_TEXT_BYTES_MAX - 1);
    }
}
