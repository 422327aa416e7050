//! The start of an agent up to where nothing of its configuration can end it any more.

use std::path::Path;
use std::sync::Arc;

use super::doors::Doors;
use crate::clock::AgentClock;
use crate::config::{Config, Layers};
use crate::trial::driver::{self, HubConfig};

/// Loads the configuration and what `load` reads of the data folder, and binds the doors. A layer of the hub that is on trial and
/// with which the doors cannot be bound is taken back at once: a mistake at the hub ends no agent.
///
/// # Errors
/// The agent cannot start: not enrolled, socket or address in use.
pub async fn begin<I>(
    layers: &Layers,
    load: impl Fn(&Path) -> anyhow::Result<I>,
) -> anyhow::Result<(Config, HubConfig, I, Doors)> {
    loop {
        let (config, mut hub) = driver::begin(layers, Arc::new(AgentClock::default()))?;
        let loaded = load(&config.data_dir)?;
        let doors = Doors::bind(&config).await?;
        match doors.with_page(&config).await {
            Ok(doors) => return Ok((config, hub, loaded, doors)),
            Err(error) => {
                let reason = format!("the agent cannot start with it: {error:#}");
                if !hub.end_trial(&reason)? {
                    return Err(error);
                }
                tracing::error!(reason, "the hub's configuration is taken back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn a_layer_on_trial_whose_page_cannot_be_is_taken_back_and_one_that_is_good_ends_the_start() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let layer = json!({"http": {"listen": taken.local_addr().unwrap().to_string()}});
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = (folder.path().join("agent.toml"), folder.path().join("hub-config.json"));
        std::fs::write(&file, "[http]\nlisten = \"127.0.0.1:0\"\n").unwrap();
        let data_dir = Some(folder.path().to_owned());
        let layers = Layers { file: Some(file), data_dir, ..Layers::default() };
        let trial = json!({"good": null, "trial": {"layer": layer, "starts": 1}, "refused": null});
        std::fs::write(&kept, trial.to_string()).unwrap();
        let (config, hub, ..) = begin(&layers, |_| Ok(())).await.unwrap();
        assert_eq!((config.listen.as_deref(), hub.layer().is_empty()), (Some("127.0.0.1:0"), true));
        let told: Value = serde_json::from_str(&std::fs::read_to_string(&kept).unwrap()).unwrap();
        let reason = told["refused"]["reason"].as_str().unwrap();
        assert!(reason.starts_with("the agent cannot start with it: http.listen 127.0.0.1:"), "{reason}");
        drop(hub);
        // As one of the device's own would.
        std::fs::write(&kept, json!({"good": layer, "trial": null, "refused": null}).to_string()).unwrap();
        assert!(begin(&layers, |_| Ok(())).await.is_err());
    }
}
