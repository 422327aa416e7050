//! Twins over HTTP: read on the socket and on the local page, written on the socket, and on the page by who knows its token.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;
use tideline_protocol::model::ModelError;
use tideline_protocol::time::{Clock as _, NS_PER_MS};
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, Key, Section, Twin, escape, exact, if_match, merge_patch, shortened};

use super::judge::{self, Judge};
use super::{Edited, TwinError, TwinHandle, etag, shown, side};
use crate::clock::AgentClock;

/// Longest patch in bytes.
const PATCH_BYTES_MAX: usize = 256 * 1024;
/// Steps of a history that are shown where nobody says how many, and at most.
const STEPS: usize = 100;
const STEPS_MAX: usize = 10_000;

/// Who may write here.
#[derive(Clone)]
pub enum Access {
    /// Whoever may open the socket owns the agent.
    Owner,
    /// Whoever knows the token.
    Token(Arc<str>),
}

/// Where twins are read and written.
#[derive(Clone)]
pub struct Desk {
    twins: TwinHandle,
    access: Access,
    judge: Judge,
}

impl Desk {
    /// Of these twins, for who may write here what the judge lets pass.
    #[must_use]
    pub const fn new(twins: TwinHandle, access: Access, judge: Judge) -> Self {
        Self { twins, access, judge }
    }

    /// Looks at a document, see [`TwinHandle::look`].
    ///
    /// # Errors
    /// There is none of this name, or it cannot be read.
    pub async fn look<T: Send + 'static>(
        &self,
        name: &str,
        look: impl FnOnce(&Twin) -> T + Send + 'static,
    ) -> Result<T, TwinError> {
        self.twins.look(document(name)?, look).await
    }

    /// Whether who knows this may write.
    #[must_use]
    pub fn knows(&self, token: &str) -> bool {
        match &self.access {
            Access::Owner => true,
            Access::Token(own) => token.as_bytes().ct_eq(own.as_bytes()).into(),
        }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.knows(given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default())
    }

    /// Changes a document by the merge patch that `make` makes of what it is then; the answer comes when that is durable.
    ///
    /// # Errors
    /// Nothing is changed.
    pub async fn write(
        &self,
        name: &str,
        author: String,
        make: impl FnOnce(&Twin) -> Result<Value, TwinError> + Send + 'static,
    ) -> Result<Edited, TwinError> {
        let document = document(name)?;
        let time_ms = AgentClock::default().wall_ns() / NS_PER_MS;
        let (judge, of) = (self.judge.clone(), document.clone());
        tracing::info!(%document, author, "somebody changes a twin here");
        let make = move |twin: &Twin| {
            let patch = make(twin)?;
            judge.judge(&of, twin, &patch)?;
            Ok(Change { edits: edits(twin, &patch)?, author, time_ms })
        };
        self.twins.edit(document, make).await
    }
}

/// The routes below `/twin`.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/twin", get(list))
        .route("/twin/{device}", get(read).patch(patch))
        .route("/twin/{device}/history", get(history))
        .route("/twin/{device}/conflicts", get(conflicts))
        .layer(DefaultBodyLimit::max(PATCH_BYTES_MAX))
        .with_state(desk)
}

impl TwinError {
    /// How HTTP calls it.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NoDevice(_) | Self::NotShared(_) => StatusCode::NOT_FOUND,
            Self::Moved { .. } => StatusCode::PRECONDITION_FAILED,
            Self::Full { .. } | Self::Edit(tideline_twin::EditError::TooManyUnconfirmed) => {
                StatusCode::CONFLICT
            }
            Self::Edit(_) | Self::Patch(_) | Self::Wrong(_) => StatusCode::BAD_REQUEST,
            Self::File(_) | Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl axum::response::IntoResponse for TwinError {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}

/// A device's id, a site as `site/hall-2`, or a group as `group/pumps`.
fn document(name: &str) -> Result<DocumentId, TwinError> {
    name.parse().map_err(|error: ModelError| TwinError::Wrong(error.to_string()))
}

async fn list(State(desk): State<Desk>) -> Result<Response, TwinError> {
    let (mut twins, mut sites, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for super::Listed { document, unconfirmed } in desk.twins.list().await? {
        match document {
            DocumentId::Device(device) => {
                twins.push(json!({ "device": device.as_str(), "unconfirmed": unconfirmed }));
            }
            DocumentId::Site(site) => {
                sites.push(json!({ "site": site.as_str(), "unconfirmed": unconfirmed }));
            }
            DocumentId::Group(group) => {
                groups.push(json!({ "group": group.as_str(), "unconfirmed": unconfirmed }));
            }
        }
    }
    Ok(Json(json!({ "twins": twins, "sites": sites, "groups": groups })).into_response())
}

async fn read(State(desk): State<Desk>, Path(device): Path<String>) -> Result<Response, TwinError> {
    let document = document(&device)?;
    let name = document.name();
    let body = desk.twins.look(document, move |twin| state(&name, twin)).await?;
    let tag = body.get("etag").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(([(header::ETAG, format!("\"{tag}\""))], Json(body)).into_response())
}

/// A twin as JSON.
pub fn state(device: &str, twin: &Twin) -> Value {
    let mut state = Map::new();
    state.insert("device".to_owned(), device.into());
    for section in Section::ALL {
        state.insert(section.name().to_owned(), twin.json(section));
    }
    let delta = twin.delta().into_iter().map(|of| {
        json!({
            "key": of.key.as_str(),
            "desired": of.desired,
            "reported": of.reported,
            "since": of.since_ms,
        })
    });
    state.insert("delta".to_owned(), delta.collect());
    state.insert("conflicts".to_owned(), twin.conflicts().len().into());
    state.insert("unconfirmed".to_owned(), twin.unconfirmed().into());
    state.insert("generation".to_owned(), twin.generation().number.into());
    state.insert("etag".to_owned(), etag(twin).into());
    Value::Object(state)
}

async fn conflicts(State(desk): State<Desk>, Path(device): Path<String>) -> Result<Response, TwinError> {
    let all = desk.twins.look(document(&device)?, |twin| -> Vec<Value> {
        let one = |conflict: tideline_twin::Conflict| {
            json!({
                "section": conflict.section.name(),
                "key": conflict.key.as_str(),
                "values": conflict.values.iter().map(shown).collect::<Vec<_>>(),
            })
        };
        twin.conflicts().into_iter().map(one).collect()
    });
    Ok(Json(json!({ "conflicts": all.await? })).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    key: Option<String>,
    limit: Option<usize>,
}

/// The newest steps of the twin's generation, the newest first.
async fn history(
    State(desk): State<Desk>,
    Path(device): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, TwinError> {
    let wrong = |error: tideline_twin::KeyError| TwinError::Wrong(format!("key: {error}"));
    let key = query.key.as_deref().map(Key::parse).transpose().map_err(wrong)?;
    let limit = query.limit.unwrap_or(STEPS).min(STEPS_MAX);
    let steps = desk.twins.look(document(&device)?, move |twin| {
        let steps = twin.history(&[])?.into_iter().rev();
        let one = |step: tideline_twin::Step| {
            json!({
                "time": step.time_ms,
                "author": step.author,
                "replica": step.actor.hex(),
                "side": side(step.actor),
                "section": step.section.name(),
                "key": step.key.as_str(),
                "value": step.value,
            })
        };
        let wanted = steps.filter(|step| key.as_ref().is_none_or(|key| step.key == *key));
        Ok::<_, TwinError>(wanted.take(limit).map(one).collect::<Vec<_>>())
    });
    Ok(Json(json!({ "steps": steps.await?? })).into_response())
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchQuery {
    author: Option<String>,
}

/// A body of JSON of which no number is another one than its writer wrote.
struct Exact(Value);

impl<S: Send + Sync> FromRequest<S> for Exact {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts.clone(), body);
        let bytes = Bytes::from_request(request, state).await.map_err(|error| error.into_response())?;
        std::str::from_utf8(&bytes)
            .map_or(Ok(()), exact)
            .map_err(|found| TwinError::Wrong(found.to_string()).into_response())?;
        let request = Request::from_parts(parts, Body::from(bytes));
        let Json(body) = Json::from_request(request, state).await.map_err(|error| error.into_response())?;
        Ok(Self(body))
    }
}

/// A merge patch of the sections that people write.
async fn patch(
    State(desk): State<Desk>,
    Path(device): Path<String>,
    Query(query): Query<PatchQuery>,
    headers: HeaderMap,
    Exact(patch): Exact,
) -> Result<Response, TwinError> {
    if !desk.admits(&headers) {
        let how =
            "writes need the header \"Authorization: Bearer TOKEN\"; `edge-agent status` shows the token";
        return Ok((StatusCode::UNAUTHORIZED, how).into_response());
    }
    let of = if_match(headers.get_all(header::IF_MATCH).iter().map(HeaderValue::as_bytes));
    let of = of.map_err(|error| TwinError::Wrong(error.to_string()))?;
    let author = query.author.unwrap_or_else(|| desk.access.author().to_owned());
    let written = patch.clone();
    let edited = desk.write(&device, author, move |twin| {
        let found = etag(twin);
        if of.is_some_and(|of| !of.contains(&found)) {
            return Err(TwinError::Moved { found });
        }
        Ok(patch)
    });
    let edited = edited.await?;
    let mut body = json!({ "changed": edited.changed, "etag": edited.etag });
    let now_ms = AgentClock::default().wall_ns() / NS_PER_MS;
    let warnings = desk.look(&device, move |twin| judge::over(twin, &written, now_ms)).await?;
    if let (false, Some(body)) = (warnings.is_empty(), body.as_object_mut()) {
        body.insert("warnings".to_owned(), warnings.into());
    }
    Ok(([(header::ETAG, format!("\"{}\"", edited.etag))], Json(body)).into_response())
}

fn edits(twin: &Twin, patch: &Value) -> Result<Vec<tideline_twin::Edit>, TwinError> {
    let allowed = "allowed are the members desired, tags and notes, each an object";
    let Value::Object(sections) = patch else {
        return Err(TwinError::Wrong(format!("the patch is no object; {allowed}")));
    };
    let mut edits = Vec::new();
    for (name, patch) in sections {
        let section = Section::parse(name).filter(|section| *section != Section::Reported);
        let section = section.ok_or_else(|| {
            TwinError::Wrong(format!("/{}: cannot be patched; {allowed}", shortened(&escape(name))))
        })?;
        edits.extend(merge_patch(section, &twin.json(section), patch)?);
    }
    Ok(edits)
}

impl Access {
    /// Who writes where nobody says who.
    const fn author(&self) -> &str {
        match self {
            Self::Owner => "",
            Self::Token(_) => "local page",
        }
    }
}
