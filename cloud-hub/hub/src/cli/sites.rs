//! `site list|set`: what is said of sites, beside a running hub.

use anyhow::Result;
use clap::Subcommand;
use cloud_hub::api::shapes::{Site, SitePage};
use serde_json::json;
use tideline_link::outln;

use super::socket::{HubSocket, escape};

/// What to do with sites.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// All sites, with how many devices are there, and their time zones.
    List,
    /// Say something of a site.
    Set {
        /// The site, as devices have it.
        site: String,
        /// Its time zone by its IANA name, as Europe/Berlin; none for that nobody knows it.
        #[arg(long)]
        zone: String,
    },
}

/// Carries the command out beside a running hub.
pub async fn site(hub: &HubSocket, command: &SiteCommand) -> Result<()> {
    match command {
        SiteCommand::List => {
            outln!("{:<32} {:>8} zone", "site", "devices");
            let mut path = "/api/v1/sites?limit=1000".to_owned();
            loop {
                let SitePage { sites, next } = hub.get_as(&path).await?;
                for Site { id, devices, zone } in sites {
                    outln!("{id:<32} {devices:>8} {}", zone.as_deref().unwrap_or("-"));
                }
                let Some(next) = next else { return Ok(()) };
                path = format!("/api/v1/sites?limit=1000&cursor={}", escape(&next));
            }
        }
        SiteCommand::Set { site, zone } => {
            let zone = Some(zone).filter(|zone| *zone != "none");
            // A slash in a site's name is no part of the path.
            let path = format!("/api/v1/sites/{}", escape(site).replace('/', "%2F"));
            let answer = hub.patch(&path, &json!({ "zone": zone })).await?;
            let Site { id, zone, .. } = serde_json::from_value(answer)?;
            outln!("{id} is in {}", zone.as_deref().unwrap_or("no zone that is known"));
            Ok(())
        }
    }
}
