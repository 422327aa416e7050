//! A server's client against lost, doubled, late, wrong and hostile messages.

use proptest::prelude::*;

use super::*;
use crate::source::coap::message::{bytes_of, uint};

const SECOND_NS: u64 = 1_000_000_000;

/// The next datagram, read.
fn sent(peer: &mut Peer) -> Option<Packet> {
    peer.transmit().map(|datagram| Packet::from_bytes(&datagram).unwrap())
}

fn message(kind: MessageType, code: MessageClass, id: u16, token: &[u8], payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(kind);
    packet.header.code = code;
    packet.header.message_id = id;
    packet.set_token(token.to_vec());
    packet.payload = payload.to_vec();
    packet
}

fn content(kind: MessageType, id: u16, token: &[u8], payload: &[u8]) -> Packet {
    message(kind, MessageClass::Response(ResponseType::Content), id, token, payload)
}

fn take(peer: &mut Peer, now_ns: u64, packet: &Packet) {
    peer.handle(now_ns, &packet.to_bytes().unwrap(), 0);
}

fn body(peer: &mut Peer) -> Option<Vec<u8>> {
    peer.answer().map(|answer| answer.outcome.unwrap().bytes)
}

fn asked(observe: bool) -> (Peer, Packet) {
    let mut peer = Peer::new("", 7);
    peer.ask(0, "3303/0/5700", observe, 0);
    let request = sent(&mut peer).unwrap();
    (peer, request)
}

/// One that observes, with the first answer taken.
fn observing() -> (Peer, Vec<u8>) {
    let (mut peer, request) = asked(true);
    let token = request.get_token().to_vec();
    let mut answer = content(MessageType::Acknowledgement, request.header.message_id, &token, b"1");
    answer.set_observe_value(10);
    take(&mut peer, 0, &answer);
    let first = peer.answer().unwrap();
    assert!(first.is_observed && first.max_age_s == 60);
    (peer, token)
}

#[test]
fn an_answer_in_the_acknowledgement_is_taken_once() {
    let (mut peer, request) = asked(false);
    let path: Vec<&[u8]> =
        request.get_option(CoapOption::UriPath).unwrap().iter().map(Vec::as_slice).collect();
    assert_eq!(path, [&b"3303"[..], b"0", b"5700"]);
    let answer =
        content(MessageType::Acknowledgement, request.header.message_id, request.get_token(), b"20.5");
    take(&mut peer, 0, &answer);
    assert_eq!(body(&mut peer), Some(b"20.5".to_vec()));
    take(&mut peer, 0, &answer);
    assert_eq!((peer.answer(), sent(&mut peer), peer.is_busy()), (None, None, false));
}

#[test]
fn a_request_is_sent_five_times_with_growing_waits_and_then_given_up() {
    let (mut peer, request) = asked(false);
    let mut waits = Vec::new();
    let mut now_ns = 0;
    while let Some(due_ns) = peer.wakes_ns() {
        waits.push((due_ns - now_ns) / SECOND_NS);
        peer.wake(due_ns - 1);
        assert_eq!(peer.transmit(), None, "it is not due");
        peer.wake(due_ns);
        now_ns = due_ns;
        if let Some(again) = sent(&mut peer) {
            assert_eq!(again, request);
        }
    }
    assert_eq!(waits, [2, 4, 8, 16, 32]);
    assert_eq!(peer.answer().unwrap().outcome, Err(Trouble::Silent));
}

#[test]
fn a_separate_answer_is_acknowledged_each_time_and_taken_once() {
    let (mut peer, request) = asked(false);
    let empty =
        message(MessageType::Acknowledgement, MessageClass::Empty, request.header.message_id, &[], &[]);
    take(&mut peer, 0, &empty);
    peer.wake(10 * SECOND_NS);
    assert_eq!(peer.transmit(), None, "it is not asked again");
    let answer = content(MessageType::Confirmable, 500, request.get_token(), b"1");
    for _ in 0..2 {
        take(&mut peer, SECOND_NS, &answer);
        let reply = sent(&mut peer).unwrap();
        assert_eq!((reply.header.get_type(), reply.header.message_id), (MessageType::Acknowledgement, 500));
    }
    assert_eq!(body(&mut peer), Some(b"1".to_vec()));
    assert_eq!(peer.answer(), None);
}

#[test]
fn what_nobody_asked_for_is_reset() {
    let (mut peer, _) = asked(false);
    take(&mut peer, 0, &content(MessageType::Confirmable, 9, b"other", b"1"));
    let reply = sent(&mut peer).unwrap();
    assert_eq!((reply.header.get_type(), reply.header.message_id), (MessageType::Reset, 9));
    assert!(peer.is_busy());
    take(&mut peer, 0, &content(MessageType::Acknowledgement, 9, b"other", b"1"));
    assert_eq!((sent(&mut peer), peer.answer()), (None, None));
}

#[test]
fn notifications_are_taken_in_their_order_only() {
    let (mut peer, token) = observing();
    let notify = |peer: &mut Peer, now_ns: u64, id: u16, number: u32, payload: &[u8]| {
        let mut packet = content(MessageType::NonConfirmable, id, &token, payload);
        packet.set_observe_value(number);
        take(peer, now_ns, &packet);
        body(peer)
    };
    assert_eq!(notify(&mut peer, 0, 1, 12, b"3"), Some(b"3".to_vec()));
    assert_eq!(notify(&mut peer, 0, 2, 11, b"2"), None, "it is older");
    assert_eq!(notify(&mut peer, 0, 1, 13, b"4"), None, "its message id has been there");
    assert_eq!(notify(&mut peer, 0, 3, 13 + (1 << 23), b"5"), None, "half way round is behind");
    assert_eq!(
        notify(&mut peer, 129 * SECOND_NS, 4, 1, b"6"),
        Some(b"6".to_vec()),
        "after so long it is newer"
    );
    assert!(peer.observes("3303/0/5700"));
    // Without a number it is the last.
    take(&mut peer, 0, &content(MessageType::Confirmable, 5, &token, b"7"));
    assert_eq!(body(&mut peer), Some(b"7".to_vec()));
    assert!(!peer.observes("3303/0/5700"));
}

#[test]
fn an_error_ends_an_observation() {
    let (mut peer, token) = observing();
    let gone = MessageClass::Response(ResponseType::NotFound);
    let mut packet = message(MessageType::Confirmable, gone, 5, &token, b"");
    packet.set_observe_value(20);
    take(&mut peer, 0, &packet);
    let answer = peer.answer().unwrap();
    assert_eq!(answer.outcome, Err(Trouble::Refused("NotFound".into())));
    assert!(!answer.is_observed && !peer.observes("3303/0/5700"));
}

/// Answers a block of `whole` to each request until an answer is there.
fn serve(peer: &mut Peer, whole: &[u8], etags: &[&[u8]]) -> Answer {
    let mut id = 1;
    loop {
        if let Some(answer) = peer.answer() {
            return answer;
        }
        let Some(request) = sent(peer) else { panic!("neither answer nor request") };
        let value = request.get_first_option(CoapOption::Block2).map_or(6, |bytes| uint(bytes));
        let (number, size) = (value >> 4, 16_usize << (value & 7));
        let at = number as usize * size;
        let part = &whole[at.min(whole.len())..(at + size).min(whole.len())];
        let kind = MessageType::Acknowledgement;
        let mut packet = content(kind, request.header.message_id, request.get_token(), part);
        let more = u32::from(at + size < whole.len()) << 3;
        packet.add_option(CoapOption::Block2, bytes_of(number << 4 | more | value & 7));
        packet.add_option(CoapOption::ETag, etags[number as usize % etags.len()].to_vec());
        take(peer, 0, &packet);
        id += 1;
        assert!(id < 200, "it never ends");
    }
}

#[test]
fn a_long_body_comes_in_blocks_up_to_a_limit() {
    let whole: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut peer, _) = asked(false);
    peer.ask(0, "long", false, 0);
    assert_eq!(serve(&mut peer, &whole, &[b"a"]).outcome.unwrap().bytes, whole);
    peer.ask(0, "long", false, 0);
    let changed = serve(&mut peer, &whole, &[b"a", b"b"]).outcome.unwrap_err();
    assert!(changed.to_string().contains("changed"));
    peer.ask(0, "long", false, 0);
    let long = serve(&mut peer, &vec![0; BODY_BYTES_MAX + 1], &[b"a"]).outcome.unwrap_err();
    assert!(long.to_string().contains("longer than 65536"));
}

#[test]
fn the_rest_of_a_long_notification_is_asked_for() {
    let (mut peer, token) = observing();
    let whole: Vec<u8> = (0..1500_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut packet = content(MessageType::NonConfirmable, 77, &token, &whole[..1024]);
    packet.set_observe_value(11);
    packet.add_option(CoapOption::Block2, bytes_of(8 | 6));
    packet.add_option(CoapOption::ETag, b"a".to_vec());
    take(&mut peer, 0, &packet);
    let answer = serve(&mut peer, &whole, &[b"a"]);
    assert_eq!(answer.outcome.unwrap().bytes, whole);
    assert!(answer.is_observed);
}

/// One that puts a value while it observes another resource; gives the request too.
fn putting() -> (Peer, Packet) {
    let (mut peer, _) = observing();
    peer.put(0, "3303/0/5700", (b"21".to_vec(), 0), 0);
    let request = sent(&mut peer).unwrap();
    (peer, request)
}

#[test]
fn a_value_is_put_in_one_message_and_the_answer_says_how_it_ended() {
    let unknown = |what: &str| Err(PutError::Unknown(format!("the server says {what}")));
    let refused = |what: &str| Err(PutError::Refused(format!("the server says {what}")));
    for (code, expected) in [
        (ResponseType::Changed, Ok(())),
        (ResponseType::Created, Ok(())),
        (ResponseType::MethodNotAllowed, refused("MethodNotAllowed")),
        (ResponseType::BadRequest, refused("BadRequest")),
        (ResponseType::ServiceUnavailable, refused("ServiceUnavailable")),
        (ResponseType::InternalServerError, unknown("InternalServerError")),
        (ResponseType::GatewayTimeout, unknown("GatewayTimeout")),
        (ResponseType::Content, unknown("Content")),
    ] {
        let (mut peer, request) = putting();
        assert_eq!(request.header.code, MessageClass::Request(RequestType::Put));
        assert_eq!(request.payload, b"21");
        assert_eq!(request.get_option(CoapOption::UriPath).unwrap().len(), 3);
        let (kind, id) = (MessageType::Acknowledgement, request.header.message_id);
        take(&mut peer, 0, &message(kind, MessageClass::Response(code), id, request.get_token(), b""));
        assert_eq!(peer.settled(), Some(expected), "{code:?}");
        assert_eq!((peer.settled(), peer.answer(), peer.is_busy()), (None, None, false));
        assert!(peer.observes("3303/0/5700"), "what it observes is not its concern");
    }
}

#[test]
fn nobody_knows_of_a_put_that_has_no_answer() {
    let (mut peer, request) = putting();
    let mut datagrams = 1;
    while let Some(due_ns) = peer.wakes_ns() {
        peer.wake(due_ns);
        while let Some(again) = sent(&mut peer) {
            assert_eq!(again, request, "servers know it by its id as the same");
            datagrams += 1;
        }
    }
    assert_eq!((datagrams, peer.settled()), (5, Some(Err(PutError::Unknown("no answer".into())))));
    assert!(peer.observes("3303/0/5700"));
}

#[test]
fn a_reset_says_that_a_put_is_not_done_only_when_it_was_sent_once() {
    for again in [false, true] {
        let (mut peer, request) = putting();
        if again {
            peer.wake(3 * SECOND_NS);
        }
        let reset = message(MessageType::Reset, MessageClass::Empty, request.header.message_id, &[], &[]);
        take(&mut peer, 3 * SECOND_NS, &reset);
        let outcome = peer.settled().unwrap().unwrap_err();
        assert_eq!(matches!(outcome, PutError::Unknown(_)), again, "{outcome:?}");
    }
}

proptest! {
    #[test]
    fn no_datagrams_make_it_panic_or_keep_more_than_it_may(
        datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0..4_u8, 0..4_u16, any::<u32>(), any::<u32>(), any::<bool>()), 0..40)
    ) {
        let (mut peer, token) = observing();
        for (n, (bytes, kind, id, observe, block, is_raw)) in datagrams.into_iter().enumerate() {
            let now_ns = n as u64 * SECOND_NS;
            if !peer.is_busy() {
                match n % 3 {
                    0 => peer.put(now_ns, "a/b?c=d", (bytes.clone(), 50), 0),
                    _ => peer.ask(now_ns, "a/b?c=d", n % 2 == 0, 0),
                }
            }
            let request = std::iter::from_fn(|| sent(&mut peer)).last();
            if is_raw {
                peer.handle(now_ns, &bytes, 0);
                continue;
            }
            let kinds = [MessageType::Confirmable, MessageType::NonConfirmable, MessageType::Acknowledgement, MessageType::Reset];
            let own = request.filter(|_| id > 1);
            let token = own.as_ref().map_or(token.clone(), |request| request.get_token().to_vec());
            let id = own.map_or(id, |request| request.header.message_id);
            let mut packet = content(kinds[usize::from(kind)], id, &token, &bytes);
            packet.set_observe_value(observe);
            packet.add_option(CoapOption::Block2, bytes_of(block));
            take(&mut peer, now_ns, &packet);
            peer.wake(now_ns + 40 * SECOND_NS);
            while peer.answer().is_some() || peer.settled().is_some() {}
            prop_assert!(peer.seen.len() <= SEEN_MAX && peer.observed.len() <= OBSERVED_MAX);
        }
    }
}
