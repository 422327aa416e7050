//! What the devices of a group share, over real sessions.

use super::*;

async fn group(bench: &Bench, device: &str, groups: &[&str]) {
    let marks = axum::Json(serde_json::from_value(json!({ "groups": groups })).unwrap());
    let path = axum::extract::Path(device.to_owned());
    let _grouped =
        crate::api::marks::patch(axum::extract::State(Arc::clone(&bench.hub)), path, marks).await.unwrap();
}

/// A replica of its own: no two agents write by one name.
fn own(name: &str, tag: u8) -> BTreeMap<DocumentId, Twin> {
    [(document(name), Twin::new(Actor::new(Side::Agent, [tag; 15])).unwrap())].into()
}

#[tokio::test]
async fn agents_with_devices_in_a_group_share_its_document_until_they_leave() {
    let bench = Bench::start();
    let (a, b, c) = (bench.enrol("a"), bench.enrol("b"), bench.enrol("c"));
    bench.register("a1", "a", "");
    group(&bench, "a1", &["pumps", "hall 2"]).await;
    patch(&bench, "group/pumps", json!({"speed": 5})).await;
    let mut first = Peer::connect(&bench, "a", &a).await;
    first.wants("group/pumps", json!({"speed": 5})).await;
    // Into the group while it is connected, and into another one of which nobody has written.
    let mut second = Peer::connect(&bench, "b", &b).await;
    group(&bench, "b", &["pumps", "spare"]).await;
    second.twins.extend(own("group/pumps", 9).into_iter().map(|(document, twin)| {
        let link = Link::new("hub", &twin);
        (document, (twin, link))
    }));
    second.wants("group/pumps", json!({"speed": 5})).await;
    second.wants("group/spare", json!({})).await;
    // What one writes the others get, as what the hub writes.
    first.edit("group/pumps", Section::Notes, "who", json!("ben"), 5);
    first.say().await;
    second.until("group/pumps", |twin| twin.json(Section::Notes) == json!({"who": "ben"})).await;
    patch(&bench, "group/pumps", json!({"night": true})).await;
    for peer in [&mut first, &mut second] {
        peer.wants("group/pumps", json!({"speed": 5, "night": true})).await;
    }
    // Its device leaves the group, and with it the agent; what it writes then is not taken, and it gets no more.
    group(&bench, "a1", &["hall 2"]).await;
    while first.twins.contains_key(&document("group/pumps")) {
        first.hear().await;
    }
    first.edit("group/pumps", Section::Desired, "speed", json!(9), 6);
    first.say().await;
    while first.twins.contains_key(&document("group/pumps")) {
        first.hear().await;
    }
    patch(&bench, "group/pumps", json!({"speed": 6})).await;
    second.wants("group/pumps", json!({"speed": 6, "night": true})).await;
    patch(&bench, "a", json!({"mark": 1})).await;
    first.wants("a", json!({"mark": 1})).await;
    assert!(!first.twins.contains_key(&document("group/pumps")));
    // One that was never in it is told nothing.
    let mut third = Peer::connect(&bench, "c", &c).await;
    third.edit("c", Section::Reported, "up", json!(true), 6);
    third.say().await;
    third.until("c", |twin| twin.unconfirmed() == 0).await;
    assert!(!third.twins.contains_key(&document("group/pumps")));
}

#[tokio::test]
async fn an_agent_that_does_not_know_groups_is_told_nothing_of_them() {
    let bench = Bench::start();
    let identity = bench.enrol("old");
    group(&bench, "old", &["pumps"]).await;
    patch(&bench, "group/pumps", json!({"speed": 5})).await;
    patch(&bench, "old", json!({"speed": 4})).await;
    let mut peer = Peer::connect_as(&bench, ("old", &identity), BTreeMap::new(), &[TWIN_ABILITY]).await;
    patch(&bench, "group/pumps", json!({"speed": 6})).await;
    peer.wants("old", json!({"speed": 4})).await;
    patch(&bench, "old", json!({"speed": 7})).await;
    peer.wants("old", json!({"speed": 7})).await;
    assert!(!peer.twins.contains_key(&document("group/pumps")));
    drop(peer);
    // As soon as it does, it is.
    let mut peer =
        Peer::connect_as(&bench, ("old", &identity), own("group/pumps", 9), &[TWIN_ABILITY, GROUPS_ABILITY])
            .await;
    peer.wants("group/pumps", json!({"speed": 6})).await;
}
