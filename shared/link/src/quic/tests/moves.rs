//! A link whose agent gets another address, and one on which nobody says anything.

use tideline_protocol::session::PING_IDLE_NS;

use super::*;

/// Nobody knocks now.
async fn nobody_knocks(hub: &ServerEndpoint) {
    tokio::select! {
        biased;
        incoming = hub.accept() => panic!("a new handshake: {incoming:?}"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test]
async fn a_link_goes_on_without_a_new_handshake_when_its_agent_gets_another_address() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, mut receiver, near), (mut far_sender, mut far_receiver, far)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    let first = far.remote_addr();
    for last in 2..=4 {
        let local: IpAddr = Ipv4Addr::new(127, 0, 0, last).into();
        client.rebind_to((local, 0).into()).unwrap();
        let (out, back) = (ping(u64::from(last)), ping(100 + u64::from(last)));
        sender.send(&out).await.unwrap();
        assert_eq!(far_receiver.recv().await, Ok(Some(out)));
        assert_eq!(far.remote_addr().ip(), local, "the hub's own connection is at the new address");
        far_sender.send(&back).await.unwrap();
        assert_eq!(receiver.recv().await, Ok(Some(back)));
        nobody_knocks(&hub).await;
    }
    assert_ne!(far.remote_addr(), first);
    // Both ends are those that met at first.
    sender.finish().await.unwrap();
    assert_eq!(far_receiver.recv().await, Ok(None));
    near.close(CLOSE_DONE, "bye");
    assert_eq!(far.closed().await, LinkError::Closed);
}

#[tokio::test]
async fn a_hub_learns_the_new_address_from_an_agent_that_has_nothing_to_say() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(_sender, mut receiver, _), (mut far_sender, _far_receiver, far)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    let local = Ipv4Addr::new(127, 0, 0, 9);
    client.rebind_to((local, 0).into()).unwrap();
    let learned = async {
        while far.remote_addr().ip() != IpAddr::from(local) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, learned).await.expect("it is told by a packet of QUIC's own");
    far_sender.send(&ping(5)).await.unwrap();
    assert_eq!(receiver.recv().await, Ok(Some(ping(5))));
    nobody_knocks(&hub).await;
}

/// Lets time pass, and the tasks that wait for it do their work at each step.
async fn pass(time: Duration) {
    let step = Duration::from_millis(100);
    for _ in 0..time.as_millis() / step.as_millis() {
        tokio::time::advance(step).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_link_bears_the_silence_between_two_pings_without_a_packet_and_no_longer_one() {
    let authority = authority();
    let (hub, addr) = hub(&authority);
    let client = client();
    let agent = agent_of(&authority, "pump-7", now_s());
    let [(mut sender, _receiver, near), (_far_sender, mut far_receiver, far)] =
        pair(&hub, addr, &client, tls_of(&agent, system_time())).await;
    tokio::time::pause();
    // What the handshake left to say.
    pass(Duration::from_secs(5)).await;
    let before = (near.stats().sent_packets, far.stats().sent_packets);
    pass(Duration::from_nanos(PING_IDLE_NS - 1_000_000_000)).await;
    assert_eq!((near.stats().sent_packets, far.stats().sent_packets), before, "the transport says nothing");
    sender.send(&ping(2)).await.unwrap();
    assert_eq!(far_receiver.recv().await, Ok(Some(ping(2))));
    pass(IDLE_TIMEOUT + Duration::from_secs(1)).await;
    assert_eq!((near.closed().await, far.closed().await), (LinkError::TimedOut, LinkError::TimedOut));
}
