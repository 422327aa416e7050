//! The page of a twin as a browser without scripts uses it.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use serde_json::json;
use tideline_protocol::model::{DeviceId, Epoch};
use tideline_twin::{Action, Actor, Change, Edit, Key, Link, Message, Side};
use tower::ServiceExt as _;

use super::*;
use crate::cards::Cards;
use crate::clock::AgentClock;
use crate::config::Layers;
use crate::status::Board;
use crate::twin::desk::Access;
use crate::twin::judge::Judge;
use crate::twin::{Kin, Parts, TwinHandle};

struct Site {
    twins: TwinHandle,
    _folder: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let parts = Parts {
            path: folder.path().join("twins.redb"),
            epoch: Box::new(|| Epoch::from_bytes([1; 16])),
            kin: Kin {
                own: DeviceId::parse("pump").unwrap(),
                cards: Cards::default().seen(),
                known: Arc::default(),
            },
            board: Board::default(),
            clock: AgentClock::default(),
        };
        Self { twins: TwinHandle::start(parts).unwrap().0, _folder: folder }
    }

    async fn ask(&self, form: Option<&[(&str, &str)]>) -> (StatusCode, String) {
        let token = Access::Token(Arc::from("secret"));
        let judge = Judge::new(DeviceId::parse("pump").unwrap(), Layers::default());
        let request = Request::builder().uri("/twin/pump/page");
        let request = match form {
            None => request.body(Body::empty()),
            Some(form) => {
                let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
                request.method("POST").body(Body::from(body))
            }
        };
        let response =
            router(Desk::new(self.twins.clone(), token, judge)).oneshot(request.unwrap()).await.unwrap();
        let status = response.status();
        let policy = response.headers().get(header::CONTENT_SECURITY_POLICY).cloned();
        assert!(status == StatusCode::SEE_OTHER || policy.is_some());
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// Who writes, with what else is in the form.
    async fn write(&self, more: &[(&str, &str)]) -> (StatusCode, String) {
        self.ask(Some(&[&[("token", "secret"), ("author", "ben")], more].concat())).await
    }

    async fn desired(&self) -> Value {
        self.twins.look("pump".parse().unwrap(), |twin| twin.json(Section::Desired)).await.unwrap()
    }
}

const SPEED: [(&str, &str); 4] =
    [("section", "desired"), ("key", "motor/speed"), ("value", "40"), ("act", "set")];

#[tokio::test]
async fn who_knows_the_token_changes_a_twin_by_the_form_and_it_says_who() {
    let site = Site::start();
    assert_eq!(site.ask(None).await.0, StatusCode::OK);
    assert_eq!(site.write(&SPEED).await.0, StatusCode::SEE_OTHER);
    assert_eq!(site.desired().await, json!({"motor": {"speed": 40}}));
    let (_, page) = site.ask(None).await;
    for part in [
        "<th scope=\"row\">motor/speed</th><td class=\"t\">40</td>",
        "ben (agent)",
        "1 changes made here wait",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert_eq!(site.write(&[&SPEED[..3], &[("act", "remove")]].concat()).await.0, StatusCode::SEE_OTHER);
    assert_eq!(site.desired().await, json!({}));
}

#[tokio::test]
async fn who_does_not_know_it_or_says_no_name_changes_nothing_and_keeps_what_was_typed() {
    let site = Site::start();
    for (who, status, part) in [
        ([("token", "other"), ("author", "<b>ben")], StatusCode::UNAUTHORIZED, "The token is another"),
        ([("token", "secret"), ("author", " ")], StatusCode::BAD_REQUEST, "Say who you are"),
    ] {
        let (found, page) = site.ask(Some(&[&who[..], &SPEED].concat())).await;
        assert_eq!(found, status);
        assert!(page.contains(part) && page.contains("value=\"motor/speed\""), "{page}");
        assert!(!page.contains("<b>ben") && !page.contains("value=\"secret\""), "{page}");
    }
    for (more, part) in [
        ([("section", "reported"), ("key", "a"), ("act", "set")], "cannot be patched"),
        ([("section", "desired"), ("key", "a//b"), ("act", "set")], "Not changed:"),
        ([("section", "tags"), ("key", "belongs_to"), ("act", "set")], "what the hub&#39;s registry says"),
        ([("section", "desired"), ("key", "a"), ("act", "drop")], "none of the page&#39;s buttons"),
        ([("section", "desired"), ("key", "a"), ("act", "keep desired 00 a")], "no such value any more"),
    ] {
        let (status, page) = site.write(&more).await;
        assert!(status == StatusCode::BAD_REQUEST && page.contains(part), "{page}");
    }
    assert_eq!(site.desired().await, json!({}));
}

#[tokio::test]
async fn of_values_that_were_written_at_once_one_is_kept_by_its_button() {
    let site = Site::start();
    site.write(&SPEED).await;
    // The hub wrote the same leaf, knowing nothing of this.
    let mut hub = Twin::new(Actor::new(Side::Hub, [2; 15])).unwrap();
    let edit = Edit {
        section: Section::Desired,
        key: Key::parse("motor/speed").unwrap(),
        action: Action::Put(json!("<7>")),
    };
    let record = hub.edit(&Change { edits: vec![edit], author: "anna".into(), time_ms: 5 }).unwrap().unwrap();
    hub.handle_durable(record.ticket);
    let (mut link, mut line) = (Link::new("agent", &hub), site.twins.line());
    let document: tideline_protocol::wire::DocumentId = "pump".parse().unwrap();
    while !site.twins.look(document.clone(), |twin| !twin.conflicts().is_empty()).await.unwrap() {
        for sync in line.take().await {
            let record = link.handle(&mut hub, &Message::from_bytes(&sync.message).unwrap()).unwrap();
            record.into_iter().for_each(|record| hub.handle_durable(record.ticket));
        }
        while let Some(message) = link.poll(&hub) {
            let message = message.to_bytes();
            line.receive(tideline_protocol::wire::TwinSync { document: document.clone(), message }).await;
        }
    }
    let (_, page) = site.ask(None).await;
    let buttons: Vec<_> =
        page.split("value=\"keep ").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(buttons.len(), 2, "{page}");
    assert!(page.contains("&lt;7&gt;") && page.contains("anna (hub)"), "{page}");
    let named = digest(&json!("<7>"));
    let act = format!("keep {}", buttons.iter().find(|act| act.contains(&named)).unwrap());
    assert_eq!(site.write(&[("act", &act)]).await.0, StatusCode::SEE_OTHER);
    assert_eq!(site.desired().await, json!({"motor": {"speed": "<7>"}}));
    assert!(!site.ask(None).await.1.contains("id=\"conflicts\""));
}

#[test]
fn a_page_is_bounded_whatever_the_twin_holds() {
    let mut twin = Twin::new(Actor::new(Side::Agent, [1; 15])).unwrap();
    for of in 0..4 {
        let edits = (0..100).map(|n| Edit {
            section: Section::Desired,
            key: Key::parse(&format!("{of}{n}{}", "k".repeat(100))).unwrap(),
            action: Action::Put(json!("&".repeat(400))),
        });
        let change = Change { edits: edits.collect(), author: "a".repeat(64), time_ms: 1 };
        let _record = twin.edit(&change).unwrap().unwrap();
    }
    let seen = Seen::of(&twin);
    assert_eq!(
        (seen.leaves.len(), seen.leaves_more, seen.steps.len()),
        (seen::LEAVES_MAX, 300, seen::STEPS_MAX)
    );
    let page = html("pump", &seen, &Typed::default(), None);
    assert!(page.len() < 256 * 1024 && page.contains("300 more leaves"), "{}", page.len());
}
