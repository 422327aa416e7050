//! What an image is and how large, by its own bytes: PNG (RFC 2083), JPEG (ITU-T T.81) or WebP (RFC 9649). Nothing is
//! decoded here; the size in pixels is looked at because a few bytes may stand for gigabytes of them in a browser.

/// Most pixels: what a browser holds of it takes four bytes each.
pub const PIXELS_MAX: u64 = 40_000_000;
/// Most pixels of a side: the limit of browsers' canvases.
pub const SIDE_MAX: u32 = 16_384;

/// An image that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Its media type.
    pub media: &'static str,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
}

/// Why an image is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// Its first bytes are of nothing that is.
    #[error("the file is no PNG, JPEG or WebP by its first bytes, and these are allowed")]
    Kind,
    /// It ends before it says how large it is, or says so wrongly.
    #[error("the {media} file does not say how large its image is")]
    Cut {
        /// What its first bytes are of.
        media: &'static str,
    },
    /// It is too large for browsers.
    #[error("the image has {width} × {height} pixels; allowed are {SIDE_MAX} a side and {PIXELS_MAX} in all")]
    Large {
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
}

impl Image {
    /// By the bytes of a file.
    ///
    /// # Errors
    /// It is none that is taken.
    pub fn of(bytes: &[u8]) -> Result<Self, NoImage> {
        let (media, size) = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            ("image/png", png(bytes))
        } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            ("image/jpeg", jpeg(bytes))
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            ("image/webp", webp(bytes))
        } else {
            return Err(NoImage::Kind);
        };
        let size = size.filter(|(width, height)| *width > 0 && *height > 0);
        let (width, height) = size.ok_or(NoImage::Cut { media })?;
        if width > SIDE_MAX || height > SIDE_MAX || u64::from(width) * u64::from(height) > PIXELS_MAX {
            return Err(NoImage::Large { width, height });
        }
        Ok(Self { media, width, height })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The first chunk is the header, and begins with both.
fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    (array::<4>(bytes, 12)? == *b"IHDR")
        .then(|| Some((u32::from_be_bytes(array(bytes, 16)?), u32::from_be_bytes(array(bytes, 20)?))))?
}

/// Segments with their lengths, until a frame header.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2_usize;
    loop {
        let [mark, kind] = array(bytes, at)?;
        if mark != 0xFF {
            return None;
        }
        match kind {
            // Any number of bytes of 0xFF may stand before a marker.
            0xFF => at += 1,
            // Frame headers of all kinds of coding; between them stand tables and what is reserved.
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                let (height, width) = (array(bytes, at + 5)?, array(bytes, at + 7)?);
                return Some((u16::from_be_bytes(width).into(), u16::from_be_bytes(height).into()));
            }
            // The image's data, or its end, before any frame.
            0xD8..=0xDA => return None,
            // Markers that stand alone.
            0x01 | 0xD0..=0xD7 => at += 2,
            _ => {
                let length = usize::from(u16::from_be_bytes(array(bytes, at + 2)?));
                at = at.checked_add(2)?.checked_add(length.max(2))?;
            }
        }
    }
}

/// The first chunk is of one of three kinds.
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match &array::<4>(bytes, 12)? {
        b"VP8X" => {
            let side = |at| {
                let [a, b, c] = array(bytes, at)?;
                Some(u32::from_le_bytes([a, b, c, 0]) + 1)
            };
            Some((side(24)?, side(27)?))
        }
        b"VP8L" if array::<1>(bytes, 20)? == [0x2F] => {
            let bits = u32::from_le_bytes(array(bytes, 21)?);
            Some(((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1))
        }
        b"VP8 " if array::<3>(bytes, 23)? == [0x9D, 0x01, 0x2A] => {
            let side = |at| Some(u32::from(u16::from_le_bytes(array(bytes, at)?) & 0x3FFF));
            Some((side(26)?, side(28)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn png_of(width: u32, height: u32) -> Vec<u8> {
        let header =
            [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".as_slice(), &width.to_be_bytes(), &height.to_be_bytes()];
        header.concat()
    }

    fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
        let app = [0xFF, 0xE0, 0, 4, 1, 2];
        let frame = [0xFF, 0xFF, 0xC2, 0, 17, 8];
        [&[0xFF, 0xD8][..], &app, &frame, &height.to_be_bytes(), &width.to_be_bytes()].concat()
    }

    fn webp_of(chunk: &[u8; 4], rest: &[u8]) -> Vec<u8> {
        [b"RIFF\0\0\0\0WEBP".as_slice(), chunk, &[0; 4], rest].concat()
    }

    #[test]
    fn an_image_is_what_its_first_bytes_say_with_its_size() {
        let size = |bytes: &[u8]| Image::of(bytes).map(|image| (image.media, image.width, image.height));
        assert_eq!(size(&png_of(640, 480)), Ok(("image/png", 640, 480)));
        assert_eq!(size(&jpeg_of(640, 480)), Ok(("image/jpeg", 640, 480)));
        let extended = webp_of(b"VP8X", &[0, 0, 0, 0, 0x7F, 2, 0, 0xDF, 1, 0]);
        assert_eq!(size(&extended), Ok(("image/webp", 640, 480)));
        let lossless = 639_u32 | (479 << 14);
        let lossless = webp_of(b"VP8L", &[&[0x2F][..], &lossless.to_le_bytes()].concat());
        assert_eq!(size(&lossless), Ok(("image/webp", 640, 480)));
        let lossy = webp_of(b"VP8 ", &[0, 0, 0, 0x9D, 1, 0x2A, 0x80, 2, 0xE0, 1]);
        assert_eq!(size(&lossy), Ok(("image/webp", 640, 480)));
    }

    #[test]
    fn what_a_browser_would_run_or_cannot_hold_is_refused() {
        for file in ["<svg xmlns='http://www.w3.org/2000/svg'/>", "<!doctype html>", "GIF89a", "", "BM"] {
            assert_eq!(Image::of(file.as_bytes()), Err(NoImage::Kind), "{file}");
        }
        assert_eq!(Image::of(&png_of(60_000, 60_000)), Err(NoImage::Large { width: 60_000, height: 60_000 }));
        assert!(matches!(Image::of(&png_of(10_000, 10_000)), Err(NoImage::Large { .. })));
        for cut in [png_of(0, 5), png_of(5, 5)[..20].to_vec(), jpeg_of(5, 0), jpeg_of(5, 5)[..9].to_vec()] {
            assert!(matches!(Image::of(&cut), Err(NoImage::Cut { .. })), "{cut:?}");
        }
        // The data begins before any frame.
        assert!(matches!(Image::of(&[0xFF, 0xD8, 0xFF, 0xDA, 0, 4]), Err(NoImage::Cut { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_or_refused(kind in 0..4_usize, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let begin: [&[u8]; 4] = [b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &[0xFF, 0xD8, 0xFF], b"RIFF\0\0\0\0WEBPVP8"];
            let _taken = Image::of(&[begin[kind], &rest].concat());
        }
    }
}
