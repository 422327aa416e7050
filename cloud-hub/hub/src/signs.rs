//! Characters that are not seen where a text is shown.

/// Whether a text for people may not have it: control characters, and those that turn the direction of what stands around them
/// (UAX #9: embeddings, overrides and isolates), with which a name can be made to read as another. The marks of single letters,
/// U+200E and U+200F, are allowed: who writes from right to left needs them.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_a_text_is_hidden_and_letters_are_not() {
        assert!(['\n', '\u{7f}', '\u{202e}', '\u{2066}', '\u{2069}'].into_iter().all(is_hidden));
        assert!(!"Pumpe 7, מַשְׁאֵבָה\u{200f} ポンプ 🚰".chars().any(is_hidden));
    }
}
