//! The twins of a running agent: their thread, and what has to be done for them now and then.

use anyhow::Context as _;
use tideline_protocol::model::DeviceId;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::cards::Cards;
use crate::clock::AgentClock;
use crate::config::Config;
use crate::spooler::SpoolHandle;
use crate::status::Board;
use crate::twin::{Kin, Parts, REST_EVERY, TwinHandle, file};

/// The twins, as long as the agent runs.
pub struct Twins {
    pub handle: TwinHandle,
    thread: std::thread::JoinHandle<()>,
    rest: JoinHandle<()>,
}

impl Twins {
    /// Opens their file and starts them.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn start(
        config: &Config,
        own: DeviceId,
        spool: &SpoolHandle,
        cards: &Cards,
        board: &Board,
    ) -> anyhow::Result<Self> {
        let state = spool.state();
        let parts = Parts {
            path: file::path(&config.data_dir),
            epoch: Box::new(move || state.borrow().epoch),
            kin: Kin { own, cards: cards.seen() },
            board: board.clone(),
            clock: AgentClock::default(),
        };
        let (handle, thread) = TwinHandle::start(parts).context("twins")?;
        let rest = tokio::spawn(rest(handle.clone()));
        Ok(Self { handle, thread, rest })
    }

    /// Writes what waits and ends the thread.
    pub async fn close(self) {
        self.rest.abort();
        self.handle.close().await;
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

async fn rest(twins: TwinHandle) {
    let mut ticks = interval(REST_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        twins.rest().await;
    }
}
