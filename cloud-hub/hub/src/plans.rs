//! Plans of sites: an image of each, on which devices are placed. They are kept with the registry, so that a backup has them.
//!
//! What an image is, its first bytes say and nobody else: what a browser would run, as SVG, is never taken.

mod image;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::hub::{App, Hub};
use crate::metadata::{Changes, MetadataError, PlanImageRecord, PlanRecord};
use crate::secret::hex;
use crate::signs::is_hidden;

pub use image::{Image, NoImage};

/// Most bytes of an image.
pub const IMAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most plans: all images together stay below a third of a gigabyte in the registry.
pub const PLANS_MAX: usize = 50;
/// Longest name of a site.
const SITE_BYTES_MAX: usize = 64;

/// Why a plan is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The site's name is none.
    #[error("site {site:?} has {bytes} bytes; allowed are 1 to {SITE_BYTES_MAX}, without control characters")]
    Site {
        /// Its beginning.
        site: String,
        /// How many it has.
        bytes: usize,
    },
    /// It is too large.
    #[error("the image has {bytes} bytes; allowed are {IMAGE_BYTES_MAX}")]
    Large {
        /// How many it has.
        bytes: usize,
    },
    /// It is no image that is taken.
    #[error(transparent)]
    Image(#[from] NoImage),
    /// There are as many as there may be.
    #[error("{PLANS_MAX} sites have a plan, which is the limit: take one away")]
    Full,
    /// The kept image does not read back; a local fault.
    #[error("the image of site {site:?} does not read back")]
    Corrupt {
        /// The site.
        site: String,
        /// What is wrong.
        #[source]
        source: base64::DecodeError,
    },
    /// The registry failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// Keeps the plan of a site, in the place of one that it has.
///
/// # Errors
/// The site or the image is not allowed, there are too many plans, or the registry failed.
pub async fn keep(hub: &App, site: &str, image: Vec<u8>, by: &str) -> Result<PlanRecord, PlanError> {
    if site.is_empty() || site.len() > SITE_BYTES_MAX || site.chars().any(is_hidden) {
        let bytes = site.len();
        return Err(PlanError::Site { site: site.chars().take(SITE_BYTES_MAX).collect(), bytes });
    }
    if image.len() > IMAGE_BYTES_MAX {
        return Err(PlanError::Large { bytes: image.len() });
    }
    let Image { media, width, height } = Image::of(&image)?;
    let (key, by) = (site.to_owned(), by.to_owned());
    let work = move |hub: &Hub| {
        let record = PlanRecord {
            media: media.to_owned(),
            width,
            height,
            bytes: image.len() as u64,
            sha256: hex(&Sha256::digest(&image)),
            by,
            changed_ms: hub.now_ms(),
        };
        let kept = PlanImageRecord { bytes: STANDARD.encode(&image) };
        hub.metadata.change(|changes: &mut Changes| {
            let is_new = changes.find::<PlanRecord>(&key)?.is_none();
            if is_new && changes.count::<PlanRecord>()? >= PLANS_MAX as u64 {
                return Err(PlanError::Full);
            }
            changes.put(&key, &record)?;
            changes.put(&key, &kept)?;
            Ok(record)
        })
    };
    let record = hub.blocking(work).await?;
    tracing::info!(site, bytes = record.bytes, by = record.by, "plan of a site kept");
    Ok(record)
}

/// The plans by site, without their images.
///
/// # Errors
/// The registry failed.
pub fn list(hub: &Hub) -> Result<Vec<(String, PlanRecord)>, MetadataError> {
    hub.metadata.list::<PlanRecord>()
}

/// What is said of a site's plan, without its image.
///
/// # Errors
/// The registry failed.
pub fn record(hub: &Hub, site: &str) -> Result<Option<PlanRecord>, MetadataError> {
    hub.metadata.find(site)
}

/// The plan of a site with its image, as both are at one moment.
///
/// # Errors
/// The registry failed, or the image does not read back.
pub fn find(hub: &Hub, site: &str) -> Result<Option<(PlanRecord, Vec<u8>)>, PlanError> {
    let found = hub.metadata.find_both::<PlanRecord, PlanImageRecord>(site)?;
    let Some((record, kept)) = found else { return Ok(None) };
    let image = STANDARD.decode(kept.bytes);
    let image = image.map_err(|source| PlanError::Corrupt { site: site.to_owned(), source })?;
    Ok(Some((record, image)))
}

/// Takes the plan of a site away; says whether there was one. Where its devices are on it is kept, for another image.
///
/// # Errors
/// The registry failed.
pub async fn remove(hub: &App, site: &str, by: &str) -> Result<bool, MetadataError> {
    let key = site.to_owned();
    let step = move |changes: &mut Changes| {
        changes.remove::<PlanImageRecord>(&key)?;
        changes.remove::<PlanRecord>(&key)
    };
    let was = hub.blocking(move |hub| hub.metadata.change::<_, MetadataError>(step)).await?;
    if was {
        tracing::info!(site, by, "plan of a site taken away");
    }
    Ok(was)
}
