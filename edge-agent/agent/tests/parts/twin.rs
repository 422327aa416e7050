//! The twins of an agent, over a real link to a hub's replicas.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use edge_agent::agreement::Auditor;
use edge_agent::cards::Cards;
use edge_agent::clock::AgentClock;
use edge_agent::spooler::SpoolHandle;
use edge_agent::status::Board;
use edge_agent::sync::Wake;
use edge_agent::twin::{Kin, Parts, TwinError, TwinHandle, file};
use edge_agent::uplink::Uplink;
use edge_agent::uplink::dial::Dialler;
use edge_agent::uplink::routes::Routes;
use serde_json::{Value as Json, json};
use tideline_link::quic::LinkOptions;
use tideline_protocol::model::DeviceId;
use tideline_protocol::session::BackfillBudget;
use tideline_protocol::wire::{DeviceCard, DocumentId};
use tideline_twin::{Action, Change, Edit, Key, Section, Twin};
use tokio::sync::watch;

use crate::hub::Hub;
use crate::{LONG, spool, until_shown};

pub fn start(folder: &Path, spool: &SpoolHandle, cards: &Cards, board: &Board) -> TwinHandle {
    let state = spool.state();
    let parts = Parts {
        path: file::path(folder),
        epoch: Box::new(move || state.borrow().epoch),
        kin: Kin { own: DeviceId::parse("pump-7").unwrap(), cards: cards.seen() },
        board: board.clone(),
        clock: AgentClock::default(),
    };
    TwinHandle::start(parts).unwrap().0
}

fn document(device: &str) -> DocumentId {
    device.parse().unwrap()
}

fn change(key: &str, value: Json, author: &str) -> Change {
    let edit = Edit { section: Section::Desired, key: Key::parse(key).unwrap(), action: Action::Put(value) };
    Change { edits: vec![edit], author: author.to_owned(), time_ms: 1 }
}

pub async fn put(twins: &TwinHandle, device: &str, key: &str, value: Json) {
    let change = change(key, value, "ben");
    assert!(twins.edit(document(device), move |_| Ok(change)).await.unwrap().changed);
}

fn put_at_hub(hub: &Hub, device: &str, key: &str, value: Json) {
    hub.twin(device, |twin| {
        let record = twin.edit(&change(key, value, "anna")).unwrap().unwrap();
        twin.handle_durable(record.ticket);
    });
}

/// Waits until a twin of the agent is so.
async fn until(twins: &TwinHandle, device: &str, is: impl Fn(&Twin) -> bool + Copy + Send + 'static) {
    let mut changes = twins.changes();
    let so = async {
        while !twins.look(document(device), is).await.unwrap() {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, so).await.expect("the twin is never so at the agent");
}

struct Line {
    uplink: tokio::task::JoinHandle<()>,
    _routes: watch::Sender<Routes>,
    _drain: watch::Sender<bool>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.uplink.abort();
    }
}

fn connect(hub: &Hub, spool: &SpoolHandle, twins: &TwinHandle, cards: &Cards, board: &Board) -> Line {
    let (routes, routes_now) = watch::channel(Routes::quic(&[&hub.addr]));
    let (drain, draining) = watch::channel(false);
    let clock = AgentClock::default();
    let uplink = Uplink {
        agent: hub.identity.file.agent.clone(),
        dialler: Arc::new(Dialler::new(hub.identity.clone(), clock, LinkOptions::default())),
        routes: routes_now,
        spool: spool.clone(),
        board: board.clone(),
        drain: draining,
        wake: Wake::default(),
        boot: [1; 16],
        clock,
        backfill: BackfillBudget::default(),
        cards: cards.clone(),
        twins: Some(twins.clone()),
        questions: Auditor::new(spool.clone(), board.clone()).1,
    };
    Line { uplink: tokio::spawn(uplink.run()), _routes: routes, _drain: drain }
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_both_ends_merge_also_those_made_apart() {
    let (hub, folder, board) = (Hub::start(), tempfile::tempdir().unwrap(), Board::default());
    let (spool, cards) = (spool(folder.path(), &board), Cards::default());
    let twins = start(folder.path(), &spool, &cards, &board);
    put(&twins, "pump-7", "mode", json!("eco")).await;
    put_at_hub(&hub, "pump-7", "limit", json!(5));
    let line = connect(&hub, &spool, &twins, &cards, &board);
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco", "limit": 5})).await;
    until(&twins, "pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco", "limit": 5})).await;
    // At once, in the open session.
    put_at_hub(&hub, "pump-7", "limit", json!(6));
    until(&twins, "pump-7", |twin| twin.json(Section::Desired)["limit"] == json!(6)).await;
    put(&twins, "pump-7", "mode", json!("boost")).await;
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired)["mode"] == json!("boost")).await;
    until_shown(&board, |status| status.twins.unconfirmed == 0 && status.twins.agreed_ms.is_some()).await;
    // Apart, both write one key: both see both values, with who.
    drop(line);
    put(&twins, "pump-7", "limit", json!(7)).await;
    put_at_hub(&hub, "pump-7", "limit", json!(8));
    let _line = connect(&hub, &spool, &twins, &cards, &board);
    let shown = |twin: &Twin| {
        let conflicts = twin.conflicts();
        let values = conflicts.iter().flat_map(|conflict| conflict.values.iter());
        let mut all: Vec<_> = values
            .map(|leaf| (leaf.origin.as_ref().unwrap().author.clone(), leaf.value.to_string()))
            .collect();
        all.sort();
        all
    };
    let both = || vec![("anna".to_owned(), "8".to_owned()), ("ben".to_owned(), "7".to_owned())];
    hub.until_twin("pump-7", |twin| shown(twin) == both()).await;
    until(&twins, "pump-7", move |twin| shown(twin) == both()).await;
    assert_eq!(board.read().twins.refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_twin_of_a_device_comes_when_the_device_is_found() {
    let (hub, folder, board) = (Hub::start(), tempfile::tempdir().unwrap(), Board::default());
    let (spool, cards) = (spool(folder.path(), &board), Cards::default());
    let twins = start(folder.path(), &spool, &cards, &board);
    put_at_hub(&hub, "meter-1", "limit", json!(5));
    let _line = connect(&hub, &spool, &twins, &cards, &board);
    until_shown(&board, |status| status.twins.refused == 1).await;
    let error = twins.look(document("meter-1"), |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "this agent neither is device meter-1 nor reads it");
    assert!(cards.tell(DeviceCard::new(DeviceId::parse("meter-1").unwrap())));
    until(&twins, "meter-1", |twin| twin.json(Section::Desired) == json!({"limit": 5})).await;
    let site = twins.look(document("site/hall"), |_| ()).await.unwrap_err();
    assert!(matches!(site, TwinError::NoTwin(_)), "{site}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_its_owners_alone_and_a_damaged_one_is_put_aside() {
    let (hub, folder, board) = (Hub::start(), tempfile::tempdir().unwrap(), Board::default());
    let (spool, cards) = (spool(folder.path(), &board), Cards::default());
    let path = file::path(folder.path());
    let twins = start(folder.path(), &spool, &cards, &board);
    put(&twins, "pump-7", "mode", json!("eco")).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let line = connect(&hub, &spool, &twins, &cards, &board);
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco"})).await;
    drop(line);
    twins.close().await;
    std::fs::write(&path, [7; 5_000]).unwrap();
    let twins = start(folder.path(), &spool, &cards, &board);
    assert!(path.with_extension("redb.quarantined-1").exists());
    put(&twins, "pump-7", "night", json!(true)).await;
    let _line = connect(&hub, &spool, &twins, &cards, &board);
    hub.until_twin("pump-7", |twin| twin.json(Section::Desired) == json!({"mode": "eco", "night": true}))
        .await;
    until(&twins, "pump-7", |twin| twin.json(Section::Desired)["mode"] == json!("eco")).await;
}
