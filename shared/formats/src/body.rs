//! Bodies as they were before they were compressed, and never more of them than is allowed.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use crate::{FormatError, PLAIN_BYTES_MAX};

/// What is allocated before it is known how much comes.
const FIRST_BYTES: usize = 64 * 1024;

/// What a gzip body holds.
///
/// # Errors
/// It is no gzip, is cut short, or holds more than [`PLAIN_BYTES_MAX`].
pub fn gunzip(body: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut plain = Vec::with_capacity(FIRST_BYTES.min(body.len().saturating_mul(4)));
    let mut limited = MultiGzDecoder::new(body).take(PLAIN_BYTES_MAX as u64 + 1);
    limited.read_to_end(&mut plain).map_err(|error| {
        FormatError::Malformed(format!("the body is no gzip, which its Content-Encoding says: {error}"))
    })?;
    within(plain.len())?;
    Ok(plain)
}

/// What a snappy block holds.
///
/// # Errors
/// It is no snappy block, or announces more than [`PLAIN_BYTES_MAX`].
pub fn unsnap(body: &[u8]) -> Result<Vec<u8>, FormatError> {
    let wrong = |error| FormatError::Malformed(format!("the body is no snappy block: {error}"));
    within(snap::raw::decompress_len(body).map_err(wrong)?)?;
    snap::raw::Decoder::new().decompress_vec(body).map_err(wrong)
}

/// Whether a request of so many bytes is taken.
///
/// # Errors
/// It is longer than [`PLAIN_BYTES_MAX`].
pub fn within(bytes: usize) -> Result<(), FormatError> {
    if bytes > PLAIN_BYTES_MAX {
        Err(FormatError::too_much("bytes once it is decompressed", PLAIN_BYTES_MAX))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn too_much(found: Result<Vec<u8>, FormatError>) -> bool {
        matches!(found, Err(FormatError::TooMuch { .. }))
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_and_a_body_of_the_limit_is_not() {
        let bomb = gzip(&vec![0; PLAIN_BYTES_MAX + 1]);
        assert!(bomb.len() < 64 * 1024, "{}", bomb.len());
        assert!(too_much(gunzip(&bomb)));
        assert_eq!(gunzip(&gzip(&vec![7; PLAIN_BYTES_MAX])).unwrap().len(), PLAIN_BYTES_MAX);
        // Parts one after the other are one body, and have one limit.
        assert!(too_much(gunzip(&gzip(&vec![0; PLAIN_BYTES_MAX / 2 + 1]).repeat(2))));
        let bomb = snap::raw::Encoder::new().compress_vec(&vec![0; PLAIN_BYTES_MAX + 1]).unwrap();
        assert!(too_much(unsnap(&bomb)));
        // A length of 4 GiB that nothing stands behind.
        assert!(too_much(unsnap(&[0xff, 0xff, 0xff, 0xff, 0x0f])));
    }

    #[test]
    fn a_body_that_is_cut_short_is_refused() {
        let whole = gzip(b"cpu v=1\ncpu v=2\n");
        assert!(matches!(gunzip(whole.get(..whole.len() - 4).unwrap()), Err(FormatError::Malformed(_))));
        assert!(matches!(gunzip(b"cpu v=1\n"), Err(FormatError::Malformed(_))));
        assert!(matches!(unsnap(b"\x05ab"), Err(FormatError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(plain in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(&gunzip(&gzip(&plain)).unwrap(), &plain);
            let snapped = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
            prop_assert_eq!(&unsnap(&snapped).unwrap(), &plain);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for plain in [gunzip(&bytes), unsnap(&bytes)].into_iter().flatten() {
                prop_assert!(plain.len() <= PLAIN_BYTES_MAX);
            }
        }
    }
}
