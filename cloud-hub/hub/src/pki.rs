//! The hub's own certificate authority and certificate, kept in `pki/` of the data folder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tideline_link::identity::{CertificateAuthority, IdentityError};

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What a file holds is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Loads the authority of `dir`, or makes one at the first start. Its key is readable by the
/// hub's own user only.
///
/// # Errors
/// The folder cannot be read or written, or what it holds is not usable. A half-written authority
/// is never replaced: agents pin it.
pub fn authority(dir: &Path, now_s: i64) -> Result<CertificateAuthority, PkiError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::File { path, source }
    };
    fs::create_dir_all(dir).map_err(fail(dir))?;
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    if cert_path.exists() {
        let cert = fs::read_to_string(&cert_path).map_err(fail(&cert_path))?;
        let key = fs::read_to_string(&key_path).map_err(fail(&key_path))?;
        return Ok(CertificateAuthority::load(&cert, &key)?);
    }
    let authority = CertificateAuthority::create("Tideline hub authority", now_s)?;
    // The key goes first: a certificate without its key would stop every later start.
    write_durably(&key_path, authority.key_pem().as_bytes()).map_err(fail(&key_path))?;
    write_durably(&cert_path, authority.cert_pem().as_bytes()).map_err(fail(&cert_path))?;
    fs::File::open(dir).and_then(|d| d.sync_all()).map_err(fail(dir))?;
    Ok(authority)
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_authority_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = authority(dir.path(), 1_763_719_200).unwrap();
        let again = authority(dir.path(), 1_763_719_300).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        let mode = fs::metadata(dir.path().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
