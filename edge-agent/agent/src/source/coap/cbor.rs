//! CBOR (RFC 8949) as JSON, for mappings that point into it. No I/O.

use serde_json::{Map, Number, Value as Json};

/// Deepest nesting, as that of JSON texts.
const DEPTH_MAX: u32 = 127;

/// Takes a payload of CBOR as JSON: numbers as keys become texts, bytes are left out as null, tags are passed over.
///
/// # Errors
/// It is none, or has something that JSON cannot say.
pub fn json(bytes: &[u8]) -> Result<Json, String> {
    let mut reader = Reader { rest: bytes };
    let json = reader.item(0)?.ok_or("an end stands where a value should")?;
    if reader.rest.is_empty() { Ok(json) } else { Err(format!("{} bytes follow it", reader.rest.len())) }
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: u64) -> Result<&'b [u8], String> {
        let parts = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let (taken, rest) = parts.ok_or("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of so many bytes, big-endian.
    fn number(&mut self, bytes: u64) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The argument of an item; none for an indefinite length.
    fn argument(&mut self, info: u8) -> Result<Option<u64>, String> {
        Ok(Some(match info {
            0..=23 => info.into(),
            24..=27 => self.number(1 << (info - 24))?,
            31 => return Ok(None),
            _ => return Err(format!("{info} is reserved")),
        }))
    }

    /// An item; none for the end of an indefinite one.
    fn item(&mut self, depth: u32) -> Result<Option<Json>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it nests deeper than {DEPTH_MAX} levels"));
        }
        let head = self.take(1)?.first().copied().unwrap_or_default();
        let (major, info) = (head >> 5, head & 31);
        if (major, info) == (7, 31) {
            return Ok(None);
        }
        let argument = self.argument(info)?;
        let definite = || argument.ok_or_else(|| "it has no length".to_owned());
        Ok(Some(match major {
            0 => Json::from(definite()?),
            1 => negative(definite()?),
            2 => {
                self.text_or_bytes(argument, 2)?;
                Json::Null
            }
            3 => {
                let bytes = self.text_or_bytes(argument, 3)?;
                Json::String(String::from_utf8(bytes).map_err(|_| "a text is no UTF-8")?)
            }
            4 => self.array(argument, depth)?,
            5 => self.map(argument, depth)?,
            6 => {
                return self
                    .item(depth + 1)
                    .and_then(|item| item.ok_or("a tag is of nothing".into()).map(Some));
            }
            _ => simple(info, definite()?),
        }))
    }

    fn text_or_bytes(&mut self, length: Option<u64>, major: u8) -> Result<Vec<u8>, String> {
        if let Some(length) = length {
            return Ok(self.take(length)?.to_vec());
        }
        let mut whole = Vec::new();
        loop {
            let head = self.take(1)?.first().copied().unwrap_or_default();
            if head == 0xFF {
                return Ok(whole);
            }
            let length = self.argument(head & 31)?.filter(|_| head >> 5 == major);
            whole.extend_from_slice(self.take(length.ok_or("a part is of another kind")?)?);
        }
    }

    fn array(&mut self, length: Option<u64>, depth: u32) -> Result<Json, String> {
        let mut items = Vec::new();
        let mut left = length;
        while left != Some(0) {
            match self.item(depth + 1)? {
                Some(item) => items.push(item),
                None if length.is_none() => break,
                None => return Err("a list ends too early".into()),
            }
            left = left.map(|left| left - 1);
        }
        Ok(Json::Array(items))
    }

    fn map(&mut self, length: Option<u64>, depth: u32) -> Result<Json, String> {
        let mut map = Map::new();
        let mut left = length;
        while left != Some(0) {
            let key = match self.item(depth + 1)? {
                Some(Json::String(key)) => key,
                Some(Json::Number(key)) => key.to_string(),
                None if length.is_none() => break,
                _ => return Err("a key is neither text nor number".into()),
            };
            let value = self.item(depth + 1)?.ok_or("a key has no value")?;
            map.insert(key, value);
            left = left.map(|left| left - 1);
        }
        Ok(Json::Object(map))
    }
}

fn negative(argument: u64) -> Json {
    i64::try_from(argument).map_or(Json::Null, |argument| Json::from(-1 - argument))
}

/// Truth values, null and floats. What is not finite is null.
fn simple(info: u8, argument: u64) -> Json {
    let real = |real: f64| Number::from_f64(real).map_or(Json::Null, Json::Number);
    match info {
        20 => Json::Bool(false),
        21 => Json::Bool(true),
        25 => real(half(argument)),
        // The shortest decimal that means the same float.
        26 => u32::try_from(argument)
            .ok()
            .and_then(|bits| f32::from_bits(bits).to_string().parse().ok())
            .map_or(Json::Null, real),
        27 => real(f64::from_bits(argument)),
        _ => Json::Null,
    }
}

/// A float of 16 bits (RFC 8949, appendix D).
fn half(bits: u64) -> f64 {
    let exponent = i32::try_from(bits >> 10 & 31).unwrap_or_default();
    let mantissa = f64::from(u32::try_from(bits & 1023).unwrap_or_default());
    let value = match exponent {
        0 => mantissa * 2_f64.powi(-24),
        31 if mantissa > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (mantissa + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json as of;

    use super::*;

    #[test]
    fn examples_of_the_standard_are_read() {
        // RFC 8949, appendix A.
        let examples: [(&[u8], Json); 16] = [
            (&[0x18, 0x64], of!(100)),
            (&[0x1B, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], of!(u64::MAX)),
            (&[0x39, 0x03, 0xE7], of!(-1000)),
            (&[0xF9, 0x3E, 0x00], of!(1.5)),
            (&[0xF9, 0xC4, 0x00], of!(-4.0)),
            (&[0xF9, 0x00, 0x01], of!(5.960464477539063e-8)),
            (&[0xFA, 0x47, 0xC3, 0x50, 0x00], of!(100_000.0)),
            (&[0xFB, 0x3F, 0xF1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9A], of!(1.1)),
            (&[0xF9, 0x7C, 0x00], Json::Null),
            (&[0xF5], of!(true)),
            (&[0xC1, 0x1A, 0x51, 0x4B, 0x67, 0xB0], of!(1_363_896_240)),
            (&[0x64, 0x49, 0x45, 0x54, 0x46], of!("IETF")),
            (&[0x83, 0x01, 0x82, 0x02, 0x03, 0x82, 0x04, 0x05], of!([1, [2, 3], [4, 5]])),
            (&[0x9F, 0x01, 0x82, 0x02, 0x03, 0x9F, 0x04, 0x05, 0xFF, 0xFF], of!([1, [2, 3], [4, 5]])),
            (&[0xBF, 0x61, 0x61, 0x01, 0x61, 0x62, 0x9F, 0x02, 0x03, 0xFF, 0xFF], of!({"a": 1, "b": [2, 3]})),
            (&[0xA1, 0x01, 0x7F, 0x62, 0x61, 0x62, 0x61, 0x63, 0xFF], of!({"1": "abc"})),
        ];
        for (bytes, expected) in examples {
            assert_eq!(json(bytes), Ok(expected), "{bytes:02X?}");
        }
        for wrong in
            [&[][..], &[0xFF], &[0x18], &[0x82, 0x01], &[0xA1, 0xF5, 0x01], &[0x01, 0x02], &[0x1C], &[0xC1]]
        {
            assert!(json(wrong).is_err(), "{wrong:02X?}");
        }
        assert!(json(&[0x81; 500]).unwrap_err().contains("127 levels"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = json(&bytes);
        }
    }
}
