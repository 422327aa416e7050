//! Reading and writing the parts of a block.

use super::BlockError;

/// Writes a number in groups of seven bits, the lowest first.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// What is left of the bytes of a block.
pub(super) struct Input<'b> {
    pub bytes: &'b [u8],
}

impl<'b> Input<'b> {
    pub fn byte(&mut self) -> Result<u8, BlockError> {
        let (byte, rest) = self.bytes.split_first().ok_or(BlockError::Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(*byte)
    }

    /// A number of up to 63 bits.
    pub fn varint(&mut self) -> Result<u64, BlockError> {
        match self.varint64()? {
            found if found >> 63 == 0 => Ok(found),
            _ => Err(BlockError::Malformed("a number overflows")),
        }
    }

    /// A number of up to 64 bits.
    pub fn varint64(&mut self) -> Result<u64, BlockError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BlockError::Malformed("a number overflows"))
    }

    pub fn take(&mut self, len: usize) -> Result<&'b [u8], BlockError> {
        let (taken, rest) =
            self.bytes.split_at_checked(len).ok_or(BlockError::Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn end(&self) -> Result<(), BlockError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(BlockError::Malformed("bytes are left after the last column"))
        }
    }

    pub fn chunk(&mut self) -> Result<&'b [u8], BlockError> {
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let (chunk, rest) =
            self.bytes.split_at_checked(len).ok_or(BlockError::Malformed("a column is cut short"))?;
        self.bytes = rest;
        Ok(chunk)
    }
}
