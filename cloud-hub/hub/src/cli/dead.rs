//! `dead-letter list|show|replay|delete`.

use anyhow::{Result, bail};
use serde_json::Value;
use tideline_link::outln;

use super::DeadLetterCommand;
use super::socket::{HubSocket, escape};
use cloud_hub::api::shapes::{DeadLetter, DeadLetterPage, DeadLetterReplay};
use cloud_hub::when::show_ms;

const LETTERS: &str = "/api/v1/dead-letters";

/// All that are kept, page by page, and files that cannot be read.
async fn all(hub: &HubSocket) -> Result<(Vec<DeadLetter>, Vec<String>)> {
    let mut page: DeadLetterPage = hub.get_as(&format!("{LETTERS}?limit=1000")).await?;
    let (mut letters, unreadable) = (Vec::new(), page.unreadable);
    loop {
        letters.append(&mut page.letters);
        let Some(next) = page.next else { return Ok((letters, unreadable)) };
        page = hub.get_as(&format!("{LETTERS}?limit=1000&cursor={}", escape(&next))).await?;
    }
}

/// Carries the command out beside a running hub.
pub async fn dead_letter(hub: &HubSocket, command: &DeadLetterCommand) -> Result<()> {
    match command {
        DeadLetterCommand::List => {
            let (letters, unreadable) = all(hub).await?;
            outln!("{:<60} {:>10} {:>10}  {:<24} reason", "letter", "readings", "bytes", "kept");
            for letter in letters {
                let kept = letter.kept_ms.map_or_else(|| "-".to_owned(), show_ms);
                outln!(
                    "{:<60} {:>10} {:>10}  {kept:<24} {}",
                    letter.id,
                    letter.rows,
                    letter.bytes,
                    letter.reason
                );
            }
            unreadable.iter().for_each(|name| outln!("{name}: a file that is no dead letter"));
        }
        DeadLetterCommand::Show { id } => {
            outln!("{:#}", hub.get(&format!("{LETTERS}/{}", escape(id))).await?);
        }
        DeadLetterCommand::Replay { ids, all: every } => {
            let ids =
                if *every { all(hub).await?.0.into_iter().map(|l| l.id).collect() } else { ids.clone() };
            replay(hub, &ids).await?;
        }
        DeadLetterCommand::Delete { ids } => {
            for id in ids {
                hub.delete(&format!("{LETTERS}/{}", escape(id))).await?;
                outln!("{id} is deleted; its readings stay refused");
            }
        }
    }
    Ok(())
}

/// Replays all, and says in the end how many could not be.
async fn replay(hub: &HubSocket, ids: &[String]) -> Result<()> {
    let mut failed = 0;
    for id in ids {
        match hub.post(&format!("{LETTERS}/{}/replay", escape(id)), &Value::Null).await {
            Ok(answer) => {
                let done: DeadLetterReplay = serde_json::from_value(answer)?;
                outln!("{id}: {} readings stored", done.rows);
            }
            Err(error) => {
                failed += 1;
                outln!("{id}: {error:#}");
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} letters were not replayed", ids.len());
    }
    Ok(())
}
