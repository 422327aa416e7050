//! Sessions that began while a device was behind another agent.

use super::*;

#[tokio::test]
async fn a_session_that_began_while_a_device_was_anothers_hears_of_it_when_it_is_its_agents_again() {
    let bench = Bench::start();
    let identity = bench.enrol("old");
    bench.enrol("new");
    bench.register("valve-1", "old", "");
    patch(&bench, "valve-1", json!({"open": 1})).await;
    let mut peer = Peer::connect(&bench, "old", &identity).await;
    peer.wants("valve-1", json!({"open": 1})).await;
    put_behind(&bench, "valve-1", "new").await;
    let Peer { agent, twins, .. } = peer;
    drop(agent);
    let twins = twins.into_iter().map(|(document, (twin, _))| (document, twin)).collect();
    // What it says of the device when the session begins is refused.
    let mut peer = Peer::connect_with(&bench, "old", &identity, twins).await;
    until_heard(&mut peer, "old", 2).await;
    put_behind(&bench, "valve-1", "old").await;
    patch(&bench, "valve-1", json!({"open": 2})).await;
    peer.wants("valve-1", json!({"open": 2})).await;
    // And goes on doing so.
    patch(&bench, "valve-1", json!({"open": 3})).await;
    peer.wants("valve-1", json!({"open": 3})).await;
}
