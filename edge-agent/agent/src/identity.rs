//! The agent's identity in its data folder: key, certificate, and where the hub is.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tideline_link::identity::{AgentKey, KeyAndCert};
use tideline_protocol::model::AgentId;

use crate::spooler::narrow;

/// What enrolment told, beside the certificates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityFile {
    /// The agent's id.
    pub agent: AgentId,
    /// host:port of the hub's QUIC port.
    pub quic: String,
    /// host:port of the hub's MQTT port with TLS, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<String>,
    /// The name to expect in the hub's certificate.
    pub server_name: String,
    /// When the token was issued, in Unix seconds; see [`crate::floor`].
    pub floor_s: i64,
}

/// The whole identity.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What enrolment told.
    pub file: IdentityFile,
    /// Key and certificates.
    pub certificate: KeyAndCert,
}

impl Identity {
    /// Reads the identity of `data`.
    ///
    /// # Errors
    /// The agent was not enrolled, or a file cannot be read.
    pub fn load(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("identity.toml");
        let text = fs::read_to_string(&path).with_context(|| {
            format!("{} cannot be read: run `edge-agent enroll TOKEN` first", path.display())
        })?;
        let file = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let read = |name: &str| {
            fs::read_to_string(data.join(name)).with_context(|| data.join(name).display().to_string())
        };
        let key_path = data.join("key.pem");
        narrow(&key_path).with_context(|| key_path.display().to_string())?;
        let certificate =
            KeyAndCert { key_pem: read("key.pem")?, chain_pem: read("chain.pem")?, ca_pem: read("ca.pem")? };
        Ok(Self { file, certificate })
    }

    /// Writes all but the key, which is there already. `identity.toml` comes last: with it the
    /// agent counts as enrolled.
    ///
    /// # Errors
    /// The disk failed.
    pub fn save(&self, data: &Path) -> anyhow::Result<()> {
        write_file(&data.join("chain.pem"), &self.certificate.chain_pem, 0o644)?;
        write_file(&data.join("ca.pem"), &self.certificate.ca_pem, 0o644)?;
        write_file(&data.join("identity.toml"), &toml::to_string(&self.file)?, 0o644)
    }
}

/// Makes the data folder for its owner alone; one that is there already keeps its mode.
///
/// # Errors
/// The disk failed.
pub fn make_folder(data: &Path) -> anyhow::Result<()> {
    let made: Vec<&Path> = data.ancestors().take_while(|folder| !folder.exists()).collect();
    let built = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    built.with_context(|| data.display().to_string())?;
    made.into_iter().try_for_each(sync_folder_of)
}

/// The agent's key, made when there is none: it is on disk before the hub is asked, so that a lost
/// answer can be asked for again with the same key.
///
/// # Errors
/// The disk failed or the file is no key.
pub fn key(data: &Path) -> anyhow::Result<AgentKey> {
    let path = data.join("key.pem");
    match fs::read_to_string(&path) {
        Ok(pem) => AgentKey::from_pem(&pem).with_context(|| path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = AgentKey::generate()?;
            write_file(&path, &key.key_pem(), 0o600)?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

/// Writes a file so that it is there whole or not at all, also after a power cut: the token that the
/// key was bound to is worth nothing with another.
pub(crate) fn write_file(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .with_context(|| new.display().to_string())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path).with_context(|| path.display().to_string())?;
    sync_folder_of(path)
}

/// A name is only there after a power cut when its folder was synced.
fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_and_a_key_that_are_made_are_their_owners_alone() {
        let there = tempfile::tempdir().unwrap();
        fs::set_permissions(there.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = there.path().join("new/data");
        make_folder(&data).unwrap();
        assert_eq!((mode(&data), mode(there.path())), (0o700, 0o755));
        let made = key(&data).unwrap();
        assert_eq!(mode(&data.join("key.pem")), 0o600);
        assert_eq!(key(&data).unwrap().key_pem(), made.key_pem());
        fs::set_permissions(&data, fs::Permissions::from_mode(0o750)).unwrap();
        make_folder(&data).unwrap();
        assert_eq!(mode(&data), 0o750, "a folder that is there keeps its mode");
    }
}
