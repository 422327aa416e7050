//! One CoAP server as its client sees it (RFC 7252, 7641, 7959): messages, retransmission, blocks, notifications. No I/O.
//!
//! One request is on its way at a time, as RFC 7252 wants it (NSTART = 1); notifications come whenever they come.
//!
//! Call order: [`Peer::ask`] or [`Peer::put`], then [`Peer::transmit`] until it gives nothing, after each [`Peer::handle`] and
//! [`Peer::wake`]; [`Peer::wakes_ns`] says when the next of these is due. Times are monotonic ns of one clock.

use std::collections::{BTreeMap, VecDeque};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};

pub use super::message::DATAGRAM_BYTES_MAX;
use super::message::{Seen, add_block, block, bytes_of, empty, number, observe_number};
use super::put::{PutError, outcome};

/// Longest body of a resource, all blocks together.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// RFC 7252, 4.8: the first wait for an acknowledgement is up to half as long again.
const ACK_TIMEOUT_NS: u64 = 2_000_000_000;
const RETRANSMIT_MAX: u32 = 4;
/// Longest wait for an answer that was promised with an empty acknowledgement.
const ANSWER_NS: u64 = 60_000_000_000;
/// Most messages that are remembered to be known when they come twice.
const SEEN_MAX: usize = 256;
/// Most resources that are observed.
const OBSERVED_MAX: usize = 256;
/// RFC 7641, 3.4: after this long a notification is newer, whatever its number.
const NEWER_NS: u64 = 128_000_000_000;
/// RFC 7252, 5.10.5: what an answer without Max-Age is fresh for, in s.
const MAX_AGE_S: u32 = 60;
/// Most seconds that an answer is believed to be fresh for.
const MAX_AGE_MAX_S: u32 = 86_400;
/// Longest token (RFC 7252, 3).
const TOKEN_BYTES: usize = 8;

/// What came of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its path.
    pub path: String,
    /// Its body and content format, or why there is none.
    pub outcome: Result<Body, Trouble>,
    /// Whether more come by themselves.
    pub is_observed: bool,
    /// How long it is fresh, in s.
    pub max_age_s: u32,
}

/// A resource's representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What they are, by the registry of content formats; nothing where the server does not say.
    pub format: Option<u16>,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nothing came back.
    #[error("no answer")]
    Silent,
    /// The server says no.
    #[error("the server says {0}")]
    Refused(String),
    /// It is not of the protocol, or too long.
    #[error("{0}")]
    Garbled(String),
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    Read,
    Put,
}

/// A request that is to be made.
#[derive(Debug, Default)]
struct Wanted {
    path: String,
    observe: Option<u32>,
    block: Option<(u32, u8)>,
    // What is put there, and its content format.
    body: Option<(Vec<u8>, u16)>,
}

/// A request that is on its way.
#[derive(Debug)]
struct Request {
    aim: Aim,
    path: String,
    token: Vec<u8>,
    // What is sent again until it is acknowledged.
    datagram: Vec<u8>,
    message_id: u16,
    due_ns: u64,
    wait_ns: u64,
    sent: u32,
    is_acknowledged: bool,
    // The blocks that have come.
    body: Vec<u8>,
    etag: Option<Vec<u8>>,
    // Of the first block.
    is_observed: bool,
}

/// A resource that tells its changes.
#[derive(Debug)]
struct Observed {
    path: String,
    number: u32,
    at_ns: u64,
}

/// A server.
#[derive(Debug)]
pub struct Peer {
    authority: String,
    message_id: u16,
    token: u64,
    request: Option<Request>,
    observed: BTreeMap<Vec<u8>, Observed>,
    // Confirmable and other messages that have come, by their ids.
    seen: Seen<u16, ()>,
    out: VecDeque<Vec<u8>>,
    answers: VecDeque<Answer>,
    settled: Option<Result<(), PutError>>,
}

impl Peer {
    /// One that is called by this name; `entropy` makes tokens and message ids that nobody guesses.
    #[must_use]
    pub fn new(authority: &str, entropy: u64) -> Self {
        Self {
            authority: authority.to_owned(),
            message_id: u16::from_le_bytes([low(entropy, 6), low(entropy, 7)]),
            token: entropy,
            request: None,
            observed: BTreeMap::new(),
            seen: Seen::new(SEEN_MAX),
            out: VecDeque::new(),
            answers: VecDeque::new(),
            settled: None,
        }
    }

    /// Whether a request is on its way.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.request.is_some()
    }

    /// Whether a resource tells its changes.
    #[must_use]
    pub fn observes(&self, path: &str) -> bool {
        self.observed.values().any(|observed| observed.path == path)
    }

    /// No longer expects changes of a resource: they are answered with a reset.
    pub fn forget(&mut self, path: &str) {
        self.observed.retain(|_, observed| observed.path != path);
    }

    /// Asks for a resource. Only while nothing is on its way; what is then is given up.
    pub fn ask(&mut self, now_ns: u64, path: &str, observe: bool, entropy: u64) {
        if observe {
            self.forget(path);
        }
        let wanted = Wanted { observe: observe.then_some(0), ..Wanted::of(path) };
        self.request = Some(self.request_of(now_ns, wanted, entropy));
    }

    /// Puts a value of a content format at a resource, in one message. Only while nothing is on its way.
    pub fn put(&mut self, now_ns: u64, path: &str, body: (Vec<u8>, u16), entropy: u64) {
        let wanted = Wanted { body: Some(body), ..Wanted::of(path) };
        self.request = Some(self.request_of(now_ns, wanted, entropy));
    }

    /// How putting a value ended.
    pub const fn settled(&mut self) -> Option<Result<(), PutError>> {
        self.settled.take()
    }

    /// The next datagram that is to be sent.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// The next answer.
    pub fn answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// When [`Self::wake`] is due.
    #[must_use]
    pub fn wakes_ns(&self) -> Option<u64> {
        self.request.as_ref().map(|request| request.due_ns)
    }

    /// Sends again what has no acknowledgement, or gives up.
    pub fn wake(&mut self, now_ns: u64) {
        let Some(request) = self.request.as_mut().filter(|request| request.due_ns <= now_ns) else { return };
        if request.is_acknowledged || request.sent > RETRANSMIT_MAX {
            return self.fail(Trouble::Silent);
        }
        request.sent += 1;
        request.wait_ns = request.wait_ns.saturating_mul(2);
        request.due_ns = now_ns.saturating_add(request.wait_ns);
        let datagram = request.datagram.clone();
        self.out.push_back(datagram);
    }

    /// Nobody is there: what is on its way is given up.
    pub fn give_up(&mut self) {
        self.fail(Trouble::Silent);
    }

    /// A datagram has come.
    pub fn handle(&mut self, now_ns: u64, datagram: &[u8], entropy: u64) {
        // What is no message is ignored without a word (RFC 7252, 3).
        let Ok(packet) = Packet::from_bytes(datagram) else { return };
        if packet.header.get_version() != 1 || datagram.len() > DATAGRAM_BYTES_MAX {
            return;
        }
        let id = packet.header.message_id;
        match packet.header.get_type() {
            MessageType::Acknowledgement => self.acknowledged(now_ns, &packet, entropy),
            MessageType::Reset => {
                if self.request.as_ref().is_some_and(|request| request.message_id == id) {
                    self.fail(Trouble::Refused("that it does not know this message".into()));
                }
            }
            kind => {
                let is_confirmable = kind == MessageType::Confirmable;
                if !self.is_new(now_ns, id) {
                    if is_confirmable {
                        self.reply(MessageType::Acknowledgement, id);
                    }
                    return;
                }
                let is_expected = self.respond(now_ns, &packet, entropy);
                // A reset ends notifications that nobody waits for.
                match (is_expected, is_confirmable) {
                    (true, true) => self.reply(MessageType::Acknowledgement, id),
                    (false, _) => self.reply(MessageType::Reset, id),
                    (true, false) => {}
                }
            }
        }
    }

    fn acknowledged(&mut self, now_ns: u64, packet: &Packet, entropy: u64) {
        let Some(request) = self.request.as_mut() else { return };
        if request.message_id != packet.header.message_id || request.is_acknowledged {
            return;
        }
        if packet.header.code == MessageClass::Empty {
            (request.is_acknowledged, request.due_ns) = (true, now_ns.saturating_add(ANSWER_NS));
            return;
        }
        self.respond(now_ns, packet, entropy);
    }

    /// Takes a response; false when nobody waits for it.
    fn respond(&mut self, now_ns: u64, packet: &Packet, entropy: u64) -> bool {
        let token = packet.get_token();
        let is_own = self.request.as_ref().is_some_and(|request| request.token == token);
        if is_own && let Some(request) = self.request.take() {
            match request.aim {
                Aim::Read => self.take(now_ns, request, packet, entropy),
                Aim::Put => self.settled = Some(outcome(packet)),
            }
            return true;
        }
        let Some(observed) = self.observed.get_mut(token) else { return false };
        let Some(number) = observe_number(packet) else {
            // Without a number it is the last one.
            let observed = self.observed.remove(token);
            let path = observed.map(|observed| observed.path).unwrap_or_default();
            self.finish(path, packet, packet.payload.clone(), false);
            return true;
        };
        let (old, is_late) = (observed.number, now_ns.saturating_sub(observed.at_ns) > NEWER_NS);
        let is_newer = (old < number && number - old < 1 << 23) || (old > number && old - number > 1 << 23);
        if !is_newer && !is_late {
            return true;
        }
        (observed.number, observed.at_ns) = (number, now_ns);
        let path = observed.path.clone();
        match block(packet) {
            // The rest has to be asked for; who is asked meanwhile tells what is newer still.
            Some((0, true, size)) if self.request.is_none() => {
                let wanted = Wanted { block: Some((1, size)), ..Wanted::of(&path) };
                let mut next = self.request_of(now_ns, wanted, entropy);
                next.body.clone_from(&packet.payload);
                next.etag = packet.get_first_option(CoapOption::ETag).cloned();
                next.is_observed = true;
                self.request = Some(next);
            }
            Some((_, true, _)) => {}
            _ => self.finish(path, packet, packet.payload.clone(), true),
        }
        true
    }

    /// Takes the answer to a request, or a block of it.
    fn take(&mut self, now_ns: u64, request: Request, packet: &Packet, entropy: u64) {
        let Request { path, token, mut body, etag, mut is_observed, .. } = request;
        let (number, is_first) = (observe_number(packet), body.is_empty());
        if let Some(number) = number.filter(|_| is_first && self.observed.len() < OBSERVED_MAX) {
            self.observed.insert(token, Observed { path: path.clone(), number, at_ns: now_ns });
            is_observed = true;
        }
        let found = packet.get_first_option(CoapOption::ETag).cloned();
        let Some((at, has_more, size)) = block(packet) else {
            return self.finish(path, packet, packet.payload.clone(), is_observed);
        };
        let garbled = |what: &str| Trouble::Garbled(what.to_owned());
        let offset = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(16 << size);
        if offset != body.len() {
            return self.answer_with(path, Err(garbled("a block is missing")), is_observed, MAX_AGE_S);
        }
        if !is_first && found != etag {
            return self.answer_with(
                path,
                Err(garbled("it changed while it was read")),
                is_observed,
                MAX_AGE_S,
            );
        }
        if has_more && packet.payload.len() != 16 << size {
            return self.answer_with(path, Err(garbled("a block is too short")), is_observed, MAX_AGE_S);
        }
        if body.len() + packet.payload.len() > BODY_BYTES_MAX {
            let what = format!("it is longer than {BODY_BYTES_MAX} bytes");
            return self.answer_with(path, Err(Trouble::Garbled(what)), is_observed, MAX_AGE_S);
        }
        body.extend_from_slice(&packet.payload);
        if !has_more {
            return self.finish(path, packet, body, is_observed);
        }
        let wanted = Wanted { block: Some((at + 1, size)), ..Wanted::of(&path) };
        let mut next = self.request_of(now_ns, wanted, entropy);
        (next.body, next.etag, next.is_observed) = (body, found, is_observed);
        self.request = Some(next);
    }

    fn finish(&mut self, path: String, packet: &Packet, bytes: Vec<u8>, is_observed: bool) {
        let max_age_s = number(packet, CoapOption::MaxAge).unwrap_or(MAX_AGE_S).min(MAX_AGE_MAX_S);
        let outcome = match &packet.header.code {
            MessageClass::Response(ResponseType::Content) if bytes.len() > BODY_BYTES_MAX => {
                Err(Trouble::Garbled(format!("it is longer than {BODY_BYTES_MAX} bytes")))
            }
            MessageClass::Response(ResponseType::Content) => {
                let format =
                    number(packet, CoapOption::ContentFormat).and_then(|format| u16::try_from(format).ok());
                Ok(Body { bytes, format })
            }
            MessageClass::Response(code) => Err(Trouble::Refused(format!("{code:?}"))),
            other => Err(Trouble::Garbled(format!("{other:?} is no response"))),
        };
        if outcome.is_err() {
            self.forget(&path);
        }
        self.answer_with(path, outcome, is_observed, max_age_s);
    }

    fn answer_with(
        &mut self,
        path: String,
        outcome: Result<Body, Trouble>,
        is_observed: bool,
        max_age_s: u32,
    ) {
        let is_observed = is_observed && self.observes(&path);
        self.answers.push_back(Answer { path, outcome, is_observed, max_age_s });
    }

    fn fail(&mut self, trouble: Trouble) {
        let Some(request) = self.request.take() else { return };
        if request.aim == Aim::Read {
            self.forget(&request.path);
            return self.answer_with(request.path, Err(trouble), false, 0);
        }
        // A server that has lost its memory refuses what it has done when it comes again.
        self.settled = Some(Err(match trouble {
            Trouble::Refused(_) if request.sent == 1 => PutError::Refused(trouble.to_string()),
            trouble => PutError::Unknown(trouble.to_string()),
        }));
    }

    fn request_of(&mut self, now_ns: u64, wanted: Wanted, entropy: u64) -> Request {
        self.message_id = self.message_id.wrapping_add(1);
        // Odd steps visit every value once.
        self.token = self.token.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let token = self.token.to_le_bytes().get(..TOKEN_BYTES).unwrap_or_default().to_vec();
        let aim = if wanted.body.is_some() { Aim::Put } else { Aim::Read };
        let path = wanted.path.clone();
        let mut packet = wanted.packet(&self.authority);
        packet.header.message_id = self.message_id;
        packet.set_token(token.clone());
        // Paths are of profiles and short; one that makes no message is asked for with nothing, and fails as silent.
        let datagram = packet.to_bytes().unwrap_or_default();
        self.out.push_back(datagram.clone());
        let wait_ns = ACK_TIMEOUT_NS.saturating_add(entropy % (ACK_TIMEOUT_NS / 2));
        Request {
            aim,
            path,
            token,
            datagram,
            message_id: self.message_id,
            due_ns: now_ns.saturating_add(wait_ns),
            wait_ns,
            sent: 1,
            is_acknowledged: false,
            body: Vec::new(),
            etag: None,
            is_observed: false,
        }
    }

    fn is_new(&mut self, now_ns: u64, id: u16) -> bool {
        let is_new = self.seen.find(now_ns, &id).is_none();
        if is_new {
            self.seen.note(now_ns, id, ());
        }
        is_new
    }

    fn reply(&mut self, kind: MessageType, id: u16) {
        self.out.extend(empty(kind, id).to_bytes().ok());
    }
}

impl Wanted {
    fn of(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// The message without its id and token.
    fn packet(self, authority: &str) -> Packet {
        let mut packet = Packet::new();
        packet.header.set_version(1);
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = MessageClass::Request(RequestType::Get);
        if let Some(observe) = self.observe {
            packet.set_observe_value(observe);
        }
        if !authority.is_empty() {
            packet.add_option(CoapOption::UriHost, authority.as_bytes().to_vec());
        }
        let (steps, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        for step in steps.split('/').filter(|step| !step.is_empty()) {
            packet.add_option(CoapOption::UriPath, step.as_bytes().to_vec());
        }
        for part in query.split('&').filter(|part| !part.is_empty()) {
            packet.add_option(CoapOption::UriQuery, part.as_bytes().to_vec());
        }
        if let Some((number, size)) = self.block {
            add_block(&mut packet, (number, false, size));
        }
        if let Some((body, format)) = self.body {
            packet.header.code = MessageClass::Request(RequestType::Put);
            packet.add_option(CoapOption::ContentFormat, bytes_of(format.into()));
            packet.payload = body;
        }
        packet
    }
}

fn low(word: u64, at: usize) -> u8 {
    word.to_le_bytes().get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
