//! A CoAP server of resources that change (RFC 7252, 7641, 7959): the core, without I/O, and its socket.
//!
//! Call order of the core: [`Server::set`] for each resource, then [`Server::handle`] for what comes, and
//! [`Server::transmit`] until it gives nothing after each of them. Times are monotonic ns of one clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use anyhow::Context as _;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use tideline_profiles::json;
use tideline_profiles::simulate::Device;
use tideline_protocol::time::{Clock as _, SystemClock};
use tokio::net::UdpSocket;

use super::{Options, interval, say};
use crate::source::coap::message::{
    BLOCK_SIZE, DATAGRAM_BYTES_MAX, Seen, add_block, block, bytes_of, empty, number, observe_number,
};

/// Most that are told of changes (INV-6).
const OBSERVERS_MAX: usize = 64;
/// Most answers that are remembered, to be given again to who did not get them.
const ANSWERS_MAX: usize = 64;
/// Each so many changes an observer has to say that it is still there (RFC 7641, 4.5).
const CHECK_EVERY: u32 = 16;
/// By the registry of content formats.
const TEXT: u16 = 0;
const LINKS: u16 = 40;
const JSON: u16 = 50;
/// Where a server lists its resources (RFC 6690).
const LIST: &str = ".well-known/core";

struct Resource {
    payload: Vec<u8>,
    // Grows with each change: the number of notifications, and the tag of what blocks are of.
    version: u32,
}

impl Resource {
    fn format(&self) -> u16 {
        if matches!(self.payload.first(), Some(b'{' | b'[')) { JSON } else { TEXT }
    }
}

struct Observer<A> {
    address: A,
    token: Vec<u8>,
    path: String,
    told: u32,
    // The last notification's.
    message_id: u16,
    // That of the one by which it is to say that it is there.
    awaits: Option<u16>,
}

/// A server, whose peers have addresses of this type.
pub struct Server<A> {
    resources: BTreeMap<String, Resource>,
    observers: Vec<Observer<A>>,
    answers: Seen<(A, u16), Vec<u8>>,
    message_id: u16,
    out: VecDeque<(A, Vec<u8>)>,
}

impl<A: Clone + PartialEq> Default for Server<A> {
    fn default() -> Self {
        Self {
            resources: BTreeMap::new(),
            observers: Vec::new(),
            answers: Seen::new(ANSWERS_MAX),
            message_id: 0,
            out: VecDeque::new(),
        }
    }
}

impl<A: Clone + PartialEq> Server<A> {
    /// What a resource is from now on; those who observe it are told.
    pub fn set(&mut self, path: &str, payload: Vec<u8>) {
        let known = self.resources.get(path);
        if known.is_some_and(|known| known.payload == payload) {
            return;
        }
        let version = known.map_or(0, |known| known.version.wrapping_add(1) & 0x00FF_FFFF);
        self.resources.insert(path.to_owned(), Resource { payload, version });
        for mut observer in std::mem::take(&mut self.observers) {
            if observer.path != path || self.notify(&mut observer) {
                self.observers.push(observer);
            }
        }
    }

    /// The next datagram that is to be sent, and to whom.
    pub fn transmit(&mut self) -> Option<(A, Vec<u8>)> {
        self.out.pop_front()
    }

    /// A datagram has come.
    pub fn handle(&mut self, now_ns: u64, from: &A, datagram: &[u8]) {
        // What is no message is ignored without a word (RFC 7252, 3).
        let Ok(packet) = Packet::from_bytes(datagram) else { return };
        if packet.header.get_version() != 1 || datagram.len() > DATAGRAM_BYTES_MAX {
            return;
        }
        let id = packet.header.message_id;
        let is_last = |observer: &Observer<A>| observer.address == *from && observer.message_id == id;
        match (packet.header.get_type(), &packet.header.code) {
            (MessageType::Reset, _) => self.observers.retain(|observer| !is_last(observer)),
            (MessageType::Acknowledgement, _) => {
                let asked =
                    |observer: &&mut Observer<A>| observer.address == *from && observer.awaits == Some(id);
                self.observers.iter_mut().filter(asked).for_each(|observer| observer.awaits = None);
            }
            (kind, MessageClass::Request(verb)) => {
                let key = (from.clone(), id);
                if let Some(answer) = self.answers.find(now_ns, &key) {
                    let again = (from.clone(), answer.clone());
                    return self.out.push_back(again);
                }
                let mut answer = self.answer(from, *verb, &packet);
                match kind {
                    MessageType::Confirmable => {
                        answer.header.set_type(MessageType::Acknowledgement);
                        answer.header.message_id = id;
                    }
                    _ => self.number(&mut answer),
                }
                let Ok(bytes) = answer.to_bytes() else { return };
                self.answers.note(now_ns, key, bytes.clone());
                self.out.push_back((from.clone(), bytes));
            }
            // Whatever else wants an answer gets this one: a ping too (RFC 7252, 4.3).
            (MessageType::Confirmable, _) => self.send(from, &empty(MessageType::Reset, id)),
            _ => {}
        }
    }

    fn answer(&mut self, from: &A, verb: RequestType, packet: &Packet) -> Packet {
        let refuse = |code| response(packet.get_token(), code, &[]);
        if packet.options().any(|(number, _)| is_unknown(*number)) {
            return refuse(ResponseType::BadOption);
        }
        if verb != RequestType::Get {
            return refuse(ResponseType::MethodNotAllowed);
        }
        let steps = packet.get_option(CoapOption::UriPath).into_iter().flatten();
        let path = steps.map(|step| String::from_utf8_lossy(step)).collect::<Vec<_>>().join("/");
        let accepts = number(packet, CoapOption::Accept);
        if path == LIST {
            let links = self.resources.keys().map(|path| format!("</{path}>;obs"));
            let links = links.collect::<Vec<_>>().join(",").into_bytes();
            return body(packet, &Resource { payload: links, version: 0 }, LINKS, None);
        }
        let Some(resource) = self.resources.get(&path) else { return refuse(ResponseType::NotFound) };
        let format = resource.format();
        if accepts.is_some_and(|wanted| wanted != u32::from(format)) {
            return refuse(ResponseType::NotAcceptable);
        }
        let token = packet.get_token();
        let observes = observe_number(packet);
        if observes.is_some() {
            self.observers
                .retain(|other| other.address != *from || other.token != token && other.path != path);
        }
        let is_told = observes == Some(0) && self.observers.len() < OBSERVERS_MAX;
        let answer = body(packet, resource, format, is_told.then_some(resource.version));
        if is_told {
            let (address, token) = (from.clone(), token.to_vec());
            let observer = Observer {
                address,
                token,
                path,
                told: 0,
                message_id: packet.header.message_id,
                awaits: None,
            };
            self.observers.push(observer);
        }
        answer
    }

    /// Tells an observer; false when it has gone.
    fn notify(&mut self, observer: &mut Observer<A>) -> bool {
        observer.told = observer.told.wrapping_add(1);
        let is_check = observer.told.is_multiple_of(CHECK_EVERY);
        if is_check && observer.awaits.is_some() {
            return false;
        }
        let Some(resource) = self.resources.get(&observer.path) else { return false };
        let mut asked = Packet::new();
        asked.set_token(observer.token.clone());
        let mut packet = body(&asked, resource, resource.format(), Some(resource.version));
        self.number(&mut packet);
        observer.message_id = packet.header.message_id;
        if is_check {
            packet.header.set_type(MessageType::Confirmable);
            observer.awaits = Some(observer.message_id);
        }
        self.send(&observer.address, &packet);
        true
    }

    fn number(&mut self, packet: &mut Packet) {
        self.message_id = self.message_id.wrapping_add(1);
        packet.header.set_type(MessageType::NonConfirmable);
        packet.header.message_id = self.message_id;
    }

    fn send(&mut self, to: &A, packet: &Packet) {
        self.out.extend(packet.to_bytes().ok().map(|bytes| (to.clone(), bytes)));
    }
}

/// Whether an option must be understood, and is not (RFC 7252, 5.4.1): odd numbers must be.
fn is_unknown(number: u16) -> bool {
    let known = [
        CoapOption::UriHost,
        CoapOption::UriPort,
        CoapOption::UriPath,
        CoapOption::UriQuery,
        CoapOption::Accept,
        CoapOption::Block2,
    ];
    number % 2 == 1 && !known.into_iter().any(|option| u16::from(option) == number)
}

fn response(token: &[u8], code: ResponseType, payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.code = MessageClass::Response(code);
    packet.set_token(token.to_vec());
    packet.payload = payload.to_vec();
    packet
}

/// The block of a resource that is asked for: the first one if none is.
fn body(asked: &Packet, resource: &Resource, format: u16, observe: Option<u32>) -> Packet {
    let (at, _, size) = block(asked).unwrap_or((0, false, BLOCK_SIZE));
    let (room, whole) = (16_usize << size, resource.payload.as_slice());
    let begin = usize::try_from(at).unwrap_or(usize::MAX).saturating_mul(room);
    let rest = whole.get(begin..).filter(|rest| at == 0 || !rest.is_empty());
    let Some(rest) = rest else { return response(asked.get_token(), ResponseType::BadRequest, &[]) };
    let part = rest.get(..room).unwrap_or(rest);
    let mut packet = response(asked.get_token(), ResponseType::Content, part);
    if let Some(version) = observe {
        packet.set_observe_value(version);
    }
    packet.add_option(CoapOption::ContentFormat, bytes_of(format.into()));
    if whole.len() > room {
        packet.add_option(CoapOption::ETag, resource.version.to_be_bytes().to_vec());
        add_block(&mut packet, (at, rest.len() > room, size));
    }
    packet
}

/// Serves a device.
///
/// # Errors
/// Its address cannot be taken, or its profile is of another protocol.
pub async fn run(mut device: Device, options: &Options) -> anyhow::Result<()> {
    let mapping = json::Mapping::of(device.profile())?;
    let socket =
        UdpSocket::bind(options.listen).await.with_context(|| format!("listen at {}", options.listen))?;
    let (clock, mut ticks) = (SystemClock::default(), interval(options));
    let mut server = Server::default();
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX + 1];
    fill(&mut server, &mapping, &device, options, clock.wall_ns())?;
    say(&device, &format!("answers CoAP at {}", socket.local_addr()?), options);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                device.step();
                fill(&mut server, &mapping, &device, options, clock.wall_ns())?;
            }
            read = socket.recv_from(&mut datagram) => match read {
                Ok((count, from)) => {
                    server.handle(clock.mono_ns(), &from, datagram.get(..count).unwrap_or_default());
                }
                // Somebody who was told something has gone.
                Err(error) => tracing::debug!(%error, "not received"),
            },
        }
        while let Some((to, bytes)) = server.transmit() {
            if let Err(error) = socket.send_to(&bytes, to).await {
                tracing::debug!(%to, %error, "not sent");
            }
        }
    }
}

fn fill(
    server: &mut Server<SocketAddr>,
    mapping: &json::Mapping,
    device: &Device,
    options: &Options,
    now_ns: i64,
) -> anyhow::Result<()> {
    for (path, payload) in mapping.messages(&options.device, device.values(), now_ns)? {
        server.set(&path, payload);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::coap::peer::{Peer, Trouble};

    /// Carries datagrams until nobody has any.
    fn carry(peer: &mut Peer, server: &mut Server<u8>) {
        loop {
            let sent: Vec<_> = std::iter::from_fn(|| peer.transmit()).collect();
            sent.iter().for_each(|datagram| server.handle(0, &1, datagram));
            let told: Vec<_> = std::iter::from_fn(|| server.transmit()).collect();
            if told.is_empty() {
                return;
            }
            told.iter().for_each(|(_, datagram)| peer.handle(0, datagram, 3));
        }
    }

    fn bodies(peer: &mut Peer) -> Vec<Result<Vec<u8>, Trouble>> {
        std::iter::from_fn(|| peer.answer()).map(|answer| answer.outcome.map(|body| body.bytes)).collect()
    }

    #[test]
    fn changes_come_to_who_observes_and_end_when_it_says_so() {
        let (mut peer, mut server) = (Peer::new("", 7), Server::default());
        server.set("3303/0/5700", b"20.5".to_vec());
        peer.ask(0, "3303/0/5700", true, 0);
        carry(&mut peer, &mut server);
        assert!(peer.observes("3303/0/5700"));
        for value in 0..40 {
            server.set("3303/0/5700", value.to_string().into_bytes());
            server.set("3303/0/5700", value.to_string().into_bytes());
            carry(&mut peer, &mut server);
        }
        let told: Vec<Vec<u8>> = bodies(&mut peer).into_iter().map(Result::unwrap).collect();
        let wanted = (0..40).map(|value| value.to_string().into_bytes());
        assert_eq!(told, std::iter::once(b"20.5".to_vec()).chain(wanted).collect::<Vec<_>>());
        peer.forget("3303/0/5700");
        server.set("3303/0/5700", b"x".to_vec());
        carry(&mut peer, &mut server);
        assert!(server.observers.is_empty(), "a reset ends it");
    }

    #[test]
    fn an_observer_that_gives_no_sign_is_told_no_more() {
        let (mut peer, mut server) = (Peer::new("", 7), Server::default());
        server.set("a", Vec::new());
        peer.ask(0, "a", true, 0);
        carry(&mut peer, &mut server);
        for value in 0..2 * CHECK_EVERY {
            server.set("a", value.to_string().into_bytes());
        }
        assert!(server.observers.is_empty());
    }

    #[test]
    fn a_request_that_comes_twice_is_answered_twice_with_the_same() {
        let (mut peer, mut server) = (Peer::new("", 7), Server::default());
        server.set("a", b"1".to_vec());
        peer.ask(0, "a", false, 0);
        let request = peer.transmit().unwrap();
        server.handle(0, &1, &request);
        server.set("a", b"2".to_vec());
        server.handle(0, &1, &request);
        assert_eq!(server.transmit(), server.transmit());
        server.handle(0, &2, &request);
        assert!(server.transmit().is_some() && server.transmit().is_none());
    }

    #[test]
    fn what_is_not_there_is_refused_and_what_is_can_be_listed() {
        let (mut peer, mut server) = (Peer::new("", 7), Server::default());
        server.set("a/b", b"{}".to_vec());
        for path in ["a", ".well-known/core"] {
            peer.ask(0, path, false, 0);
            carry(&mut peer, &mut server);
        }
        assert_eq!(bodies(&mut peer), [Err(Trouble::Refused("NotFound".into())), Ok(b"</a/b>;obs".to_vec())]);
    }

    proptest! {
        #[test]
        fn bodies_of_any_length_come_whole(body in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (mut peer, mut server) = (Peer::new("", 7), Server::default());
            server.set("a", body.clone());
            peer.ask(0, "a", true, 0);
            carry(&mut peer, &mut server);
            prop_assert_eq!(bodies(&mut peer), [Ok(body.clone())]);
            let next = [&body[..], b"!"].concat();
            server.set("a", next.clone());
            carry(&mut peer, &mut server);
            prop_assert_eq!(bodies(&mut peer), [Ok(next)]);
        }

        #[test]
        fn no_datagram_makes_it_panic(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10)) {
            let mut server = Server::default();
            server.set("a", vec![0; 3000]);
            for datagram in datagrams {
                server.handle(0, &1, &datagram);
                server.handle(0, &1, &[&[0x40, 1, 0, 1, 0xB1, b'a'][..], &datagram].concat());
                while server.transmit().is_some() {}
            }
        }
    }
}
