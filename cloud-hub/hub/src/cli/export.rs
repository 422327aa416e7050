//! `export`: readings as a Parquet file.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tideline_link::{errln, outln};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::ExportArgs;
use super::socket::{HubSocket, escape};

/// Writes beside the file and renames at the end: what has its name is whole.
pub async fn export(hub: &HubSocket, args: &ExportArgs) -> Result<()> {
    let mut path = format!("/api/v1/export?to={}", escape(&args.to));
    for (name, value) in [("series", &args.series), ("device", &args.device), ("from", &args.from)] {
        if let Some(value) = value {
            path += &format!("&{name}={}", escape(value));
        }
    }
    let mut unfinished = args.out.clone().into_os_string();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let shown = args.out.display();
    let written = write(hub, &path, &unfinished).await;
    if written.is_err() {
        let _none_left = tokio::fs::remove_file(&unfinished).await;
    }
    let bytes = written.with_context(|| format!("nothing was written to {shown}"))?;
    tokio::fs::rename(&unfinished, &args.out).await.with_context(|| format!("{shown} cannot be written"))?;
    outln!("{shown}: {}", megabytes(bytes));
    Ok(())
}

async fn write(hub: &HubSocket, path: &str, to: &std::path::Path) -> Result<u64> {
    let mut file = File::create(to).await.with_context(|| format!("{} cannot be made", to.display()))?;
    let (mut bytes, mut told) = (0_u64, 0);
    let mut answer = hub.stream(path).await?;
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
    anyhow::ensure!(end == FOOTER, "the hub's answer ended early; its log says why");
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
