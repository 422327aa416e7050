//! What a hub keeps of twins when it is killed, restored, or has more of them than it has room for.

use serde_json::{Value as Json, json};
use tideline_protocol::wire::TwinSync;
use tideline_twin::{Action, Actor, Edit, Key, Link, Message, Side, Write};

use super::file::Put;
use super::*;
use crate::api::tests::hub_in;
use crate::config::Config;

fn document(name: &str) -> DocumentId {
    name.parse().unwrap()
}

fn desired(json: Json) -> Patch {
    Patch {
        sections: vec![(Section::Desired, json)],
        of: None,
        author: "anna".to_owned(),
        check: |_, _| Vec::new(),
    }
}

async fn put(hub: &App, name: &str, json: Json) -> String {
    patch(hub, document(name), desired(json), etag).await.unwrap()
}

async fn shown(hub: &App, name: &str) -> Json {
    look(hub, document(name), |twin| twin.json(Section::Desired)).await.unwrap()
}

/// The hub goes as a killed one does: what is in no commit is gone.
fn kill(hub: App) {
    let store = hub.store.clone();
    drop(hub);
    store.close().unwrap();
}

#[tokio::test]
async fn patches_that_belong_together_are_made_all_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub_in(folder.path(), Config::default());
    let by = |author: &str, json: Json| Patch { author: author.to_owned(), ..desired(json) };
    let all = [by("a", json!({ "x": 1 })), by("b", json!({ "y": 2 }))];
    let made = hub.twins.patch_all(&hub, &document("d"), &all, etag).unwrap();
    settle(&hub, made.1).await.unwrap();
    assert_eq!(shown(&hub, "d").await, json!({ "x": 1, "y": 2 }));
    // The second cannot be made.
    let some = [by("a", json!({ "x": 3 })), by("b", json!({ "y": "z".repeat(9_000) }))];
    assert!(hub.twins.patch_all(&hub, &document("d"), &some, etag).is_err());
    // Of the state that both were made of, which the second one's is not any more.
    let of = |patch: Patch| Patch { of: Some(vec![made.0.clone()]), ..patch };
    let more = [of(by("a", json!({ "x": 5 }))), of(by("b", json!({ "y": 6 })))];
    let (_, written) = hub.twins.patch_all(&hub, &document("d"), &more, etag).unwrap();
    settle(&hub, written).await.unwrap();
    assert_eq!(shown(&hub, "d").await, json!({ "x": 5, "y": 6 }));
    // As often as the document may be changed, and once more than is left.
    let (mut too_often, mut waiting) = (None, Written::default());
    for at in 0..10_000 {
        let both = [by("a", json!({ "x": at })), by("b", json!({ "y": at }))];
        match hub.twins.patch_all(&hub, &document("d"), &both, etag) {
            Ok((_, written)) => waiting.extend([written]),
            Err(error) => {
                too_often = Some((error, at));
                break;
            }
        }
    }
    let (error, at) = too_often.expect("a limit");
    settle(&hub, waiting).await.unwrap();
    assert!(matches!(error, TwinError::TooOften { .. }), "{error}");
    let before = json!({ "x": at - 1, "y": at - 1 });
    assert_eq!(shown(&hub, "d").await, before, "nothing of the two is made");
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_kill_with_who_and_when() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    let before = put(&hub, "pump-7", json!({"motor": {"speed": 5}})).await;
    let after = put(&hub, "pump-7", json!({"motor": {"speed": 7, "on": true}})).await;
    assert_ne!(before, after);
    assert_eq!(put(&hub, "pump-7", json!({})).await, after, "nothing changes");
    kill(hub);
    let hub = hub_in(dir.path(), Config::default());
    assert_eq!(shown(&hub, "pump-7").await, json!({"motor": {"speed": 7, "on": true}}));
    assert_eq!(look(&hub, document("pump-7"), etag).await.unwrap(), after);
    let key = Key::parse("motor/speed").unwrap();
    let leaf = look(&hub, document("pump-7"), move |twin| twin.leaf(Section::Desired, &key)).await.unwrap();
    assert_eq!(leaf.unwrap().origin.unwrap().author, "anna");
    assert_eq!(hub.twins.standing().documents, 1);
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_durable_when_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    let mut all = tokio::task::JoinSet::new();
    for n in 0..64_u32 {
        let hub = Arc::clone(&hub);
        all.spawn(async move { put(&hub, &format!("d{}", n % 8), json!({ n.to_string(): n })).await });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    kill(hub);
    let hub = hub_in(dir.path(), Config::default());
    for n in 0..64_u32 {
        assert_eq!(shown(&hub, &format!("d{}", n % 8)).await[n.to_string()], n);
    }
}

#[tokio::test]
async fn many_changes_are_written_as_a_whole_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    for n in 0..150 {
        put(&hub, "d", json!({"n": n})).await;
        let found = hub.twins.file.find(&document("d")).unwrap().unwrap();
        assert!(found.since.len() <= 64, "{n}: {}", found.since.len());
    }
    let was = look(&hub, document("d"), |twin| (etag(twin), twin.changes())).await.unwrap();
    kill(hub);
    let hub = hub_in(dir.path(), Config::default());
    assert_eq!(look(&hub, document("d"), |twin| (etag(twin), twin.changes())).await.unwrap(), was);
    assert_eq!(shown(&hub, "d").await, json!({"n": 149}));
}

#[tokio::test]
async fn documents_beyond_the_room_in_memory_are_on_disk_alone() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    for n in 0..20 {
        put(&hub, &format!("d{n}"), json!({"n": n})).await;
    }
    let path = dir.path().join(TWINS);
    kill(hub);
    let few = Twins::of(TwinFile::open(&path).unwrap(), Shelf::with_limits(4, usize::MAX));
    for n in (0..20).chain(0..20) {
        let found = few.look(&document(&format!("d{n}")), |twin| twin.json(Section::Desired)).unwrap();
        assert_eq!(found, json!({"n": n}));
        assert!(few.standing().kept <= 4);
    }
    drop(few);
    let none = Twins::of(TwinFile::open(&path).unwrap(), Shelf::with_limits(1000, 0));
    none.look(&document("d3"), |_| ()).unwrap();
    assert_eq!((none.standing().kept, none.standing().kept_bytes), (0, 0));
}

#[test]
fn a_document_that_is_held_stays_in_memory_and_others_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let few = Twins::of(TwinFile::open(&dir.path().join(TWINS)).unwrap(), Shelf::with_limits(3, usize::MAX));
    let slot_of =
        |name: &str| few.shelf.with(&few.file, &document(name), |slot, _| Arc::clone(slot)).unwrap();
    let held = [slot_of("held-1"), slot_of("held-2")];
    for n in 0..10 {
        few.look(&document(&format!("d{n}")), |_| ()).unwrap();
        assert_eq!(few.standing().kept, 3);
    }
    assert!(Arc::ptr_eq(&held[0], &slot_of("held-1")) && Arc::ptr_eq(&held[1], &slot_of("held-2")));
    drop(held);
    few.look(&document("d0"), |_| ()).unwrap();
    few.look(&document("d1"), |_| ()).unwrap();
    few.look(&document("d2"), |_| ()).unwrap();
    assert_eq!(few.standing().kept, 3);
}

#[tokio::test]
async fn a_restored_hub_writes_as_another_replica_however_often_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("a");
    std::fs::create_dir(&first).unwrap();
    let hub = hub_in(&first, Config::default());
    put(&hub, "d", json!({"a": 1})).await;
    hub.twins.file().copy_to(&dir.path().join("backup")).unwrap();
    let was = hub.twins.file.actor();
    put(&hub, "d", json!({"forgotten": true})).await;
    kill(hub);
    let back = dir.path().join("b");
    std::fs::create_dir(&back).unwrap();
    std::fs::copy(dir.path().join("backup"), back.join(TWINS)).unwrap();
    TwinFile::restored(&back.join(TWINS)).unwrap();
    for n in 0..3 {
        let hub = hub_in(&back, Config::default());
        assert_ne!(hub.twins.file.actor(), was);
        for m in 0..3 {
            put(&hub, "d", json!({"a": 10 * n + m})).await;
            put(&hub, "new", json!({"a": 10 * n + m})).await;
        }
        assert_eq!(shown(&hub, "d").await, json!({"a": 10 * n + 2}));
        let numbers = look(&hub, document("d"), |twin| twin.history(&[]).unwrap().len()).await.unwrap();
        assert_eq!(numbers, 1 + 3 * (n + 1));
        kill(hub);
    }
}

#[tokio::test]
async fn a_record_that_is_not_written_takes_what_builds_on_it_along() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    put(&hub, "d", json!({"a": 1})).await;
    let (failing, later) = (desired(json!({"a": 2})), desired(json!({"b": 3})));
    let (_, first) = hub.twins.patch(&hub, &document("d"), &failing, |_| ()).unwrap();
    let (_, second) = hub.twins.patch(&hub, &document("d"), &later, |_| ()).unwrap();
    // As if its commit had failed.
    let slot = hub.twins.shelf.with(&hub.twins.file, &document("d"), |slot, _| Arc::clone(slot)).unwrap();
    slot.fail();
    assert!(matches!(hub.twins.look(&document("d"), |_| ()), Err(TwinError::Unwritten)));
    hub.twins.shelf.forget(&slot);
    for written in [first, second] {
        assert!(matches!(settle(&hub, written).await, Err(TwinError::Unwritten)));
    }
    assert_eq!(shown(&hub, "d").await, json!({"a": 1}));
    put(&hub, "d", json!({"a": 4})).await;
    assert_eq!(shown(&hub, "d").await, json!({"a": 4}));
}

#[tokio::test]
async fn what_a_patch_may_not_do_is_refused_and_nothing_of_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    let first = put(&hub, "d", json!({"a": 1})).await;
    let second = put(&hub, "d", json!({"a": 2})).await;
    let of = |etag: &str| Patch { of: Some(vec![etag.to_owned()]), ..desired(json!({"a": 3})) };
    let late = patch(&hub, document("d"), of(&first), etag).await;
    assert!(matches!(late, Err(TwinError::Differs { etag }) if etag == second));
    patch(&hub, document("d"), of(&second), etag).await.unwrap();
    let reported = Patch { sections: vec![(Section::Reported, json!({"a": 1}))], ..desired(json!({})) };
    assert!(matches!(patch(&hub, document("d"), reported, etag).await, Err(TwinError::Edit(_))));
    let half = Patch {
        sections: vec![(Section::Desired, json!({"b": 1})), (Section::Tags, json!({"$x": {"y": 1}}))],
        ..desired(json!({}))
    };
    assert!(matches!(patch(&hub, document("d"), half, etag).await, Err(TwinError::Patch { .. })));
    assert_eq!(shown(&hub, "d").await, json!({"a": 3}));
}

#[test]
fn a_share_of_changes_fills_again() {
    let dir = tempfile::tempdir().unwrap();
    let twins = Twins::open(&dir.path().join(TWINS)).unwrap();
    let taken = twins.shelf.with(&twins.file, &document("d"), |_, warm| {
        let at_once = (0..1000).take_while(|_| warm.take_edits(1_000_000_000, 1).is_ok()).count();
        let after = (0..1000).take_while(|_| warm.take_edits(2_000_000_000, 1).is_ok()).count();
        (at_once, after)
    });
    assert_eq!(taken.unwrap(), (200, 20));
}

#[test]
fn a_damaged_document_is_told_and_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let twins = Twins::open(&dir.path().join(TWINS)).unwrap();
    twins.file.write([(&document("d"), &Put::Whole(b"no twin".to_vec()))]).unwrap();
    let error = twins.look(&document("d"), |_| ()).unwrap_err();
    assert!(matches!(&error, TwinError::Damaged { document, .. } if document.to_string() == "device/d"));
    twins.look(&document("e"), |_| ()).unwrap();
}

/// Fills a document with long texts that replace each other, until it takes no more edits; what it is then.
fn fill(hub: &Hub, name: &str) -> Twin {
    let filled = hub.twins.shelf.with(&hub.twins.file, &document(name), |_, warm| {
        for n in 0..200_u32 {
            let edit = |m: u32| Edit {
                section: Section::Desired,
                key: Key::parse(&format!("text{m}")).unwrap(),
                action: Action::Put(format!("{n:08}").repeat(1000).into()),
            };
            let change = Change { edits: (0..7).map(edit).collect(), author: "anna".to_owned(), time_ms: 1 };
            match warm.twin.edit(&change) {
                Ok(record) => warm.twin.handle_durable(record.unwrap().ticket),
                Err(error) => {
                    assert_eq!(error, EditError::TooManyUnconfirmed);
                    return warm.twin.clone();
                }
            }
        }
        panic!("it takes edits without end");
    });
    filled.unwrap()
}

#[tokio::test]
async fn a_document_that_is_full_already_is_cut_off_for_the_next_edit() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    // As one is that an earlier version wrote.
    fill(&hub, "d");
    put(&hub, "d", json!({"a": 1})).await;
    kill(hub);
    let hub = hub_in(dir.path(), Config::default());
    assert_eq!(shown(&hub, "d").await["a"], 1);
    assert_eq!(look(&hub, document("d"), |twin| twin.generation().number).await.unwrap(), 1);
}

#[tokio::test]
async fn an_agent_with_nothing_new_frees_a_full_document_of_a_restored_hub() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    // By the name that the hub had before it was restored.
    let (Write::Append(whole) | Write::Replace(whole)) =
        Twin::new(Actor::new(Side::Hub, [9; 15])).unwrap().save().write;
    hub.twins.file.write([(&document("d"), &Put::Whole(whole))]).unwrap();
    hub.metadata.put("d", &DeviceRecord::behind("d".to_owned(), 1)).unwrap();
    let twin = fill(&hub, "d");
    let early = patch(&hub, document("d"), desired(json!({"a": 1})), etag).await;
    assert!(matches!(early, Err(TwinError::Edit(EditError::TooManyUnconfirmed))), "{early:?}");
    let state = Link::new("d", &twin).poll(&twin).unwrap();
    assert!(matches!(state, Message::State { .. }));
    let heard = vec![TwinSync { document: document("d"), message: state.to_bytes() }];
    let who = Speaker { agent: AgentId::parse("d").unwrap(), number: 1 };
    let turned = turn(Arc::clone(&hub), who, Turn { heard, ..Turn::default() }).await.unwrap();
    assert_eq!(turned.refused, [] as [String; 0]);
    let generation = look(&hub, document("d"), |twin| twin.generation().number).await.unwrap();
    assert_eq!(generation, 1, "history is cut off with what frees both ends");
    let mut messages = turned.say.iter().map(|sync| Message::from_bytes(&sync.message).unwrap());
    assert!(messages.any(|message| matches!(message, Message::Base { .. })));
    put(&hub, "d", json!({"a": 1})).await;
}
