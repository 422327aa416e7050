//! A board as data, version 1 of its form: what people, files and the web app write. Unknown keys are refused, so that
//! a board of a later form is never shown in part.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The form that is written and read.
pub const VERSION: u32 = 1;

/// A board
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Version of the form: 1
    pub version: u32,
    /// Its title
    pub title: String,
    /// What it is for
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// What is chosen when it is shown, 8 at most
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
    /// The range that it begins with: `all` or a length, as `6h`; that of the page before when left out
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "6h")]
    pub range: Option<String>,
    /// 60 at most, none above another
    pub panels: Vec<Panel>,
}

/// What is chosen when a board is shown; series name it by `$name`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// Its name: small letters, digits and `_`
    pub name: String,
    /// What it stands for
    pub kind: VariableKind,
    /// What people read beside it; its name when left out
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// What it is until something else is chosen; any when empty
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub default: String,
}

/// What a variable stands for
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VariableKind {
    /// A site, in `@site=$name/POINT`
    Site,
    /// A group, in `@group=$name/POINT`
    Group,
    /// A device, in `$name/POINT`
    Device,
}

/// A part of a board
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Its name on the board: small letters, digits and `-`
    pub id: String,
    /// What stands above it
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// The first of its columns, 0 to 11
    pub x: u32,
    /// The first of its rows, from 0
    pub y: u32,
    /// How many columns of 12 it is wide
    pub w: u32,
    /// How many rows it is high, 1 to 24
    pub h: u32,
    /// What it shows, and how
    pub show: Show,
}

/// What a panel shows, and how. A series is `DEVICE/POINT`, with `*` for any text: DEVICE is an id, `$name` of a variable,
/// `@site=…` or `@group=…`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Show {
    /// Lines along time
    Line {
        /// Which series
        series: Vec<String>,
        /// Ranges of values that mean something
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        bands: Vec<Band>,
        /// What is marked along time beside gaps, which always are
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        marks: Vec<Mark>,
    },
    /// One figure of each series
    Stat {
        /// Which series
        series: Vec<String>,
        /// Which figure
        #[serde(default)]
        figure: Figure,
        /// Whether a small line shows how it went
        #[serde(default)]
        spark: bool,
        /// Ranges of values that mean something
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        bands: Vec<Band>,
    },
    /// A pointer between two ends
    Gauge {
        /// Which series
        series: Vec<String>,
        /// Which figure
        #[serde(default)]
        figure: Figure,
        /// The lower end
        min: f64,
        /// The upper end
        max: f64,
        /// Ranges of values that mean something
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        bands: Vec<Band>,
    },
    /// A bar for each series
    Bar {
        /// Which series
        series: Vec<String>,
        /// Which figure
        #[serde(default)]
        figure: Figure,
        /// Ranges of values that mean something
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        bands: Vec<Band>,
    },
    /// States along time
    States {
        /// Which series
        series: Vec<String>,
    },
    /// Colours for values
    Heat {
        /// Which series
        series: Vec<String>,
        /// What its rows and columns are
        by: HeatBy,
        /// Which figure; of each cell
        #[serde(default)]
        figure: Figure,
    },
    /// A row for each series
    Table {
        /// Which series
        series: Vec<String>,
        /// Which figures, one at least
        figures: Vec<Figure>,
    },
    /// Where devices are
    Map {
        /// Which devices: ids with `*` for any text, `$name` of a variable, `@site=…` or `@group=…`
        devices: Vec<String>,
        /// The site on whose plan they are shown, or `$name` of a variable for sites; the world when left out
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<String>,
    },
    /// Words, shown as they are written: lines stay lines, and nothing is markup
    Text {
        /// The words
        text: String,
    },
}

/// A range of values that means something; it has one end at least
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// The lower end; none when left out
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// The upper end; none when left out
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
    /// What values within mean
    pub level: Level,
}

/// What values within a band mean
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be
    Ok,
    /// Worth a look
    Warn,
    /// Not as it should be
    Bad,
}

/// What is marked along time
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// When a device's agent came back
    Restarts,
    /// When what is wanted of a device was changed
    Configuration,
}

/// One number of the readings in the range
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// The newest value
    #[default]
    Last,
    /// The mean of all readings
    Mean,
    /// The least
    Min,
    /// The greatest
    Max,
    /// How many
    Count,
}

/// What the rows and columns of a heat map are
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeatBy {
    /// Days down, hours of the day across, of the first series
    HourDay,
    /// Series down, time across
    SeriesTime,
}

impl Show {
    /// The series as they are written.
    #[must_use]
    pub fn series(&self) -> &[String] {
        match self {
            Self::Line { series, .. }
            | Self::Stat { series, .. }
            | Self::Gauge { series, .. }
            | Self::Bar { series, .. }
            | Self::States { series }
            | Self::Heat { series, .. }
            | Self::Table { series, .. } => series,
            Self::Map { .. } | Self::Text { .. } => &[],
        }
    }

    /// The devices of a map as they are written.
    #[must_use]
    pub fn devices(&self) -> &[String] {
        if let Self::Map { devices, .. } = self { devices } else { &[] }
    }

    /// The site as it is written on whose plan a map shows devices.
    #[must_use]
    pub fn plan(&self) -> Option<&str> {
        if let Self::Map { plan, .. } = self { plan.as_deref() } else { None }
    }

    /// The bands.
    #[must_use]
    pub fn bands(&self) -> &[Band] {
        match self {
            Self::Line { bands, .. }
            | Self::Stat { bands, .. }
            | Self::Gauge { bands, .. }
            | Self::Bar { bands, .. } => bands,
            Self::States { .. }
            | Self::Heat { .. }
            | Self::Table { .. }
            | Self::Map { .. }
            | Self::Text { .. } => &[],
        }
    }
}
