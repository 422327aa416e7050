//! The positions of sources in the tables. One that is damaged would have its source hand over readings a
//! second time, or leave some out: so each is kept twice, with its name and a checksum, and neither a bit in
//! the value nor one in the key makes it another one.
//!
//! ```text
//! value: copy | copy               copy: 2 length of the name | name | position | 4 CRC-32C   (little-endian)
//! ```

use redb::{ReadableTable, WriteTransaction};

use crate::spool::{CURSORS, SpoolError};

const LEN_BYTES: usize = 2;
const CRC_BYTES: usize = 4;

fn encode(name: &str, position: &[u8]) -> Result<Vec<u8>, SpoolError> {
    let mut copy = u16::try_from(name.len()).map_err(SpoolError::failed)?.to_le_bytes().to_vec();
    copy.extend_from_slice(name.as_bytes());
    copy.extend_from_slice(position);
    copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
    Ok(copy.repeat(2))
}

/// The name and the position of the first copy that is whole.
fn decode(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (one, other) = value.split_at_checked(value.len() / 2)?;
    [one, other].into_iter().find_map(|copy| {
        let (body, crc) = copy.split_last_chunk::<CRC_BYTES>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (len, rest) = body.split_first_chunk::<LEN_BYTES>()?;
        rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
    })
}

/// Writes positions by name.
pub fn write<'a>(
    tx: &WriteTransaction,
    cursors: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Result<(), SpoolError> {
    let mut cursors = cursors.peekable();
    if cursors.peek().is_none() {
        return Ok(());
    }
    let mut table = tx.open_table(CURSORS).map_err(SpoolError::storage)?;
    for (name, position) in cursors {
        table.insert(name, encode(name, position)?.as_slice()).map_err(SpoolError::storage)?;
    }
    Ok(())
}

/// The position under `name`, of which there may be an older one under a damaged key.
pub fn read(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<Vec<u8>>, SpoolError> {
    if let Some(value) = table.get(name).map_err(SpoolError::storage)?
        && let Some((found, position)) = decode(value.value())
        && found == name.as_bytes()
    {
        return Ok(Some(position.to_vec()));
    }
    for entry in table.iter().map_err(SpoolError::storage)? {
        let (_, value) = entry.map_err(SpoolError::storage)?;
        match decode(value.value()) {
            Some((found, position)) if found == name.as_bytes() => return Ok(Some(position.to_vec())),
            Some(_) => {}
            None => return Err(SpoolError::Corrupt("the position of a source is damaged".into())),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_in_a_value_costs_nothing_and_two_are_told() {
        let value = encode("source", &[1, 2, 3]).unwrap();
        assert_eq!(decode(&value), Some((&b"source"[..], &[1, 2, 3][..])));
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 4;
            assert_eq!(decode(&damaged), Some((&b"source"[..], &[1, 2, 3][..])), "byte {at}");
            let other = (at + value.len() / 2) % value.len();
            damaged[other] ^= 1;
            assert_eq!(decode(&damaged), None, "bytes {at} and {other}");
        }
        assert_eq!((decode(&[]), decode(&value[..5])), (None, None));
    }
}
