//! Templates of configuration.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::TwinPatched;
use crate::metadata::{ConfigRecord, OptionInForce, TemplateRecord, TemplateVersion};

/// What all agents of a group or at a site are to have, where nobody wants something else of one
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigTemplate {
    /// As `group/pumps` or `site/hall-2`
    pub name: String,
    /// What is current
    pub current: ConfigTemplateVersion,
    /// What was before, the oldest first; left out in the list of all
    pub earlier: Vec<ConfigTemplateVersion>,
    /// The agents that it is for
    pub members: Vec<String>,
}

/// A version of a template
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigTemplateVersion {
    /// From 1 on
    pub version: u64,
    /// By section, as `{"batch": {"rows_max": 1000}, "source": {"old": false}}`; left out in the list of all
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    pub layer: Option<Json>,
    /// Who made it
    pub by: String,
    /// When (Unix ms)
    pub at_ms: i64,
}

impl ConfigTemplate {
    /// As the registry has it.
    #[must_use]
    pub fn of(name: String, record: TemplateRecord, members: Vec<String>) -> Self {
        let TemplateRecord { current, earlier } = record;
        let earlier = earlier.into_iter().map(ConfigTemplateVersion::from).collect();
        Self { name, current: current.into(), earlier, members }
    }

    /// As one of many: without its layers, which may be long.
    #[must_use]
    pub fn listed(name: String, record: TemplateRecord, members: Vec<String>) -> Self {
        let TemplateVersion { version, by, at_ms, .. } = record.current;
        let current = ConfigTemplateVersion { version, layer: None, by, at_ms };
        Self { name, current, earlier: Vec::new(), members }
    }
}

impl From<TemplateVersion> for ConfigTemplateVersion {
    fn from(version: TemplateVersion) -> Self {
        let TemplateVersion { version, layer, by, at_ms } = version;
        Self { version, layer: serde_json::from_str(&layer).ok(), by, at_ms }
    }
}

/// All templates
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigTemplates {
    /// By name
    pub templates: Vec<ConfigTemplate>,
}

/// What a template is to be
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigTemplatePut {
    /// By section; of sections that may stand several times each item by its name
    #[schema(value_type = Object)]
    pub layer: Json,
}

/// What came of a template
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigTemplateApplied {
    /// As it is now
    pub template: ConfigTemplate,
    /// By agent
    pub results: Vec<TwinPatched>,
    /// What of it is of no effect, as a schedule whose only time is over
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<String>,
}

/// The configuration of an agent: what the hub wants of it, and what is in force
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeviceConfig {
    /// Whose
    pub device: String,
    /// Whether the agent has all that is wanted on its disk
    pub agreed: bool,
    /// What is wanted, by option
    pub values: Vec<ConfigValue>,
    /// What the agent says: `trial`, `applied` or `failed`; none where it has said nothing
    #[schema(required)]
    pub state: Option<String>,
    /// What names the values that are in force
    #[schema(required)]
    pub version: Option<String>,
    /// Why what is wanted is not in force
    #[schema(required)]
    pub reason: Option<String>,
    /// What names the values that were refused
    #[schema(required)]
    pub refused: Option<String>,
    /// What is in force only after a restart
    pub needs_restart: Vec<String>,
    /// Sources and devices that it touches and that do not work, nor did before: they are no reason to take it back
    pub unwell: Vec<String>,
    /// All that is in force, as the agent last said; none of one that has not said it
    #[schema(required)]
    pub in_force: Option<ConfigInForce>,
}

/// What is in force at an agent
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigInForce {
    /// When the agent was last heard, which says so as soon as any of them changes (Unix ms)
    pub told_ms: i64,
    /// When it first said these values (Unix ms)
    pub since_ms: i64,
    /// How many options it did not tell, as there are too many
    pub left_out: u32,
    /// All options, those that nobody has set among them; of sections that may stand several times those that are set
    pub options: Vec<ConfigOption>,
}

/// One option in force
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigOption {
    /// As `batch.rows_max` or `source.meter.interval_ms`
    pub option: String,
    /// What; `(set)` in the place of a secret, which the agent does not tell
    #[schema(value_type = Object)]
    pub value: Json,
    /// Which layer it comes from: `default`, `file`, `environment`, `hub` or `flag`
    pub source: String,
    /// The variable of the environment, the flag, or who set it at the hub: `template group/pumps`, or a name
    #[schema(required)]
    pub from: Option<String>,
}

impl ConfigInForce {
    /// As it was kept, beside what the hub wants, of an agent that was last heard then.
    #[must_use]
    pub fn of(record: ConfigRecord, wanted: &[ConfigValue], heard_ms: Option<i64>) -> Self {
        let ConfigRecord { told_ms: since_ms, left_out, options, .. } = record;
        let told_ms = heard_ms.unwrap_or(since_ms).max(since_ms);
        let options = options.into_iter().map(|option| ConfigOption::of(option, wanted)).collect();
        Self { told_ms, since_ms, left_out, options }
    }
}

impl ConfigOption {
    fn of(record: OptionInForce, wanted: &[ConfigValue]) -> Self {
        let OptionInForce { section, name, value, source, from } = record;
        let option = format!("{}.{name}", section.replacen('/', ".", 1));
        // A list of a pipeline's stages is one option at the agent and may be several leaves here.
        let by_hub = || {
            let below = |leaf: &ConfigValue| {
                let rest = leaf.option.strip_prefix(&option);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let leaf = wanted.iter().find(|leaf| below(leaf))?;
            Some(if leaf.source == "device" { leaf.author.clone() } else { leaf.source.clone() })
        };
        let from = Some(from)
            .filter(|from| !from.is_empty())
            .or_else(|| if source == "hub" { by_hub().filter(|by| !by.is_empty()) } else { None });
        let value = serde_json::from_str(&value).unwrap_or(Json::Null);
        Self { option, value, source, from }
    }
}

/// One option that the hub wants
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigValue {
    /// As `batch.rows_max` or `source.meter.interval_ms`
    pub option: String,
    /// What; false in the place of an item takes away that of the agent's file
    #[schema(value_type = Object)]
    pub value: Json,
    /// `device`, or the template, as `template group/pumps`
    pub source: String,
    /// Who signed it
    pub author: String,
    /// When (Unix ms)
    #[schema(required)]
    pub time_ms: Option<i64>,
}
