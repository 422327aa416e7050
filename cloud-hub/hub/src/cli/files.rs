//! Commands that work on the files of a hub that does not run.
#![allow(clippy::print_stdout, reason = "a command line speaks on stdout")]

use anyhow::{Context as _, Result, bail};

use super::StoreCommand;
use cloud_hub::config::Config;
use cloud_hub::metadata::Metadata;
use cloud_hub::serve::STORE;

/// `store inspect|verify`.
pub fn store(config: &Config, command: &StoreCommand) -> Result<()> {
    let metadata = config.data_dir.join("hub.redb");
    if !metadata.exists() {
        bail!("{} holds no hub", config.data_dir.display());
    }
    // Held until the end: it keeps a hub from starting on the files that are being read.
    let _lock = Metadata::open(&metadata).context("a hub runs on this folder; stop it first")?;
    let dir = config.data_dir.join(STORE);
    match command {
        StoreCommand::Inspect => println!("{}", tideline_store::inspect(&dir)?),
        StoreCommand::Verify => {
            let found = tideline_store::verify(&dir)?;
            println!("{} files, {} rows", found.files, found.rows);
            found.problems.iter().for_each(|problem| println!("problem: {problem}"));
            if !found.problems.is_empty() {
                bail!("{} problem(s)", found.problems.len());
            }
        }
    }
    Ok(())
}
