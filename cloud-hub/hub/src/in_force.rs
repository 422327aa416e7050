//! What is in force at agents, as they say it themselves: a hub knows neither their files nor their environment.
//!
//! Each is kept as it was last told, so that the configuration of one that is away can be looked at. An agent names its values in
//! each session, and says all of them where they are not those that are kept here.

use serde_json::Value as Json;
use tideline_protocol::model::AgentId;
use tideline_protocol::wire::{ConfigInForce, ConfigOption};

use crate::hub::Hub;
use crate::metadata::{ConfigRecord, MetadataError, OptionInForce};
use crate::secret::hex;

/// Notes what an agent says; true where it has only named values that are not known here.
///
/// # Errors
/// The metadata failed.
pub fn tell(hub: &Hub, agent: &AgentId, told: ConfigInForce) -> Result<bool, MetadataError> {
    let ConfigInForce { digest, left_out, options } = told;
    let digest = hex(&digest);
    let known = hub.metadata.find::<ConfigRecord>(agent.as_str())?;
    if known.is_some_and(|known| known.digest == digest) {
        return Ok(false);
    }
    let Some(options) = options else { return Ok(true) };
    let options = options.into_iter().map(read).collect();
    let record = ConfigRecord { digest, told_ms: hub.now_ms(), left_out, options };
    hub.metadata.put(agent.as_str(), &record)?;
    Ok(false)
}

fn read(option: ConfigOption) -> OptionInForce {
    // They are shown in terminals too.
    let clean = |text: String| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let ConfigOption { section, name, value, source, from } = option;
    let value = clean(value);
    let value = match serde_json::from_str::<Json>(&value) {
        Ok(json) => json.to_string(),
        Err(_) => Json::String(value).to_string(),
    };
    OptionInForce {
        section: clean(section),
        name: clean(name),
        value,
        source: source.as_str().to_owned(),
        from: clean(from),
    }
}
