//! Secrets: random ones, their hashes, and passwords.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Shortest password in characters, after NIST SP 800-63B.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password in bytes; bounds the work of hashing.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Why a secret cannot be made or a password not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The password is too short or too long.
    #[error(
        "the password must have at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes"
    )]
    Length,
    /// Hashing failed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// A random text of 256 bits.
///
/// # Errors
/// The system gives no randomness.
pub fn random() -> Result<String, SecretError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// A random id of 72 bits, for lists and addresses.
///
/// # Errors
/// The system gives no randomness.
pub fn random_id() -> Result<String, SecretError> {
    let mut bytes = [0_u8; 9];
    getrandom::fill(&mut bytes).map_err(SecretError::Random)?;
    Ok(hex(&bytes))
}

/// SHA-256 in hex. For random secrets only: they need no salt.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares two hashes in constant time.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The argon2id hash of a password, as a PHC string. It takes tens of milliseconds: call it off
/// the async threads.
///
/// # Errors
/// The length is not allowed or hashing fails.
pub fn hash_password(password: &str) -> Result<String, SecretError> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(SecretError::Length);
    }
    let hash =
        Argon2::default().hash_password(password.as_bytes()).map_err(|e| SecretError::Hash(e.to_string()))?;
    Ok(hash.to_string())
}

/// Whether the password fits the hash; as slow as [`hash_password`].
#[must_use]
pub fn password_fits(password: &str, hash: &str) -> bool {
    password.len() <= PASSWORD_BYTES_MAX
        && PasswordHash::new(hash)
            .is_ok_and(|parsed| Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let hash = hash_password("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(password_fits("correct horse", &hash));
        assert!(!password_fits("correct hors", &hash));
        assert!(!password_fits("correct horse", "nonsense"));
        assert!(matches!(hash_password("short"), Err(SecretError::Length)));
    }

    #[test]
    fn random_secrets_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
        assert!(same(&sha256_hex(b"a"), &sha256_hex(b"a")) && !same("a", "b"));
    }
}
