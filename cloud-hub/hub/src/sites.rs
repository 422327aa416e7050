//! What operators say of sites, beside the devices that are there.

use std::collections::BTreeMap;

use tideline_store::Calendar;

use crate::hub::Hub;
use crate::metadata::{Changes, MetadataError, SiteRecord};

/// Most sites of which something is said.
const SITES_MAX: u64 = 10_000;

/// A site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its name, as devices have it.
    pub id: String,
    /// How many devices are there.
    pub devices: usize,
    /// Its time zone, where somebody said it.
    pub zone: Option<String>,
}

/// Why nothing is said of a site.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No device is there, and nothing was said of it.
    #[error("no device is at site {0:?}")]
    Unknown(String),
    /// There is no such zone.
    #[error("{0}")]
    Zone(String),
    /// There are too many.
    #[error("something is said of {SITES_MAX} sites already, which is the limit")]
    Full,
    /// The registry.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// All sites by name: those at which devices are, and those of which something is said.
///
/// # Errors
/// The registry cannot be read.
pub fn list(hub: &Hub) -> Result<Vec<Site>, MetadataError> {
    let mut sites: BTreeMap<String, Site> = BTreeMap::new();
    for (id, devices) in hub.metadata.sites() {
        sites.insert(id.clone(), Site { id, devices, zone: None });
    }
    for (id, record) in hub.metadata.list::<SiteRecord>()? {
        let site = sites.entry(id.clone()).or_insert(Site { id, devices: 0, zone: None });
        site.zone = Some(record.zone);
    }
    Ok(sites.into_values().collect())
}

/// The sites of these devices by name, with how many of them are there.
///
/// # Errors
/// The registry cannot be read.
pub fn of_devices(hub: &Hub, devices: &[String]) -> Result<Vec<Site>, MetadataError> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for site in hub.metadata.sites_among(devices) {
        *counts.entry(site).or_default() += 1;
    }
    let records = hub.metadata.find_each::<SiteRecord>(counts.keys().map(String::as_str))?;
    let zones = records.into_iter().map(|record| record.map(|record| record.zone));
    Ok(counts.into_iter().zip(zones).map(|((id, devices), zone)| Site { id, devices, zone }).collect())
}

/// Says in which zone a site is, or that nobody knows.
///
/// # Errors
/// There is no such site or zone, or the registry failed.
pub fn set_zone(hub: &Hub, id: &str, zone: Option<&str>, by: String) -> Result<Site, SiteError> {
    let devices = hub.metadata.sites().get(id).copied().unwrap_or_default();
    // As queries by day take them.
    let name = zone.map(|zone| Calendar::parse("1d", zone).map(|calendar| calendar.zone().to_owned()));
    let name = name.transpose().map_err(|error| SiteError::Zone(error.to_string()))?;
    let changed_ms = hub.now_ms();
    hub.metadata.change(|changes: &mut Changes| {
        let was = changes.find::<SiteRecord>(id)?;
        if was.is_none() && devices == 0 {
            return Err(SiteError::Unknown(id.to_owned()));
        }
        match &name {
            None => drop(changes.remove::<SiteRecord>(id)?),
            Some(zone) => {
                if was.is_none() && changes.count::<SiteRecord>()? >= SITES_MAX {
                    return Err(SiteError::Full);
                }
                changes.put(id, &SiteRecord { zone: zone.clone(), by, changed_ms })?;
            }
        }
        Ok(())
    })?;
    Ok(Site { id: id.to_owned(), devices, zone: name })
}
