//! CoAP: any datagrams at any time, as the client and as the simulated server get them. Blocks of any numbers and sizes, of
//! which a body is made or none.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use edge_agent::profile::simulate::coap::Server;
use edge_agent::source::coap::peer::{BODY_BYTES_MAX, Peer};

use crate::input::Input;

/// Most events of an input, so that a long one does not take for ever.
const EVENTS_MAX: usize = 200;
/// Most datagrams that one event makes: a retransmission, an acknowledgement and the request for the next block.
const SENT_MAX: usize = 3;
const SECOND_NS: u64 = 1_000_000_000;
const PATHS: [&str; 3] = ["a", "b/c?d=1", ""];

pub fn seeds() -> Vec<Vec<u8>> {
    // Asks, and is answered as it should be: whole, in blocks, with notifications.
    let whole = vec![0, 0, 0, 4, 0, 2, 0x45, 0, 0, 0xFF, 3, 1, 2, 3];
    let blocks = vec![0, 1, 0, 4, 0, 2, 0x45, 1, 0x0E, 0, 64, 9, 4, 0, 2, 0x45, 1, 0x16, 0, 7, 9];
    let told = vec![
        0, 0, 1, 4, 0, 2, 0x45, 2, 5, 0, 3, 1, 4, 0, 1, 0x45, 2, 6, 0, 3, 1, 4, 0, 0, 0x45, 2, 7, 0, 3, 1,
    ];
    let waits = vec![0, 2, 1, 1, 9, 1, 20, 2, 3, 4, 0, 2, 0, 0, 0, 0, 1, 200];
    let served = vec![5, 1, 0x40, 1, 0, 1, 0xB1, b'a', 5, 2, 6, 1, 5, 1, 0x60, 0, 0, 2];
    vec![whole, blocks, told, waits, served]
}

/// Events, each a byte and what it needs.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut peer, mut now_ns) = (Peer::new("host", 7), 0_u64);
    let mut server: Server<u8> = Server::default();
    server.set("a", vec![b'x'; 3000]);
    let mut asked: Vec<Packet> = Vec::new();
    for _ in 0..EVENTS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 7 {
            0 => {
                let path = PATHS[input.below(PATHS.len())];
                peer.ask(now_ns, path, input.byte() & 1 == 1, 11);
            }
            1 => {
                now_ns += u64::from(input.byte()) * SECOND_NS;
                peer.wake(now_ns);
            }
            2 => peer.give_up(),
            3 => peer.handle(now_ns, &any(&mut input), 13),
            4 => {
                let answer = answer(&mut input, &asked);
                peer.handle(now_ns, &answer, 17);
            }
            5 => {
                let from = input.byte() % 4;
                server.handle(now_ns, &from, &any(&mut input));
            }
            _ => server.set("a", vec![input.byte(); input.below(5000)]),
        }
        let sent: Vec<Vec<u8>> = std::iter::from_fn(|| peer.transmit()).collect();
        assert!(sent.len() <= SENT_MAX, "{} datagrams for one event", sent.len());
        for datagram in sent {
            let packet = Packet::from_bytes(&datagram).expect("what is sent is a message");
            if matches!(packet.header.code, MessageClass::Request(RequestType::Get)) {
                asked.push(packet);
            }
            server.handle(now_ns, &9, &datagram);
        }
        while let Some(answer) = peer.answer() {
            if let Ok(body) = answer.outcome {
                assert!(body.bytes.len() <= BODY_BYTES_MAX, "a body of {} bytes", body.bytes.len());
            }
        }
        for (_, datagram) in std::iter::from_fn(|| server.transmit()) {
            assert!(Packet::from_bytes(&datagram).is_ok(), "what is sent is a message");
        }
    }
}

fn any(input: &mut Input<'_>) -> Vec<u8> {
    let length = usize::from(input.byte());
    (0..length).map_while(|_| (!input.is_empty()).then(|| input.byte())).collect()
}

/// An answer to a request that was made, or one that looks so.
fn answer(input: &mut Input<'_>, asked: &[Packet]) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    let behind = usize::from(input.byte());
    let request = asked.len().checked_sub(behind + 1).and_then(|at| asked.get(at));
    packet.header.set_type(match input.byte() % 4 {
        0 => MessageType::Confirmable,
        1 => MessageType::NonConfirmable,
        2 => MessageType::Acknowledgement,
        _ => MessageType::Reset,
    });
    packet.header.code = match input.byte() {
        0 => MessageClass::Empty,
        0x45 => MessageClass::Response(ResponseType::Content),
        _ => MessageClass::Response(ResponseType::NotFound),
    };
    packet.header.message_id = request.map_or(1, |request| request.header.message_id);
    packet.set_token(request.map_or(vec![1], |request| request.get_token().to_vec()));
    match input.byte() % 4 {
        1 => packet.add_option(CoapOption::Block2, vec![input.byte(), input.byte()]),
        2 => packet.add_option(CoapOption::Observe, vec![input.byte(), input.byte()]),
        3 => {
            packet.add_option(CoapOption::ETag, vec![input.byte()]);
            packet.add_option(CoapOption::ContentFormat, vec![input.byte()]);
        }
        _ => {}
    }
    let length = usize::from(input.byte()) * 16;
    packet.payload = vec![input.byte(); length];
    packet.to_bytes_unlimited().unwrap_or_default()
}
