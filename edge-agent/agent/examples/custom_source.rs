//! An agent with a source of its own, beside those of its configuration.

use std::time::Duration;

use edge_agent::source::{Context, Source, SourceError};

/// A wave of which each second one value is read.
pub struct Wave;

impl Source for Wave {
    async fn run(&mut self, context: &mut Context) -> Result<(), SourceError> {
        let (device, mut ticks) = (context.own_device(), context.every(Duration::from_secs(1)));
        let mut angle = 0.0_f64;
        loop {
            context.tick(&mut ticks).await?;
            angle += 0.1;
            let mut readings = context.readings();
            readings.add(&device, "wave", angle.sin());
            context.emit(readings).await?;
        }
    }
}

/// Runs in the folder of an enrolled agent until Ctrl-C.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let agent = edge_agent::Agent::new().source("wave", || Wave);
    agent.run(async { drop(tokio::signal::ctrl_c().await) }).await
}
