//! What both ends of CoAP have in common: options that are numbers, blocks, and messages that come twice. No I/O.

use std::collections::VecDeque;

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};

/// Longest datagram that is taken.
pub const DATAGRAM_BYTES_MAX: usize = 1500;
/// The size of blocks that is asked for and given: 1024 bytes are 6.
pub const BLOCK_SIZE: u8 = 6;
/// RFC 7252, 4.8.2: how long a message may come twice.
pub const LIFETIME_NS: u64 = 247_000_000_000;

/// Messages that have come, so that they are known when they come twice: the oldest is forgotten when there are too
/// many.
#[derive(Debug)]
pub struct Seen<M, T> {
    all: VecDeque<(M, u64, T)>,
    most: usize,
}

impl<M: PartialEq, T> Seen<M, T> {
    /// None yet, and never more than this.
    pub const fn new(most: usize) -> Self {
        Self { all: VecDeque::new(), most }
    }

    /// What was noted of a message that came before.
    pub fn find(&mut self, now_ns: u64, message: &M) -> Option<&T> {
        while self.all.front().is_some_and(|(_, at_ns, _)| now_ns.saturating_sub(*at_ns) > LIFETIME_NS) {
            self.all.pop_front();
        }
        self.all.iter().find(|(seen, _, _)| seen == message).map(|(_, _, noted)| noted)
    }

    /// How many are known.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Notes that a message has come.
    pub fn note(&mut self, now_ns: u64, message: M, noted: T) {
        while self.all.len() >= self.most {
            self.all.pop_front();
        }
        self.all.push_back((message, now_ns, noted));
    }
}

/// A message of this kind with nothing in it: an acknowledgement or a reset.
pub fn empty(kind: MessageType, id: u16) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(kind);
    packet.header.code = MessageClass::Empty;
    packet.header.message_id = id;
    packet
}

/// A number as options have it: big-endian, without leading zeros.
pub fn uint(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number: u32, byte| number.wrapping_shl(8) | u32::from(*byte))
}

/// The other way.
pub fn bytes_of(number: u32) -> Vec<u8> {
    number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}

/// What an option that is a number says.
pub fn number(packet: &Packet, option: CoapOption) -> Option<u32> {
    packet.get_first_option(option).map(|bytes| uint(bytes))
}

/// The place of a notification among others, of 24 bits.
pub fn observe_number(packet: &Packet) -> Option<u32> {
    number(packet, CoapOption::Observe).map(|number| number & 0x00FF_FFFF)
}

/// Number, whether more follow, and size of a block; none for a whole body.
pub fn block(packet: &Packet) -> Option<(u32, bool, u8)> {
    let value = number(packet, CoapOption::Block2)?;
    // 7 is no size of a block over UDP.
    let size = u8::try_from(value & 7).ok().filter(|size| *size <= BLOCK_SIZE)?;
    Some((value >> 4, value & 8 != 0, size))
}

/// Adds what [`block`] reads.
pub fn add_block(packet: &mut Packet, (number, has_more, size): (u32, bool, u8)) {
    let more = if has_more { 8 } else { 0 };
    packet.add_option(CoapOption::Block2, bytes_of(number << 4 | more | u32::from(size.min(BLOCK_SIZE))));
}
