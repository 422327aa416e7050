//! The twins of a running agent: their thread, and what has to be done for them now and then.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Map, Value as Json, json};
use tideline_protocol::model::DeviceId;
use tideline_protocol::time::{Clock as _, NS_PER_MS};
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Change, Section, merge_patch};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::cards::CARDS_MAX;
use crate::clock::AgentClock;
use crate::config::{Config, schema};
use crate::setpoints;
use crate::source::Writes;
use crate::spooler::SpoolHandle;
use crate::status::Board;
use crate::twin::{Kin, Parts, REST_EVERY, TwinHandle, file};

/// Where the twin has the schemas of the configuration's sections, each as a text.
const SCHEMAS: &str = "config_schema";

/// The twins, as long as the agent runs.
pub struct Twins {
    pub handle: TwinHandle,
    thread: std::thread::JoinHandle<()>,
    /// In the order of [`super::vital::TWINS`].
    pub tasks: [JoinHandle<()>; 3],
}

impl Twins {
    /// Opens their file and starts them.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn start(
        config: &Config,
        kin: Kin,
        spool: &SpoolHandle,
        board: &Board,
        writes: &Writes,
    ) -> anyhow::Result<Self> {
        let (state, own) = (spool.state(), kin.own.clone());
        let parts = Parts {
            path: file::path(&config.data_dir),
            epoch: Box::new(move || state.borrow().epoch),
            kin,
            board: board.clone(),
            clock: AgentClock::default(),
        };
        let (handle, thread) = TwinHandle::start(parts).context("twins")?;
        let setpoints = setpoints::driver::run(handle.clone(), writes.clone());
        let begun = begun(handle.clone(), DocumentId::Device(own));
        let tasks = [tokio::spawn(rest(handle.clone())), tokio::spawn(setpoints), tokio::spawn(begun)];
        Ok(Self { handle, thread, tasks })
    }

    /// Writes what waits and ends the thread.
    pub async fn close(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.handle.close().await;
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// The devices that the spool has readings of, at most as many as may be known.
///
/// # Errors
/// The storage failed.
pub async fn read_before(spool: &SpoolHandle) -> anyhow::Result<Arc<HashSet<DeviceId>>> {
    let defs = spool.series(0, usize::MAX).await.context("the series of the spool")?;
    let mut known = HashSet::new();
    for def in defs {
        if known.len() < CARDS_MAX {
            known.insert(def.device);
        }
    }
    Ok(Arc::new(known))
}

async fn rest(twins: TwinHandle) {
    let mut ticks = interval(REST_EVERY);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        twins.rest().await;
    }
}

/// Tells the hub that the agent has started, as what, and what may be configured of it, in one change: starts of replicas that were
/// wiped or copied add up.
async fn begun(twins: TwinHandle, own: DocumentId) {
    let time_ms = AgentClock::default().wall_ns() / NS_PER_MS;
    let told = twins.edit(own, move |twin| {
        let reported = twin.json(Section::Reported);
        let is_so = |section: &str, name: &str, value: &Json| {
            reported.get(section).and_then(|section| section.get(name)) == Some(value)
        };
        let mut agent = Map::from_iter([("starts".to_owned(), json!({ "$add": 1 }))]);
        let version = Json::from(env!("CARGO_PKG_VERSION"));
        if !is_so("agent", "version", &version) {
            agent.insert("version".to_owned(), version);
        }
        // As texts, since a schema is one value: what changes of it, changes as a whole.
        let texts = schema::sections(false).into_iter().map(|(name, of)| (name, Json::from(of.to_string())));
        let mut schemas: Map<String, Json> =
            texts.filter(|(name, text)| !is_so(SCHEMAS, name, text)).collect();
        let there = reported.get(SCHEMAS).and_then(Json::as_object).into_iter().flat_map(Map::keys);
        let known = schema::sections(false);
        schemas
            .extend(there.filter(|name| !known.contains_key(*name)).map(|name| (name.clone(), Json::Null)));
        let mut patch = Map::from_iter([("agent".to_owned(), Json::Object(agent))]);
        if !schemas.is_empty() {
            patch.insert(SCHEMAS.to_owned(), Json::Object(schemas));
        }
        let edits = merge_patch(Section::Reported, &reported, &Json::Object(patch))?;
        Ok(Change { edits, author: "edge-agent".to_owned(), time_ms })
    });
    if let Err(error) = told.await {
        tracing::warn!(%error, "the hub is not told that the agent has started");
    }
}
