//! Registers to what stands in them, and back.

use super::{Order, Register};
use crate::conversion::{Raw, Reason};
use crate::encoding::Encoding;

/// What stands in these words.
#[expect(clippy::cast_possible_truncation, reason = "of as many bits as are kept")]
pub fn raw(register: &Register, words: &[u16]) -> Result<Raw, Reason> {
    let expected = usize::from(register.count());
    if words.len() != expected {
        return Err(Reason::Length { expected, found: words.len() });
    }
    if register.function.is_bits() {
        return Ok(Raw::Whole(i128::from(words.iter().any(|word| *word != 0))));
    }
    if let Encoding::Text { bytes } = register.encoding {
        return text(register, words, usize::from(bytes));
    }
    let bits = bits(register, words);
    Ok(match register.encoding {
        Encoding::Bool => Raw::Whole(i128::from(bits != 0)),
        Encoding::I16 => Raw::Whole(i128::from(bits as i16)),
        Encoding::I32 => Raw::Whole(i128::from(bits as i32)),
        Encoding::I64 => Raw::Whole(i128::from(bits.cast_signed())),
        Encoding::F32 => Raw::Real(shortest(f32::from_bits(bits as u32))?),
        Encoding::F64 => Raw::Real(finite(f64::from_bits(bits))?),
        Encoding::Bcd16 => Raw::Whole(bcd(bits, 4)?),
        Encoding::Bcd32 => Raw::Whole(bcd(bits, 8)?),
        _ => Raw::Whole(i128::from(bits)),
    })
}

/// The words of what stands there; none when it does not fit.
pub fn words(register: &Register, raw: &Raw) -> Option<Vec<u16>> {
    if register.function.is_bits() {
        let Raw::Whole(whole @ (0 | 1)) = raw else { return None };
        return Some(vec![u16::from(*whole == 1)]);
    }
    let count = register.encoding.registers()?;
    let bits = match (register.encoding, raw) {
        (Encoding::Text { bytes }, Raw::Text(text)) => return text_words(register, text, usize::from(bytes)),
        (Encoding::F32, Raw::Real(real)) => {
            #[expect(clippy::cast_possible_truncation, reason = "the nearest is what the device can hold")]
            let single = *real as f32;
            if !single.is_finite() {
                return None;
            }
            u64::from(single.to_bits())
        }
        (Encoding::F64, Raw::Real(real)) if real.is_finite() => real.to_bits(),
        #[expect(clippy::cast_precision_loss, reason = "the nearest is what the device can hold")]
        (Encoding::F32 | Encoding::F64, Raw::Whole(whole)) => {
            return words(register, &Raw::Real(*whole as f64));
        }
        (encoding, Raw::Whole(whole)) => {
            let (min, max) = encoding.whole_range()?;
            if !(min..=max).contains(whole) {
                return None;
            }
            match encoding {
                Encoding::Bcd16 | Encoding::Bcd32 => to_bcd(*whole),
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "two's complement"
                )]
                _ => *whole as u64,
            }
        }
        _ => return None,
    };
    Some(from_bits(register, bits, count))
}

/// Which bits of each word these bits of the number are.
pub fn masks(register: &Register, bits: u64) -> Vec<u16> {
    from_bits(register, bits, register.count())
}

/// The words as one number, the most significant first, whatever the order.
fn bits(register: &Register, words: &[u16]) -> u64 {
    let swap = |word: &u16| if register.byte_order == Order::Little { word.swap_bytes() } else { *word };
    let add = |bits: u64, word: u16| bits << 16 | u64::from(word);
    match register.word_order {
        Order::Big => words.iter().map(swap).fold(0, add),
        Order::Little => words.iter().rev().map(swap).fold(0, add),
    }
}

fn from_bits(register: &Register, bits: u64, count: u16) -> Vec<u16> {
    let swap = |word: u16| if register.byte_order == Order::Little { word.swap_bytes() } else { word };
    #[expect(clippy::cast_possible_truncation, reason = "word by word")]
    let words = (0..count).rev().map(|at| swap((bits >> (16 * u32::from(at))) as u16));
    match register.word_order {
        Order::Big => words.collect(),
        Order::Little => words.rev().collect(),
    }
}

/// The value of the shortest decimal that means this float: 230.1, not 230.10000610351562. It becomes the same float
/// again, and packs far better.
fn shortest(single: f32) -> Result<f64, Reason> {
    let single = if single.is_finite() { single } else { return Err(Reason::NotFinite(f64::from(single))) };
    Ok(format!("{single:e}").parse().unwrap_or_else(|_| f64::from(single)))
}

const fn finite(double: f64) -> Result<f64, Reason> {
    if double.is_finite() { Ok(double) } else { Err(Reason::NotFinite(double)) }
}

fn bcd(bits: u64, digits: u32) -> Result<i128, Reason> {
    (0..digits).rev().try_fold(0, |number, at| {
        let digit = bits >> (4 * at) & 0xF;
        if digit > 9 { Err(Reason::Digits) } else { Ok(number * 10 + i128::from(digit)) }
    })
}

fn to_bcd(number: i128) -> u64 {
    let digit = |at: u32| u64::try_from(number / 10_i128.pow(at) % 10).unwrap_or(0) << (4 * at);
    (0..8).map(digit).sum()
}

/// A device that fills a text with 0xFF has none.
fn text(register: &Register, words: &[u16], len: usize) -> Result<Raw, Reason> {
    let bytes = |word: &u16| match register.byte_order {
        Order::Big => word.to_be_bytes(),
        Order::Little => word.to_le_bytes(),
    };
    let bytes: Vec<u8> = words.iter().flat_map(bytes).take(len).collect();
    if bytes.iter().all(|byte| *byte == 0xFF) {
        return Err(Reason::Absent);
    }
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| Reason::NotText)?;
    Ok(Raw::Text(text.trim_end().to_owned()))
}

fn text_words(register: &Register, text: &str, len: usize) -> Option<Vec<u16>> {
    if text.len() > len || text.contains('\0') {
        return None;
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(len.next_multiple_of(2), 0);
    let word = |pair: &[u8]| {
        let pair = [pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)];
        match register.byte_order {
            Order::Big => u16::from_be_bytes(pair),
            Order::Little => u16::from_le_bytes(pair),
        }
    };
    Some(bytes.chunks(2).map(word).collect())
}
