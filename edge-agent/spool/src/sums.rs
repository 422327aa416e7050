//! Checksums of what the tables keep in few bytes, and of which one bit more or less would be another one.
//! Each covers the key too, so that no value is taken for that of another key.
//!
//! ```text
//! value: bytes | 4 CRC-32C of key and bytes   (little-endian)
//! ```

use crate::spool::SpoolError;

fn sum(key: &[u8], bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(key), bytes).to_le_bytes()
}

/// The value that keeps `bytes` under `key`.
pub fn summed(key: impl AsRef<[u8]>, bytes: &[u8]) -> Vec<u8> {
    [bytes, &sum(key.as_ref(), bytes)].concat()
}

/// What `value` keeps under `key`, unless one of them is damaged.
pub fn without_sum(key: impl AsRef<[u8]>, value: &[u8]) -> Option<&[u8]> {
    let (bytes, found) = value.split_last_chunk()?;
    (sum(key.as_ref(), bytes) == *found).then_some(bytes)
}

/// As [`without_sum`], of `what` with this number.
pub fn numbered(what: &str, number: u64, value: &[u8]) -> Result<Vec<u8>, SpoolError> {
    let bytes = without_sum(number.to_le_bytes(), value);
    bytes.map(<[u8]>::to_vec).ok_or_else(|| SpoolError::Corrupt(format!("{what} {number} is damaged")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_bit_of_value_or_key_goes_unseen() {
        let value = summed("boots", &[1, 2, 3]);
        assert_eq!(without_sum("boots", &value), Some(&[1, 2, 3][..]));
        assert_eq!(without_sum("coots", &value), None);
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(without_sum("boots", &damaged), None, "bit {bit}");
        }
        assert_eq!(without_sum("boots", &[]), None);
        let gap = summed(7_u64.to_le_bytes(), &[9]);
        assert_eq!(numbered("gap", 7, &gap).unwrap(), [9]);
        assert!(
            matches!(numbered("gap", 6, &gap), Err(SpoolError::Corrupt(why)) if why == "gap 6 is damaged")
        );
    }
}
