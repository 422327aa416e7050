//! What tells two profiles of one name apart: a digest of what a file says, whatever its comments, its order and its spaces are.
//!
//! It names versions and proves nothing: whoever may write profiles may write another one with the same digest.

use toml::{Table, Value};
use xxhash_rust::xxh3::Xxh3;

use crate::Profile;

impl Profile {
    /// The digest of all that its file says, for whatever firmware; also of what only others than this crate read.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        *self.source.digest.get_or_init(|| of(&self.source.text))
    }
}

fn of(text: &str) -> [u8; 16] {
    let mut hash = Xxh3::new();
    match text.parse::<Table>() {
        Ok(table) => take(&mut hash, &Value::Table(table)),
        // It was read before; what the two readers of TOML do not agree about is told apart by its bytes.
        Err(_) => hash.update(text.as_bytes()),
    }
    hash.digest128().to_be_bytes()
}

/// Each value behind a letter of its kind and, where it has parts, their number: so no two of them are the same bytes.
fn take(hash: &mut Xxh3, value: &Value) {
    let mut text = |kind: &[u8], text: &str| {
        hash.update(kind);
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    match value {
        Value::String(value) => text(b"s", value),
        Value::Integer(value) => text(b"i", &value.to_string()),
        Value::Float(value) => text(b"f", &value.to_string()),
        Value::Boolean(value) => text(b"b", &value.to_string()),
        Value::Datetime(value) => text(b"d", &value.to_string()),
        Value::Array(values) => {
            hash.update(b"a");
            hash.update(&(values.len() as u64).to_be_bytes());
            values.iter().for_each(|value| take(hash, value));
        }
        Value::Table(table) => {
            hash.update(b"t");
            hash.update(&(table.len() as u64).to_be_bytes());
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in entries {
                hash.update(&(key.len() as u64).to_be_bytes());
                hash.update(key.as_bytes());
                take(hash, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped;

    #[test]
    fn the_same_said_otherwise_is_the_same_and_anything_else_is_not() {
        let text = "name = \"pump\"\n[points]\nflow = { unit = \"l/s\", min = 0, max = 90_000 }\n";
        let digest = |text: &str| Profile::parse("pump.toml", text).unwrap().digest();
        let same = "# A pump\nname = 'pump'\n\n[points.flow]\nmax = 90000\nmin = 0\nunit = \"l/s\"\n";
        assert_eq!(digest(text), digest(same));
        for other in [
            text.replace("90_000", "90_001"),
            text.replace("min = 0", "min = 0.0"),
            text.replace("l/s", "m3/h"),
            format!("{text}[[pipeline]]\nname = \"x\"\n"),
        ] {
            assert_ne!(digest(text), digest(&other), "{other}");
        }
        let versions = Profile::parse("pump.toml", text).unwrap();
        assert_eq!(versions.for_firmware(Some("1.2")).unwrap().digest(), digest(text));
        let mut all: Vec<_> =
            shipped::ALL.iter().map(|shipped| shipped.profile().unwrap().digest()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), shipped::ALL.len());
    }
}
