//! A device that is put back from an image, with the real processes: nothing that it read since is
//! lost, nothing that both copies held is doubled.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tideline_e2e::{Agent, Hub};

const LONGEST: Duration = Duration::from_secs(60);
const ROWS: u64 = 2_000;

fn csv(folder: &Path, name: &str, from: u64) -> Result<String> {
    let path = folder.join(format!("{name}.csv"));
    let rows: String = (from..from + ROWS).map(|value| format!("2025-11-21 10:00:00,{value}\n")).collect();
    std::fs::write(&path, format!("timestamp,value\n{rows}"))?;
    let source = "[[source]]\nkind = \"replay\"\ntimestamps = \"keep\"\nrate = 0\n";
    Ok(format!("{source}name = \"{name}\"\npath = \"{}\"\n", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_device_put_back_from_an_image_loses_and_doubles_nothing() -> Result<()> {
    let hub = Hub::start().await?;
    let page = "[http]\nlisten = \"\"\n";
    let first = csv(hub.folder(), "first", 0)?;
    let agent = Agent::start(&hub, "press-1", &format!("{page}{first}")).await?;
    hub.settled("press-1", ROWS, LONGEST).await?;
    agent.terminate(LONGEST).await?;
    let folder = hub.folder().join("press-1");
    let (data, image) = (folder.join("data"), folder.join("image"));
    copy(&data, &image)?;
    // It reads on, and all of that is at the hub.
    let second = csv(hub.folder(), "second", ROWS)?;
    std::fs::write(folder.join("agent.toml"), format!("{page}{first}{second}"))?;
    let agent = Agent::launch(folder.clone())?;
    hub.settled("press-1", 2 * ROWS, LONGEST).await?;
    agent.terminate(LONGEST).await?;
    // The image comes back, and gives the same seqs out for other readings.
    std::fs::remove_dir_all(&data)?;
    copy(&image, &data)?;
    let third = csv(hub.folder(), "third", 2 * ROWS)?;
    std::fs::write(folder.join("agent.toml"), format!("{page}{first}{third}"))?;
    let agent = Agent::launch(folder)?;
    let ledger = hub.settled("press-1", 3 * ROWS, LONGEST).await?;
    ensure!((ledger.lost, ledger.dropped, ledger.refused) == (0, 0, 0), "{ledger:?}");
    let mut values: Vec<f64> =
        hub.readings("press-1/value", 5_000).await?.into_iter().map(|(_, value)| value).collect();
    values.sort_by(f64::total_cmp);
    let wanted: Vec<f64> = (0..3 * ROWS).map(|value| value as f64).collect();
    ensure!(values == wanted, "{} readings, the last are {:?}", values.len(), values.last());
    agent.terminate(LONGEST).await
}
