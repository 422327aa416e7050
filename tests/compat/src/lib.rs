//! Folders of files as earlier versions wrote them, and what they hold in words.
//!
//! `kept/NAME.files` is a folder, packed: for each file its path and its length on a line, a blank line, and then the
//! bytes of all of them, in zstd. `kept/NAME.txt` is what the version that wrote it said of it. Neither is ever
//! changed; a version that changes a format adds files beside them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

pub mod spool;
pub mod store;

/// Most bytes of a folder once it is unpacked.
const FOLDER_BYTES_MAX: usize = 256 * 1024 * 1024;
const ZSTD_LEVEL: i32 = 19;

/// Where the files are kept.
#[must_use]
pub fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kept")
}

/// The names of the folders that are kept and begin so, ascending.
///
/// # Errors
/// The folder cannot be read.
pub fn names(prefix: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(kept())? {
        let name = entry?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(".files"));
        names.extend(name.filter(|name| name.starts_with(prefix)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn files_below(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, out)?;
        } else {
            out.push(path);
        }
    }
    Ok(())
}

/// Packs a folder.
///
/// # Errors
/// It cannot be read.
pub fn pack(dir: &Path) -> Result<Vec<u8>> {
    let mut paths = Vec::new();
    files_below(dir, &mut paths)?;
    paths.sort();
    let (mut head, mut body) = (String::new(), Vec::new());
    for path in paths {
        let bytes = fs::read(&path)?;
        let name = path.strip_prefix(dir)?.to_str().context("a name is not UTF-8")?;
        head += &format!("{} {name}\n", bytes.len());
        body.extend(bytes);
    }
    head.push('\n');
    Ok(zstd::bulk::compress(&[head.into_bytes(), body].concat(), ZSTD_LEVEL)?)
}

/// Unpacks a folder.
///
/// # Errors
/// It is not what [`pack`] made, or cannot be written.
pub fn unpack(packed: &[u8], dir: &Path) -> Result<()> {
    let all = zstd::bulk::decompress(packed, FOLDER_BYTES_MAX)?;
    let end = all.windows(2).position(|two| two == b"\n\n").context("there is no list of files")?;
    let (head, mut rest) = all.split_at_checked(end + 2).context("it is cut")?;
    for line in std::str::from_utf8(head)?.trim_end().lines() {
        let (len, name) = line.split_once(' ').context("a line has no name")?;
        ensure!(!name.contains(".."), "{name} leads out of the folder");
        let (bytes, after) = rest.split_at_checked(len.parse()?).context("it is cut")?;
        let path = dir.join(name);
        fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        fs::write(path, bytes)?;
        rest = after;
    }
    ensure!(rest.is_empty(), "it goes on behind its end");
    Ok(())
}
