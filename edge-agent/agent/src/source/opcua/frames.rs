//! A stream whose messages are of bounded length. The crate's codec waits for as many bytes as a header claims, up to
//! 4 GiB, and keeps what came of them: this looks at the claims before the codec does.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Type, whether more follow, and length (Part 6, "Message Header").
const HEADER_BYTES: usize = 8;

/// Where messages begin in a stream, and whether they are too long.
#[derive(Debug)]
pub struct Frames {
    bytes_max: usize,
    header: Vec<u8>,
    // Of the present message's body.
    missing: usize,
}

impl Frames {
    /// Of a stream whose messages have so many bytes at most.
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max, header: Vec::new(), missing: 0 }
    }

    /// Looks at the next bytes of the stream.
    ///
    /// # Errors
    /// A message in them claims a length that is not allowed.
    pub fn follow(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let skipped = self.missing.min(bytes.len());
            self.missing -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = (HEADER_BYTES - self.header.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            self.header.extend_from_slice(head);
            bytes = rest;
            let Ok([_, _, _, _, length @ ..]) = <[u8; HEADER_BYTES]>::try_from(self.header.as_slice()) else {
                continue;
            };
            let claimed = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            if !(HEADER_BYTES..=self.bytes_max).contains(&claimed) {
                let max = self.bytes_max;
                return Err(format!(
                    "the server sends a message of {claimed} bytes; allowed are {HEADER_BYTES} to {max}"
                ));
            }
            self.missing = claimed - HEADER_BYTES;
            self.header.clear();
        }
        Ok(())
    }
}

/// Why a stream was given up; kept, because the crate tells no more than that it was.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    /// Notes it.
    pub fn note(&self, what: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    }

    /// What was noted first.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stream that ends with an error where a message is too long.
pub struct Bounded<R> {
    stream: R,
    frames: Frames,
    trouble: Trouble,
}

impl<R> Bounded<R> {
    /// Of this one.
    pub const fn new(stream: R, bytes_max: usize, trouble: Trouble) -> Self {
        Self { stream, frames: Frames::new(bytes_max), trouble }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let new = into.filled().get(before..).unwrap_or_default();
        if let Err(error) = self.frames.follow(new) {
            self.trouble.note(error.clone());
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(body: usize) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body).unwrap();
        [b"MSGF".as_slice(), &length.to_le_bytes(), &vec![7; body]].concat()
    }

    #[test]
    fn a_claim_that_is_too_long_or_too_short_is_told_before_its_body_comes() {
        for (length, allowed) in [(7_u32, false), (8, true), (64, true), (65, false), (u32::MAX, false)] {
            let header = [b"MSGF".as_slice(), &length.to_le_bytes()].concat();
            assert_eq!(Frames::new(64).follow(&header).is_ok(), allowed, "{length}");
        }
    }

    proptest! {
        #[test]
        fn a_stream_is_followed_however_it_is_cut(
            bodies in proptest::collection::vec(0_usize..50, 0..20),
            cuts in proptest::collection::vec(1_usize..30, 1..100),
            too_long in proptest::bool::ANY,
        ) {
            let mut stream: Vec<u8> = bodies.into_iter().flat_map(message).collect();
            if too_long {
                stream.extend(message(57));
            }
            let mut frames = Frames::new(64);
            let (mut rest, mut told) = (stream.as_slice(), Ok(()));
            for cut in cuts.into_iter().cycle() {
                let (next, after) = rest.split_at(cut.min(rest.len()));
                told = told.and_then(|()| frames.follow(next));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(told.is_err(), too_long);
        }

        #[test]
        fn any_bytes_are_followed_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..500)) {
            let _ = Frames::new(64).follow(&bytes);
        }
    }
}
