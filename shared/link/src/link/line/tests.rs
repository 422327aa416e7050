//! A line keeps the promises of a link, whatever its driver does.

use std::net::Ipv4Addr;

use tideline_protocol::wire::{Message, Ping, encode};

use super::*;

const SHOWN: PeerCertificate = PeerCertificate {
    key_sha256: [7; 32],
    sha256: [8; 32],
    not_before_s: 1_790_000_000,
    not_after_s: 1_821_536_000,
};

fn ping(corr: u64) -> Frame {
    Frame { corr, trace: None, message: Message::Ping(Ping { mono_ns: corr, next_ms: 0 }) }
}

fn bytes(corr: u64) -> Bytes {
    Bytes::from(encode(&ping(corr)))
}

fn open() -> (Link, Line) {
    let peer = Peer { agent: AgentId::parse("pump-7").unwrap(), proof: Proof::Certificate(SHOWN) };
    link(Transport::Mqtt, (Ipv4Addr::LOCALHOST, 8883).into(), Some(peer))
}

#[tokio::test]
async fn a_link_says_who_and_what_it_is() {
    let (link, line) = open();
    assert_eq!(link.peer_agent().map(AgentId::as_str), Some("pump-7"));
    assert_eq!(link.peer_certificate(), Some(SHOWN));
    assert_eq!((link.transport(), link.transport().as_str()), (Transport::Mqtt, "mqtt"));
    assert_eq!(link.handle().remote_addr().port(), 8883);
    line.control.count(3, 5);
    line.control.note_round_trip(9);
    let token = Peer { agent: AgentId::parse("pump-7").unwrap(), proof: Proof::Token };
    let (by_token, _line) = super::link(Transport::Mqtt, (Ipv4Addr::LOCALHOST, 8883).into(), Some(token));
    assert_eq!((by_token.peer_agent(), by_token.peer_certificate()), (link.peer_agent(), None));
    assert_eq!(link.stats(), LinkStats { rtt_us: 9, sent_bytes: 3, recv_bytes: 5, ..LinkStats::default() });
}

#[tokio::test]
async fn pieces_of_any_size_become_the_frames_they_were() {
    for size in [1, 7, 24, 25, 1000] {
        let (link, line) = open();
        let (_sender, mut receiver) = link.split();
        let stream: Vec<u8> = (1..=20).flat_map(|corr| encode(&ping(corr))).collect();
        let delivering = async {
            for piece in stream.chunks(size) {
                line.arrivals.deliver(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            line.arrivals.end();
        };
        let reading = async {
            for corr in 1..=20 {
                assert_eq!(receiver.recv().await, Ok(Some(ping(corr))));
            }
            assert_eq!(receiver.recv().await, Ok(None));
        };
        tokio::join!(delivering, reading);
    }
}

#[tokio::test]
async fn a_broken_off_send_goes_out_before_the_next_and_nothing_waits_in_an_unbounded_queue() {
    let (link, mut line) = open();
    let (mut sender, _receiver) = link.split();
    let mut begun = 0;
    // Nobody drives the line: once the channel is full a send waits, and is broken off here.
    loop {
        begun += 1;
        tokio::select! {
            biased;
            sent = sender.send_bytes(bytes(begun)) => sent.unwrap(),
            () = tokio::task::yield_now() => break,
        }
    }
    assert_eq!(begun, OUTGOING_MAX as u64 + 1);
    let sending = async {
        sender.send(&ping(99)).await.unwrap();
        sender.finish().await.unwrap();
        sender.finish().await.unwrap();
    };
    let driving = async {
        let mut seen = Vec::new();
        loop {
            match line.departures.next().await.unwrap() {
                Outgoing::Frame(frame) => seen.push(frame),
                Outgoing::Finish(answer) => {
                    answer.send(()).unwrap();
                    return seen;
                }
            }
        }
    };
    let ((), seen) = tokio::join!(sending, driving);
    assert_eq!(seen, (1..=begun).chain([99]).map(bytes).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_finish_that_was_broken_off_is_taken_up_again() {
    let (link, mut line) = open();
    let (mut sender, _receiver) = link.split();
    tokio::select! {
        biased;
        _ = sender.finish() => panic!("nobody has answered"),
        () = tokio::task::yield_now() => {}
    }
    let Some(Outgoing::Finish(answer)) = line.departures.next().await else { panic!("no finish") };
    answer.send(()).unwrap();
    assert_eq!(sender.finish().await, Ok(()));
}

#[tokio::test]
async fn the_end_is_read_after_what_came_before_it() {
    let (link, line) = open();
    let handle = link.handle();
    let (mut sender, mut receiver) = link.split();
    line.arrivals.deliver(bytes(1)).await.unwrap();
    let refused = LinkError::Refused { code: 9, reason: "no".into() };
    line.control.end(refused.clone());
    line.control.end(LinkError::TimedOut);
    line.arrivals.deliver(bytes(2)).await.unwrap();
    assert_eq!(sender.send(&ping(3)).await, Err(refused.clone()));
    drop(line);
    assert_eq!(receiver.recv().await, Ok(Some(ping(1))));
    assert_eq!(receiver.recv().await, Ok(Some(ping(2))));
    assert_eq!(receiver.recv().await, Err(refused.clone()));
    assert_eq!(sender.send(&ping(2)).await, Err(refused.clone()));
    assert_eq!(sender.finish().await, Err(refused.clone()));
    assert_eq!(handle.closed().await, refused);
}

#[tokio::test]
async fn a_close_frees_who_waits_and_tells_the_driver_why() {
    let (link, mut line) = open();
    let handle = link.handle();
    let (mut sender, mut receiver) = link.split();
    let stuck = async {
        loop {
            if let Err(error) = sender.send(&ping(1)).await {
                return error;
            }
        }
    };
    let closing = async { handle.close(2, "replaced") };
    let (sent, received, ()) = tokio::join!(stuck, receiver.recv(), closing);
    assert_eq!((sent, received), (LinkError::Closed, Err(LinkError::Closed)));
    let closing = Closing { code: 2, reason: "replaced".into() };
    assert_eq!(line.departures.watch_closing().await, closing);
    assert_eq!(line.departures.closing().await, closing);
}

#[tokio::test]
async fn either_end_that_is_dropped_ends_the_link() {
    let (link, mut line) = open();
    let (handle, halves) = (link.handle(), link.split());
    drop(halves);
    tokio::select! {
        biased;
        _ = line.departures.closing() => panic!("a handle is left"),
        () = tokio::task::yield_now() => {}
    }
    drop(handle);
    assert_eq!(line.departures.closing().await.code, CLOSE_DONE);
    let (link, line) = open();
    drop(line);
    assert!(matches!(link.handle().closed().await, LinkError::Lost { .. }));
    assert!(matches!(link.split().1.recv().await, Err(LinkError::Lost { .. })));
}

#[tokio::test]
async fn bytes_that_are_no_frame_are_an_error_of_the_wire() {
    let (link, line) = open();
    line.arrivals.deliver(Bytes::from_static(b"GET / HTTP/1.1\r\nhost: hub\r\n\r\n")).await.unwrap();
    let (_sender, mut receiver) = link.split();
    assert!(matches!(receiver.recv().await, Err(LinkError::Wire(_))));
}
