//! What a share of a board shows, without a login: the board, its series, and nothing else of the hub.
//!
//! The token comes as a bearer token, as it stands behind the `#` of a link, which browsers send to nobody. It is taken
//! here only: no other route knows such tokens, and these routes know no others.

pub mod maps;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};

use super::auth::{Credential, Principal, address_of};
use super::boards::matched;
use super::problem::{ApiError, Problem};
use super::query::{self, RangeQuery};
use super::shapes::{AnyAnswer, LiveReadings, SharedBoard};
use super::stream::{self, LiveQuery};
use crate::boards::BoardError;
use crate::boards::resolve;
use crate::boards::shares::{self, Scope};
use crate::hub::App;
use crate::metadata::{BoardShareRecord, Role};

/// A share that was let in.
#[derive(Clone)]
pub struct Share {
    id: String,
    record: BoardShareRecord,
    scope: Arc<Scope>,
}

/// The routes of shares.
pub fn routes(hub: &App) -> Router<App> {
    Router::new()
        .route("/board", get(board))
        .route("/query", get(readings))
        .route("/live", get(live))
        .merge(maps::routes())
        .route_layer(middleware::from_fn_with_state(Arc::clone(hub), admit))
}

fn ended() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "share-ended",
        "this link has ended, or never was one of this hub",
    )
}

/// Lets a request through with its share.
async fn admit(State(hub): State<App>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let info = request.extensions().get::<ConnectInfo<SocketAddr>>().copied().map(Extension);
    if let Err(seconds) = hub.shared.take(address_of(info.as_ref()), hub.clock.mono_ns()) {
        let detail = format!("too many questions by links from this address; try again in {seconds} s");
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail);
        return Err(ApiError { retry_after_s: Some(seconds), ..error });
    }
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| value.split_once(' '));
    let (_, token) = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).ok_or_else(ended)?;
    let token = token.trim().to_owned();
    let look = move |hub: &crate::hub::Hub| {
        let Some((id, record)) = shares::by_token(hub, &token)? else { return Ok(None) };
        let scope = Arc::new(Scope::of(hub, &record)?);
        Ok::<_, BoardError>(Some(Share { id, record, scope }))
    };
    let share = hub.blocking(look).await?.ok_or_else(ended)?;
    request.extensions_mut().insert(share);
    Ok(next.run(request).await)
}

/// The series that are named, of which all must be of the board at the share's devices.
fn within(share: &Share, series: &str) -> Result<(), ApiError> {
    let mut names = series.split(',').map(str::trim).filter(|name| !name.is_empty());
    match names.find(|name| !share.scope.has(name)) {
        // Whether there is such a series at all is nobody's business here.
        Some(name) => Err(ApiError::forbidden(&format!("the link does not show series {name:?}"))),
        None => Ok(()),
    }
}

/// The board of a share, with its series
#[utoipa::path(get, path = "/api/v1/shared/board", operation_id = "sharedBoard",
    responses((status = 200, description = "The board", body = SharedBoard), (status = 401, description = "`share-ended`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn board(
    State(hub): State<App>,
    Extension(share): Extension<Share>,
) -> Result<Json<SharedBoard>, ApiError> {
    let scope = Arc::clone(&share.scope);
    let found = hub
        .blocking(move |hub| resolve::resolve(hub, &scope.meant, Some(&scope.devices)))
        .await
        .map_err(ApiError::from)?;
    let board = share.scope.board.clone();
    let values = resolve::values(&board.variables, &share.record.values);
    let series = matched(&hub, share.scope.patterns.clone(), found);
    Ok(Json(SharedBoard { board, values, series, expires_ms: share.record.expires_ms }))
}

/// Readings of series of a share, as `GET /query` has them
#[utoipa::path(get, path = "/api/v1/shared/query", operation_id = "sharedQuery",
    params(("series" = String, Query, description = "device/point, several with commas; of the share's board"), ("from" = Option<String>, Query, description = "As of /query"), ("to" = Option<String>, Query, description = "As of /query"), ("buckets" = Option<usize>, Query, description = "As of /query"), ("limit" = Option<usize>, Query, description = "As of /query"), ("cursor" = Option<String>, Query, description = "As of /query")),
    responses((status = 200, description = "Columns", body = AnyAnswer), (status = 401, description = "`share-ended`", body = Problem, content_type = "application/problem+json"), (status = 403, description = "`forbidden`: a series is not of the board", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn readings(
    state: State<App>,
    Extension(share): Extension<Share>,
    Query(asked): Query<RangeQuery>,
) -> Result<Json<AnyAnswer>, ApiError> {
    within(&share, asked.series())?;
    query::query(state, Query(asked)).await
}

/// New readings of series of a share: the events `readings`, `gap` and `reset` of `GET /live`
#[utoipa::path(get, path = "/api/v1/shared/live", operation_id = "sharedLive",
    params(("series" = String, Query, description = "Of these series, with commas; of the share's board")),
    responses((status = 200, description = "Events; the data of `readings`", body = LiveReadings, content_type = "text/event-stream"), (status = 401, description = "`share-ended`", body = Problem, content_type = "application/problem+json"), (status = 403, description = "`forbidden`: a series is not of the board", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn live(
    State(hub): State<App>,
    Extension(share): Extension<Share>,
    Query(asked): Query<LiveQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let series = asked.series().filter(|series| !series.trim().is_empty() && !asked.names_devices());
    let series =
        series.ok_or_else(|| ApiError::bad("bad-series", "a link follows series, and names them"))?;
    within(&share, series)?;
    let followed = series.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let credential = Credential::Share(share.id.clone(), followed.collect());
    let principal = Principal { name: format!("share {}", share.id), role: Role::Viewer, credential };
    Ok(stream::follow_readings(&hub, principal, &asked, &headers)?.into_response())
}
