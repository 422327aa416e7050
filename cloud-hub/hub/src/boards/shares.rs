//! Links that show a board without a login: a random token, kept as its hash, that grants the board, its series at the
//! devices that it was made for, and nothing else. Nobody is signed in by one.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::form::Board;
use super::pattern::{Devices, Meant, Values};
use super::{BoardError, check, find, resolve};
use crate::hub::{App, Hub};
use crate::metadata::{BoardShareRecord, DeviceRecord, MetadataError};
use crate::secret;
use crate::signs::is_hidden;

/// What every such token begins with, so that secret scanners can find one.
pub const TOKEN_PREFIX: &str = "tlb_";
/// Most shares of a board that have not ended.
pub const SHARES_MAX: usize = 100;
/// Most devices of a share: more is a fleet, which has logins.
pub const DEVICES_MAX: usize = 1000;
/// Shortest and longest time that one lasts, in seconds: a minute, and a year.
pub const TTL_S: std::ops::RangeInclusive<u32> = 60..=366 * 24 * 3600;

/// What a share is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What it is for.
    pub note: String,
    /// Seconds until it ends.
    pub ttl_s: u32,
    /// Values of the board's variables; the defaults of those that are left out.
    pub values: Values,
}

fn refused(what: impl Into<String>) -> BoardError {
    BoardError::Share(what.into())
}

/// Makes a share of a board; gives its id and its token, which is not kept.
///
/// # Errors
/// There is no such board, what is wanted cannot be, or the metadata failed.
pub async fn create(
    hub: &App,
    board: &str,
    wanted: Wanted,
    by: &str,
) -> Result<(String, String, BoardShareRecord), BoardError> {
    let (id, secret) = (secret::random_id()?, secret::random()?);
    let secret_hash = secret::sha256_hex(secret.as_bytes());
    let (key, board, author) = (id.clone(), board.to_owned(), by.to_owned());
    let record = hub.blocking(move |hub| keep(hub, (&key, &board), wanted, secret_hash, author)).await?;
    tracing::info!(board = record.board, share = id, devices = record.devices.len(), by, "board shared");
    Ok((id.clone(), format!("{TOKEN_PREFIX}{id}_{secret}"), record))
}

fn keep(
    hub: &Hub,
    (id, board): (&str, &str),
    wanted: Wanted,
    secret_hash: String,
    by: String,
) -> Result<BoardShareRecord, BoardError> {
    let found = find(hub, board)?;
    let now_ms = hub.now_ms();
    let record = BoardShareRecord {
        board: board.to_owned(),
        note: wanted.note.clone(),
        secret_hash,
        values: checked(&found.board, &wanted)?,
        devices: BTreeSet::new(),
        expires_ms: now_ms.saturating_add(i64::from(wanted.ttl_s) * 1000),
        created_ms: now_ms,
        by,
    };
    let record = BoardShareRecord { devices: devices(hub, &found.board, &record.values)?, ..record };
    hub.metadata.change(|changes| {
        changes.remove_where::<BoardShareRecord>(|_, share| share.expires_ms <= now_ms)?;
        let of_board =
            changes.list::<BoardShareRecord>()?.into_iter().filter(|(_, share)| share.board == board).count();
        if of_board >= SHARES_MAX {
            return Err(refused(format!("the board has {of_board} shares, which is the limit: end one")));
        }
        changes.put(id, &record)?;
        Ok(record)
    })
}

/// The values of all variables of the board.
fn checked(board: &Board, wanted: &Wanted) -> Result<Values, BoardError> {
    if !TTL_S.contains(&wanted.ttl_s) {
        let (least, most) = (TTL_S.start(), TTL_S.end());
        return Err(refused(format!("ttl_s is {}; allowed are {least} to {most}", wanted.ttl_s)));
    }
    let long = |text: &str| text.chars().count() > check::TITLE_CHARS_MAX || text.chars().any(is_hidden);
    let most = check::TITLE_CHARS_MAX;
    if long(&wanted.note) {
        return Err(refused(format!(
            "note: allowed are {most} characters, none of them a control character"
        )));
    }
    for (name, value) in &wanted.values {
        if board.variables.iter().all(|variable| variable.name != *name) {
            let names: Vec<&str> = board.variables.iter().map(|variable| variable.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(refused(format!("values: {name:?} is no variable of the board; there is {names}")));
        }
        if long(value) {
            return Err(refused(format!(
                "values.{name}: allowed are {most} characters, none of them a control character"
            )));
        }
    }
    Ok(resolve::values(&board.variables, &wanted.values))
}

/// The devices that a board names with these values.
fn devices(hub: &Hub, board: &Board, values: &Values) -> Result<BTreeSet<String>, BoardError> {
    let mut meant = resolve::meant(&resolve::patterns(board), &board.variables, values);
    meant.extend(board.panels.iter().flat_map(|panel| resolve::placed(board, panel, values)).map(Some));
    let mut out = BTreeSet::new();
    let registered = hub.metadata.list::<DeviceRecord>()?;
    for meant in meant.into_iter().flatten() {
        if let Devices::One(id) = meant.devices {
            out.insert(id);
            continue;
        }
        // Any point will do: the devices are what is asked for.
        let any = Meant { point: "*".to_owned(), ..meant };
        let fits = registered.iter().filter(|(id, record)| any.has(id, Some(record), ""));
        out.extend(fits.map(|(id, _)| id.clone()));
    }
    if out.len() > DEVICES_MAX {
        let found = out.len();
        return Err(refused(format!(
            "the board shows {found} devices; a share shows {DEVICES_MAX} at most: choose a site, a group or a device"
        )));
    }
    Ok(out)
}

/// The shares of a board that have not ended, by their ids.
///
/// # Errors
/// There is no such board, or the metadata failed.
pub fn list(hub: &Hub, board: &str) -> Result<Vec<(String, BoardShareRecord)>, BoardError> {
    let _known = find(hub, board)?;
    let now_ms = hub.now_ms();
    let mut all = hub.metadata.list::<BoardShareRecord>()?;
    all.retain(|(_, share)| share.board == board && share.expires_ms > now_ms);
    Ok(all)
}

/// Ends a share at once; says whether there was one.
///
/// # Errors
/// The metadata failed.
pub async fn revoke(hub: &App, board: &str, id: &str, by: &str) -> Result<bool, BoardError> {
    let (key, of) = (id.to_owned(), board.to_owned());
    let step = move |changes: &mut crate::metadata::Changes| {
        let found: Option<BoardShareRecord> = changes.find(&key)?;
        match found {
            Some(share) if share.board == of => changes.remove::<BoardShareRecord>(&key),
            _ => Ok(false),
        }
    };
    let was = hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
    if was {
        hub.sign_out();
        tracing::info!(board, share = id, by, "share of a board ended");
    }
    Ok(was)
}

/// The share of a token, when it has not ended.
///
/// # Errors
/// The metadata failed.
pub fn by_token(hub: &Hub, token: &str) -> Result<Option<(String, BoardShareRecord)>, MetadataError> {
    let Some((id, secret)) = token.strip_prefix(TOKEN_PREFIX).and_then(|t| t.split_once('_')) else {
        return Ok(None);
    };
    let Some(record) = lives(hub, id)? else { return Ok(None) };
    let same = secret::same(&record.secret_hash, &secret::sha256_hex(secret.as_bytes()));
    Ok(same.then(|| (id.to_owned(), record)))
}

/// The share of an id, when it has not ended.
///
/// # Errors
/// The metadata failed.
pub fn lives(hub: &Hub, id: &str) -> Result<Option<BoardShareRecord>, MetadataError> {
    let found: Option<BoardShareRecord> = hub.metadata.find(id)?;
    Ok(found.filter(|share| share.expires_ms > hub.now_ms()))
}

/// Whether a share lives and shows all of these series: its board may have changed since they were asked for, or a device moved.
///
/// # Errors
/// The metadata failed.
pub fn shows(hub: &Hub, id: &str, series: &[String]) -> Result<bool, MetadataError> {
    let Some(share) = lives(hub, id)? else { return Ok(false) };
    match Scope::of(hub, &share) {
        Ok(scope) => Ok(series.iter().all(|name| scope.has(name))),
        Err(BoardError::Metadata(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// What a share shows: the board as it is now, at the devices that the share was made for.
pub struct Scope {
    /// The board.
    pub board: Board,
    /// The names that it has, each once.
    pub patterns: Vec<String>,
    /// What they mean.
    pub meant: Vec<Option<Meant>>,
    /// The devices.
    pub devices: HashSet<String>,
    /// The values of its variables.
    pub values: Values,
    records: HashMap<String, DeviceRecord>,
}

impl Scope {
    /// What a share shows now.
    ///
    /// # Errors
    /// The board is gone, or the metadata failed.
    pub fn of(hub: &Hub, share: &BoardShareRecord) -> Result<Self, BoardError> {
        let board = find(hub, &share.board)?.board;
        let values = resolve::values(&board.variables, &share.values);
        let patterns = resolve::patterns(&board);
        let meant = resolve::meant(&patterns, &board.variables, &values);
        let mut records = HashMap::new();
        if meant.iter().flatten().any(Meant::needs_registry) {
            let names = share.devices.iter();
            let found = hub.metadata.find_each::<DeviceRecord>(names.clone().map(String::as_str))?;
            records = names.zip(found).filter_map(|(id, record)| Some((id.clone(), record?))).collect();
        }
        let devices = share.devices.iter().cloned().collect();
        Ok(Self { board, patterns, meant, devices, values, records })
    }

    /// Whether a series, as device/point, may be seen.
    #[must_use]
    pub fn has(&self, series: &str) -> bool {
        let Some((device, point)) = series.split_once('/') else { return false };
        let record = self.records.get(device);
        self.devices.contains(device)
            && self.meant.iter().flatten().any(|meant| meant.has(device, record, point))
    }
}
