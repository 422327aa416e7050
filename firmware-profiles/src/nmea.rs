//! NMEA 0183: sentences of lines, by field.

/// Most fields of a sentence: it has at most 82 characters.
pub const FIELDS_MAX: u8 = 40;

/// Takes an address apart: `GGA.9` is field 9 of the sentence GGA.
///
/// # Errors
/// It is none; says what is allowed.
pub fn address(text: &str) -> Result<(String, u8), String> {
    let wrong =
        || format!("{text:?} is no field; allowed are for example GGA.9, with fields from 1 to {FIELDS_MAX}");
    let (sentence, field) = text.split_once('.').ok_or_else(wrong)?;
    let is_formatter = sentence.len() == 3
        && sentence.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let field = field.parse().ok().filter(|field| (1..=FIELDS_MAX).contains(field));
    if is_formatter { Ok((sentence.to_owned(), field.ok_or_else(wrong)?)) } else { Err(wrong()) }
}
