//! The common model, with which a device says who it is.

use super::ModelAt;

/// Its id.
const COMMON: u16 = 1;
/// Where its texts stand, counted from the model's id, and how many registers each takes ("SunSpec Common Models", 1).
const MAKER: (u16, u16) = (2, 16);
const MODEL: (u16, u16) = (18, 16);
const VERSION: (u16, u16) = (42, 8);
const SERIAL: (u16, u16) = (50, 16);

/// Who a device says that it is; what it does not say is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// The maker.
    pub maker: String,
    /// The maker's name of the model.
    pub model: String,
    /// The version of its firmware.
    pub version: String,
    /// The serial number.
    pub serial: String,
}

impl Common {
    /// The registers that say it, in a device with these models: the first, and how many. None when it has no common
    /// model.
    #[must_use]
    pub fn place(models: &[ModelAt]) -> Option<(u16, u16)> {
        let model = models.iter().find(|model| model.id == COMMON)?;
        // One register more is of padding, which some devices leave out.
        let count = (SERIAL.0 + SERIAL.1).min(model.length.checked_add(2)?);
        Some((model.start, count))
    }

    /// What these registers say, from the model's id on. What is no text, or not among them, is empty.
    #[must_use]
    pub fn of(words: &[u16]) -> Self {
        let text = |(at, count): (u16, u16)| {
            let own = words.get(usize::from(at)..usize::from(at) + usize::from(count)).unwrap_or_default();
            let bytes: Vec<u8> = own.iter().flat_map(|word| word.to_be_bytes()).collect();
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            let text = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).unwrap_or_default();
            text.trim().to_owned()
        };
        Self { maker: text(MAKER), model: text(MODEL), version: text(VERSION), serial: text(SERIAL) }
    }
}
