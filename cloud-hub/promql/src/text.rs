//! Quoted text of PromQL: as Go writes its string literals.

/// The text between double quotes, with what needs it escaped.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Takes the escapes out of what stood between `'` or `"`; the offending escape when there is none such.
pub fn unescaped(inner: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let mut bytes = [0; 4];
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
            continue;
        }
        let kind = chars.next().ok_or("a backslash at the end")?;
        let plain = match kind {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            '\\' | '\'' | '"' => u8::try_from(kind).ok(),
            _ => None,
        };
        if let Some(byte) = plain {
            out.push(byte);
            continue;
        }
        let (first, digits, radix) = match kind {
            'x' => (None, 2, 16),
            'u' => (None, 4, 16),
            'U' => (None, 8, 16),
            '0'..='7' => (Some(kind), 2, 8),
            _ => return Err(format!("unknown escape \\{kind}")),
        };
        let code: String = first.into_iter().chain(chars.by_ref().take(digits)).collect();
        let bad = || format!("bad escape \\{kind}{code}");
        if code.len() != digits + usize::from(first.is_some()) || code.starts_with('+') {
            return Err(bad());
        }
        let number = u32::from_str_radix(&code, radix).map_err(|_| bad())?;
        if matches!(kind, 'u' | 'U') {
            let c = char::from_u32(number).ok_or_else(bad)?;
            out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
        } else {
            out.push(u8::try_from(number).map_err(|_| bad())?);
        }
    }
    String::from_utf8(out).map_err(|_| "the escapes make no UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_gos() {
        let cases = [(r"a\n\t\\", "a\n\t\\"), (r"\x41\u00e9\101", "A\u{e9}A"), (r"\xc3\xa9", "\u{e9}")];
        for (inner, text) in cases {
            assert_eq!(unescaped(inner).as_deref(), Ok(text), "{inner}");
        }
        for inner in [r"\q", r"\x4", r"\xff", r"\ud800", r"\777", "\\", r"\u00"] {
            assert!(unescaped(inner).is_err(), "{inner}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(text in ".*") {
            let quoted = quoted(&text);
            let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap();
            prop_assert_eq!(unescaped(inner), Ok(text));
        }
    }
}
