//! The folder of certificates: this end's own, those of servers that are trusted, and those that are not yet.
//!
//! ```text
//! own/certificate.der, own/key.pem   made at the first start, for servers to trust
//! trusted/                           certificates of servers that may be spoken to
//! rejected/                          those that were met and are not trusted
//! ```
//!
//! A server is known by its certificate itself: that an authority signed it makes it neither trusted nor not, and its
//! dates and host names are not looked at, as many a device was made without a clock or under another name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use opcua_crypto::{CertificateStore, SecurityPolicy, X509, X509Data};
use ring::digest::{SHA256, digest};

use crate::floor::BUILD_S;
use crate::identity::make_folder;
use crate::spooler::narrow;

const TRUSTED: &str = "trusted";
const REJECTED: &str = "rejected";
/// This end's certificate, below the folder.
pub const OWN_CERTIFICATE: &str = "own/certificate.der";
/// Its key.
pub const OWN_KEY: &str = "own/key.pem";
/// Bits of this end's key: what every policy allows.
const KEY_BITS: u32 = 2048;
/// Ten years: who renewed it would have to have it trusted at all servers again.
const VALID_DAYS: u32 = 3650;
/// Most certificates that are looked at, and that are kept of those that are not trusted (INV-6).
const FILES_MAX: usize = 256;
/// Longest certificate that is read, in bytes.
const CERTIFICATE_BYTES_MAX: u64 = 64 * 1024;

/// Sources begin beside each other, and have one folder.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Which servers are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those whose certificates somebody has put there.
    Listed,
    /// The first one that a source meets, too, and no other after it.
    First,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at this path, which need not be there yet.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what is missing: the folders, and this end's key and certificate for `uri`. It takes seconds.
    ///
    /// # Errors
    /// The disk failed, or the clock is not set yet.
    pub fn prepare(&self, uri: &str, now_s: i64) -> Result<(), String> {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in ["own", TRUSTED, REJECTED] {
            make_folder(&self.path.join(folder)).map_err(|error| format!("{error:#}"))?;
        }
        let (certificate, key) = (self.path.join(OWN_CERTIFICATE), self.path.join(OWN_KEY));
        if key.exists() {
            narrow(&key).map_err(at(&key))?;
        }
        let own = CertificateStore::read_cert(&certificate).ok();
        let is_own = own.is_some_and(|own| own.is_application_uri_valid(uri).is_ok());
        if is_own && CertificateStore::read_pkey(&key).is_ok() {
            return Ok(());
        }
        if now_s < BUILD_S {
            return Err("the clock is not set: a certificate of this time would be valid to no server".into());
        }
        tracing::info!(path = %certificate.display(), uri, "makes a certificate for OPC UA servers");
        // Whole or not at all: a key without its certificate is made anew.
        let new = |path: &Path| path.with_extension("new");
        CertificateStore::create_certificate_and_key(&own_data(uri), true, &new(&certificate), &new(&key))?;
        narrow(&new(&key)).map_err(at(&key))?;
        for path in [&key, &certificate] {
            fs::File::open(new(path)).and_then(|file| file.sync_all()).map_err(at(path))?;
            fs::rename(new(path), path).map_err(at(path))?;
        }
        Ok(())
    }

    /// Whether a server may be spoken to that shows this certificate; `source` is who asks.
    ///
    /// # Errors
    /// It may not; says what to do about it.
    pub fn check(
        &self,
        der: &[u8],
        policy: SecurityPolicy,
        trust: Trust,
        source: &str,
    ) -> Result<(), String> {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let certificate = X509::from_der(der).map_err(|_| "the server's certificate is none".to_owned())?;
        let bits =
            certificate.key_length().map_err(|_| "the key of the server's certificate is no RSA key")?;
        if !policy.is_valid_keylength(bits) {
            return Err(format!("the server's key has {bits} bits, which {policy} does not allow"));
        }
        let name = CertificateStore::cert_file_name(&certificate);
        if name.len() > 200 || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
            return Err("the server's certificate has a name that makes no file".into());
        }
        let trusted = self.path.join(TRUSTED);
        let listed = files(&trusted)?;
        if let Some(found) = listed.iter().find(|path| bytes_of(path).is_some_and(|bytes| bytes == der)) {
            // The crate looks under this name only.
            let path = trusted.join(&name);
            if *found != path {
                fs::write(&path, der).map_err(at(&path))?;
            }
            return self.forget(&name);
        }
        let shown = fingerprint(der);
        // A source's name is free text.
        let source_file: String =
            source.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let first = trusted.join(format!("{source_file}.first"));
        if trust == Trust::First && !first.exists() {
            let path = trusted.join(&name);
            tracing::warn!(source, path = %path.display(), sha256 = shown, "trusts the first certificate that a server shows");
            fs::write(&path, der).map_err(at(&path))?;
            fs::write(&first, format!("{shown}\n")).map_err(at(&first))?;
            return self.forget(&name);
        }
        self.reject(&name, der, &shown)
    }

    /// It is rejected no more.
    fn forget(&self, name: &str) -> Result<(), String> {
        let path = self.path.join(REJECTED).join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Keeps a certificate for whoever may trust it, and says so.
    fn reject(&self, name: &str, der: &[u8], shown: &str) -> Result<(), String> {
        let (folder, trusted) = (self.path.join(REJECTED), self.path.join(TRUSTED));
        let path = folder.join(name);
        let is_kept = path.exists() || files(&folder)?.len() < FILES_MAX;
        if is_kept {
            fs::write(&path, der).map_err(at(&path))?;
        }
        let (path, trusted) = (path.display(), trusted.display());
        let todo = match is_kept {
            true => format!("move {path} to {trusted}/"),
            false => format!(
                "put it into {trusted}/ ({} has {FILES_MAX} files and takes no more)",
                folder.display()
            ),
        };
        Err(format!(
            "the server's certificate is not trusted; its SHA-256 is {shown}: where that is what the server shows, {todo}"
        ))
    }
}

/// What is known of this end.
fn own_data(uri: &str) -> X509Data {
    X509Data {
        key_size: KEY_BITS,
        common_name: "Tideline edge-agent".into(),
        organization: "Tideline".into(),
        organizational_unit: String::new(),
        country: String::new(),
        state: String::new(),
        alt_host_names: X509Data::alt_host_names(uri, None, false, true, false),
        certificate_duration_days: VALID_DAYS,
    }
}

/// As people compare it.
pub fn fingerprint(der: &[u8]) -> String {
    let bytes: Vec<String> = digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn at(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).take(FILES_MAX).collect())
}

/// A certificate as it stands in a file, in DER or PEM.
fn bytes_of(path: &Path) -> Option<Vec<u8>> {
    if fs::metadata(path).ok()?.len() > CERTIFICATE_BYTES_MAX {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    if bytes.starts_with(b"-----BEGIN") { X509::from_pem(&bytes).ok()?.to_der().ok() } else { Some(bytes) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const URI: &str = "urn:tideline:agent:test";
    const POLICY: SecurityPolicy = SecurityPolicy::Basic256Sha256;

    /// A folder with this end's own certificate, which stands for a server's, too: keys take seconds.
    fn folder() -> (tempfile::TempDir, Folder, Vec<u8>) {
        let there = tempfile::tempdir().unwrap();
        let folder = Folder::new(there.path().join("opcua"));
        folder.prepare(URI, BUILD_S).unwrap();
        let der = fs::read(folder.path().join(OWN_CERTIFICATE)).unwrap();
        (there, folder, der)
    }

    #[test]
    fn a_certificate_is_made_once_for_its_owner_alone_and_never_before_the_clock_is_set() {
        let there = tempfile::tempdir().unwrap();
        let folder = Folder::new(there.path().join("opcua"));
        assert!(folder.prepare(URI, 0).unwrap_err().starts_with("the clock is not set"));
        folder.prepare(URI, BUILD_S).unwrap();
        let key = folder.path().join(OWN_KEY);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let made = fs::read(&key).unwrap();
        folder.prepare(URI, 0).unwrap();
        assert_eq!(fs::read(&key).unwrap(), made);
        let own = CertificateStore::read_cert(&folder.path().join(OWN_CERTIFICATE)).unwrap();
        assert!(own.is_application_uri_valid(URI).is_ok());
    }

    #[test]
    fn an_unknown_certificate_is_refused_with_its_fingerprint_until_somebody_moves_it() {
        let (_there, folder, der) = folder();
        let check = || folder.check(&der, POLICY, Trust::Listed, "plant");
        let error = check().unwrap_err();
        let rejected = files(&folder.path().join(REJECTED)).unwrap();
        let [file] = rejected.as_slice() else { panic!("{rejected:?}") };
        assert!(error.contains(&fingerprint(&der)) && error.contains(&file.display().to_string()), "{error}");
        fs::rename(file, folder.path().join(TRUSTED).join("server.crt")).unwrap();
        assert_eq!(check(), Ok(()));
        fs::remove_dir_all(folder.path().join(TRUSTED)).unwrap();
        fs::create_dir(folder.path().join(TRUSTED)).unwrap();
        assert!(check().is_err(), "what is trusted no more is refused again");
    }

    #[test]
    fn the_first_certificate_may_be_trusted_and_then_no_other() {
        let (_there, folder, der) = folder();
        let check = |source| folder.check(&der, POLICY, Trust::First, source);
        assert_eq!(check("plant"), Ok(()));
        for file in files(&folder.path().join(TRUSTED)).unwrap() {
            if file.extension().is_none_or(|extension| extension != "first") {
                fs::remove_file(file).unwrap();
            }
        }
        assert!(check("plant").is_err(), "it is the second one that this source meets");
        assert_eq!(check("../hall 1"), Ok(()));
        assert!(folder.path().join(TRUSTED).join("..-hall-1.first").exists());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let (_there, folder, der) = folder();
        for wrong in [&[][..], b"-----BEGIN CERTIFICATE-----", der.get(..100).unwrap()] {
            assert!(folder.check(wrong, POLICY, Trust::First, "plant").is_err());
        }
    }
}
