//! Bytes read as numbers: what a structured target makes its events of. After the end all are zero.

/// What is left of an input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'d> {
    bytes: &'d [u8],
}

impl<'d> Input<'d> {
    /// All of `bytes`.
    pub const fn new(bytes: &'d [u8]) -> Self {
        Self { bytes }
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        [(); N].map(|()| self.byte())
    }

    /// The next two bytes, as a number.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next eight bytes, as a number.
    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `end`, of the next two bytes; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.short()).checked_rem(end).unwrap_or(0)
    }

    /// All that is left.
    pub const fn rest(self) -> &'d [u8] {
        self.bytes
    }
}
