//! `export`: readings as a file.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hyper::Method;
use tideline_link::{errln, outln};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::socket::{HubSocket, escape};
use super::{ExportArgs, FileFormat};

/// Writes beside the file and renames at the end: what has its name is whole.
pub async fn export(hub: &HubSocket, args: &ExportArgs) -> Result<()> {
    let format = args.format.unwrap_or_else(|| of_ending(&args.out));
    let name = match format {
        FileFormat::Parquet => "parquet",
        FileFormat::Arrow => "arrow",
        FileFormat::Csv => "csv",
    };
    let mut path = format!("/api/v1/export?format={name}&to={}", escape(&args.to));
    for (name, value) in [("series", &args.series), ("device", &args.device), ("from", &args.from)] {
        if let Some(value) = value {
            path += &format!("&{name}={}", escape(value));
        }
    }
    let mut unfinished = args.out.clone().into_os_string();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let shown = args.out.display();
    let file = alone(&unfinished).with_context(|| format!("nothing was written to {shown}"))?;
    let written = write(hub, &path, File::from_std(file), format).await;
    if written.is_err() {
        let _none_left = tokio::fs::remove_file(&unfinished).await;
    }
    let bytes = written.with_context(|| format!("nothing was written to {shown}"))?;
    tokio::fs::rename(&unfinished, &args.out).await.with_context(|| format!("{shown} cannot be written"))?;
    outln!("{shown}: {}", megabytes(bytes));
    Ok(())
}

/// What the ending of a file's name says.
fn of_ending(path: &Path) -> FileFormat {
    match path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("csv") => FileFormat::Csv,
        Some("arrow" | "arrows") => FileFormat::Arrow,
        _ => FileFormat::Parquet,
    }
}

/// Opens the unfinished file for this process alone; what one that was killed left in it is overwritten.
fn alone(path: &Path) -> Result<std::fs::File> {
    let shown = path.display();
    let opened = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = opened.with_context(|| format!("{shown} cannot be made"))?;
    file.try_lock().with_context(|| format!("another export is writing {shown}"))?;
    file.set_len(0).with_context(|| format!("{shown} cannot be written"))?;
    Ok(file)
}

async fn write(hub: &HubSocket, path: &str, mut file: File, format: FileFormat) -> Result<u64> {
    let (mut bytes, mut told) = (0_u64, 0);
    let mut answer = hub.stream(Method::GET, path, None).await?;
    let mut end = Vec::new();
    while let Some(part) = answer.next().await? {
        file.write_all(&part).await.context("the disk")?;
        end.extend_from_slice(part.get(part.len().saturating_sub(FOOTER.len())..).unwrap_or_default());
        end.drain(..end.len().saturating_sub(FOOTER.len()));
        bytes += part.len() as u64;
        if std::io::stderr().is_terminal() && bytes / PROGRESS_BYTES > told {
            told = bytes / PROGRESS_BYTES;
            errln!("{}", megabytes(bytes));
        }
    }
    let whole = format != FileFormat::Parquet || end == FOOTER;
    anyhow::ensure!(whole, "the hub's answer ended early; its log says why");
    file.sync_all().await.context("the disk")?;
    Ok(bytes)
}

/// What a whole Parquet file ends with.
const FOOTER: &[u8] = b"PAR1";
/// How often it is said how far it is.
const PROGRESS_BYTES: u64 = 16 * 1024 * 1024;

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_says_the_format() {
        for (name, format) in [
            ("a.csv", FileFormat::Csv),
            ("a.ARROWS", FileFormat::Arrow),
            ("a.parquet", FileFormat::Parquet),
            ("csv", FileFormat::Parquet),
        ] {
            assert_eq!(of_ending(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn two_exports_do_not_write_to_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet.part");
        std::fs::write(&path, b"left by a kill").unwrap();
        let first = alone(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        assert!(alone(&path).unwrap_err().to_string().contains("another export"));
        drop(first);
        assert!(alone(&path).is_ok());
    }
}
