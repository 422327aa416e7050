//! The fleet on the map, gathered into clusters here: a browser gets what it draws, however many devices there are.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::devices::{PAGE_DEFAULT, PAGE_MAX};
use super::problem::{ApiError, Problem};
use super::select::listed;
use super::shapes::{MapAnswer, MapCluster, MapDevice, MapDevices};
use crate::boards::check::PATTERNS_MAX;
use crate::boards::pattern::{Devices, Pattern, Values};
use crate::hub::App;
use crate::map::{Standing, Window, ZOOM_MAX};
use crate::picture::{self, Picture, standing};

/// The routes.
pub fn views() -> Router<App> {
    Router::new().route("/map", get(show)).route("/map/devices", get(devices))
}

/// Which devices are meant.
#[derive(Debug, Default)]
pub struct Which {
    /// Those that one of these means; all where there is none.
    pub meant: Vec<Devices>,
    /// Of these only; of all where it is none.
    pub only: Option<HashSet<String>>,
    /// Of this site only, whatever its name is like.
    pub site: Option<String>,
}

/// Names with commas between them, or as a list of JSON: names of sites and groups may have commas, and no name begins as a list does.
fn names(text: Option<&str>) -> Result<Vec<String>, ApiError> {
    match text.filter(|text| text.starts_with('[')) {
        None => Ok(listed(text).collect()),
        Some(list) => serde_json::from_str(list).map_err(|error| {
            let detail = format!("devices: {error}; allowed are names with commas, or a list of JSON");
            ApiError::bad("bad-select", detail)
        }),
    }
}

impl Which {
    /// Of names as boards have them, and of a site.
    ///
    /// # Errors
    /// A name is none, or there are too many.
    pub fn parse(text: Option<&str>, site: Option<String>) -> Result<Self, ApiError> {
        let names = names(text)?;
        if names.len() > PATTERNS_MAX {
            let detail = format!("devices: {} names; allowed are {PATTERNS_MAX}", names.len());
            return Err(ApiError::bad("bad-select", detail));
        }
        let meant = |name: &String| -> Result<Devices, String> {
            Ok(Pattern::devices(name, &[])?.with(&Values::new()).devices)
        };
        let meant: Result<Vec<Devices>, String> = names.iter().map(meant).collect();
        Ok(Self {
            meant: meant.map_err(|e| ApiError::bad("bad-select", format!("devices: {e}")))?,
            only: None,
            site,
        })
    }

    fn has(&self, picture: &Picture, row: usize) -> bool {
        let table = &picture.table;
        let (Some(id), Some(site), Some(groups)) =
            (table.id.get(row), table.site.get(row), table.groups.get(row))
        else {
            return false;
        };
        self.only.as_ref().is_none_or(|only| only.contains(id))
            && self.site.as_ref().is_none_or(|wanted| wanted == site)
            && (self.meant.is_empty() || self.meant.iter().any(|devices| devices.have(id, site, groups)))
    }
}

/// Which part of the map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapQuery {
    bbox: Option<String>,
    zoom: Option<u8>,
    devices: Option<String>,
    site: Option<String>,
}

fn window(text: Option<&str>) -> Result<Option<Window>, ApiError> {
    let parse = |text| Window::parse(text).map_err(|e| ApiError::bad("bad-bbox", format!("bbox: {e}")));
    text.map(parse).transpose()
}

/// The fleet on the map
///
/// Devices are gathered into clusters of squares of 64 pixels at the zoom; a square at the edge of the window is whole. It is
/// at most a second old.
#[utoipa::path(get, path = "/api/v1/map", operation_id = "map",
    params(
        ("bbox" = Option<String>, Query, description = "The window as west,south,east,north in degrees; across the 180th meridian where west is greater than east; the world when left out"),
        ("zoom" = Option<u8>, Query, description = "The zoom, 0 to 18: at 0 the world is 256 pixels wide, and twice as many at each next; 0 when left out"),
        ("devices" = Option<String>, Query, description = "Of these devices only, as boards name them, with commas or, where a name has one, as a list of JSON: ids with * for any text, @site=… or @group=…"),
        ("site" = Option<String>, Query, description = "Of this site only")),
    responses((status = 200, description = "The clusters", body = MapAnswer), (status = 400, description = "`bad-bbox`, `bad-zoom`, `bad-select`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn show(
    State(hub): State<App>,
    Query(asked): Query<MapQuery>,
) -> Result<Json<MapAnswer>, ApiError> {
    let which = Which::parse(asked.devices.as_deref(), asked.site)?;
    clusters(&hub, which, asked.bbox.as_deref(), asked.zoom).await
}

/// The clusters of the devices that are meant.
///
/// # Errors
/// The window or the zoom is none, or the fleet cannot be read.
pub async fn clusters(
    hub: &App,
    which: Which,
    bbox: Option<&str>,
    zoom: Option<u8>,
) -> Result<Json<MapAnswer>, ApiError> {
    let window = window(bbox)?.unwrap_or(Window::WORLD);
    let zoom = zoom.unwrap_or(0);
    if zoom > ZOOM_MAX {
        return Err(ApiError::bad("bad-zoom", format!("zoom={zoom}; allowed are 0 to {ZOOM_MAX}")));
    }
    let picture = picture::of(hub).await?;
    let work = move || {
        let index = picture.index();
        let wanted = |row| which.has(&picture, row);
        let (bounds, placed) = index.bounds(wanted);
        let (zoom, found) = index.clusters(&window, zoom, wanted);
        let one = |cluster: &crate::map::Cluster| {
            let device = (cluster.count == 1).then(|| device(&picture, cluster.first)).flatten();
            MapCluster::of(cluster, device)
        };
        let meant = (0..picture.table.id.len()).filter(|row| wanted(*row)).count();
        MapAnswer {
            as_of_ms: picture.as_of_ms,
            zoom,
            clusters: found.iter().map(one).collect(),
            bounds: bounds.map(Into::into),
            placed: placed as u64,
            unplaced: meant.saturating_sub(placed) as u64,
        }
    };
    tokio::task::spawn_blocking(work).await.map(Json).map_err(|error| ApiError::internal(&error))
}

/// Which devices of the map.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    devices: Option<String>,
    bbox: Option<String>,
    site: Option<String>,
    placed: Option<bool>,
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Which of the devices that are meant.
#[derive(Debug, Default)]
pub struct Within {
    /// In this window.
    pub bbox: Option<String>,
    /// With a position, or without.
    pub placed: Option<bool>,
    /// With this text in their id or title.
    pub text: Option<String>,
    /// The longest page.
    pub limit: Option<usize>,
    /// From the page before.
    pub cursor: Option<String>,
}

/// Devices of the map, by pages
///
/// Those that stand worst come first, and among them by id.
#[utoipa::path(get, path = "/api/v1/map/devices", operation_id = "mapDevices",
    params(
        ("bbox" = Option<String>, Query, description = "Those in this window, as of /map"),
        ("devices" = Option<String>, Query, description = "Of these devices only, as of /map"),
        ("site" = Option<String>, Query, description = "Those of this site"),
        ("placed" = Option<bool>, Query, description = "Those that have a position, or have none"),
        ("q" = Option<String>, Query, description = "Those with this text in their id or title"),
        ("limit" = Option<usize>, Query, description = "Most devices, 1 to 1000; 200 when left out"),
        ("cursor" = Option<String>, Query, description = "From the page before")),
    responses((status = 200, description = "A page", body = MapDevices), (status = 400, description = "`bad-bbox`, `bad-select`, `bad-limit`, `bad-cursor`", body = Problem, content_type = "application/problem+json"), (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json")))]
pub async fn devices(
    State(hub): State<App>,
    Query(asked): Query<ListQuery>,
) -> Result<Json<MapDevices>, ApiError> {
    let ListQuery { devices, bbox, site, placed, q, limit, cursor } = asked;
    let which = Which::parse(devices.as_deref(), site)?;
    list(&hub, which, Within { bbox, placed, text: q, limit, cursor }).await
}

/// A page of the devices that are meant.
///
/// # Errors
/// What is asked is not allowed, or the fleet cannot be read.
pub async fn list(hub: &App, which: Which, within: Within) -> Result<Json<MapDevices>, ApiError> {
    let limit = within.limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(ApiError::bad("bad-limit", format!("limit={limit}; allowed are 1 to {PAGE_MAX}")));
    }
    let window = window(within.bbox.as_deref())?;
    let after = within.cursor.as_deref().map(after).transpose()?;
    let picture = picture::of(hub).await?;
    let work = move || {
        let mut rows = rows(&picture, &which, &within, window);
        let total = rows.len() as u64;
        rows.sort_by_key(|row| Reverse(stands(&picture, *row)));
        if let Some((standing, id)) = after {
            let table = &picture.table;
            let is_after = |row: &usize| {
                let own = (Reverse(stands(&picture, *row)), table.id.get(*row).map(String::as_str));
                own > (Reverse(standing), Some(id.as_str()))
            };
            rows.retain(is_after);
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).and_then(|row| cursor(&picture, *row));
        let devices = rows.into_iter().filter_map(|row| device(&picture, row)).collect();
        MapDevices { as_of_ms: picture.as_of_ms, devices, total, next }
    };
    tokio::task::spawn_blocking(work).await.map(Json).map_err(|error| ApiError::internal(&error))
}

/// The rows that are meant, by id.
fn rows(picture: &Arc<Picture>, which: &Which, within: &Within, window: Option<Window>) -> Vec<usize> {
    let table = &picture.table;
    let text = within.text.as_ref().map(|text| text.to_lowercase());
    let fits = |row: &usize| {
        let position = picture.positions.get(*row).copied().flatten();
        let spoken = |text: &String| {
            [&table.id, &table.title]
                .iter()
                .any(|column| column.get(*row).is_some_and(|found| found.to_lowercase().contains(text)))
        };
        which.has(picture, *row)
            && within.placed.is_none_or(|wanted| wanted == position.is_some())
            && window.is_none_or(|window| position.is_some_and(|at| window.has(at.lat, at.lon)))
            && text.as_ref().is_none_or(spoken)
    };
    (0..table.id.len()).filter(fits).collect()
}

fn stands(picture: &Picture, row: usize) -> Standing {
    let table = &picture.table;
    match (table.state.get(row), table.revoked.get(row)) {
        (Some(state), Some(revoked)) => standing(*state, *revoked),
        _ => Standing::Revoked,
    }
}

fn device(picture: &Picture, row: usize) -> Option<MapDevice> {
    let table = &picture.table;
    Some(MapDevice {
        id: table.id.get(row)?.clone(),
        title: table.title.get(row)?.clone(),
        site: table.site.get(row)?.clone(),
        state: *table.state.get(row)?,
        revoked: *table.revoked.get(row)?,
        last_reading_ms: *table.last_reading_ms.get(row)?,
        position: *picture.positions.get(row)?,
        spot: *picture.spots.get(row)?,
    })
}

/// Where the next page begins: after a device that stands so.
fn cursor(picture: &Picture, row: usize) -> Option<String> {
    let standing = stands(picture, row);
    let rank = Standing::ALL.iter().position(|known| *known == standing)?;
    Some(format!("{rank}.{}", picture.table.id.get(row)?))
}

fn after(cursor: &str) -> Result<(Standing, String), ApiError> {
    let bad = || ApiError::bad("bad-cursor", "the cursor is not one of an earlier answer");
    let (rank, id) = cursor.split_once('.').ok_or_else(bad)?;
    let rank: usize = rank.parse().map_err(|_| bad())?;
    Ok((*Standing::ALL.get(rank).ok_or_else(bad)?, id.to_owned()))
}
