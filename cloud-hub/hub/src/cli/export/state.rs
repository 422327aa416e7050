//! How far an export is, in a file beside it.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What was asked for, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub format: String,
    pub series: Option<String>,
    pub device: Option<String>,
    pub from: Option<String>,
    pub to: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "format {}", self.format)?;
        for (name, value) in [("series", &self.series), ("device", &self.device), ("from", &self.from)] {
            if let Some(value) = value {
                write!(f, ", {name} {value}")?;
            }
        }
        write!(f, ", to {}", self.to)
    }
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub asked: Asked,
    /// The range as it was when the export began.
    pub from: Option<String>,
    pub to: String,
    /// The bytes of each part.
    pub parts: Vec<u64>,
    pub rows: u64,
    /// Where the next part begins.
    pub next: Option<String>,
    pub whole: bool,
}

impl State {
    /// What is kept; none where there is nothing, or nothing of this version.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// Keeps it; what is there afterwards is this or the one before.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }

    /// How long all parts are.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().sum()
    }
}
