//! The example of a source of a program's own, as a running agent has it.

#[allow(dead_code, reason = "the example's main is not called")]
#[path = "../../examples/custom_source.rs"]
mod custom_source;

use std::sync::Arc;
use std::time::Duration;

use edge_agent::cards::Cards;
use edge_agent::config::{SourceConfig, SourceKind};
use edge_agent::intake::{self, Batching, QUEUE_MAX};
use edge_agent::source::{AnySource, Make, Shared, Sources};
use edge_agent::status::{Board, SourceState};
use tideline_protocol::model::DeviceId;
use tokio::sync::{mpsc, watch};

use crate::{spool, until, until_shown};

#[tokio::test]
async fn a_source_of_twenty_lines_is_supervised_and_its_readings_are_durable() {
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    let spool = spool(folder.path(), &board);
    let (out, inbox) = mpsc::channel(QUEUE_MAX);
    let (_batching, now) = watch::channel(Batching { flush_interval: Duration::ZERO, rows_max: 1 });
    tokio::spawn(intake::run(inbox, spool.clone(), now, board.clone()));
    let own_device = DeviceId::parse("pump-7").unwrap();
    let cards = Cards::default();
    let shared = Shared {
        own_device,
        out: out.into(),
        board: board.clone(),
        spool: spool.clone(),
        cards,
        writes: Default::default(),
    };
    let make: Make = Arc::new(|| -> Box<dyn AnySource> { Box::new(custom_source::Wave) });
    let mut sources = Sources::new(shared).with(SourceConfig::plain("wave", SourceKind::Custom), make);
    sources.apply(&[]).await;
    until(&spool, |state| state.account.produced >= 2).await;
    let defs = spool.series(0, 9).await.unwrap();
    assert_eq!(defs.iter().map(|def| def.point.as_str()).collect::<Vec<_>>(), ["wave"]);
    let status = until_shown(&board, |status| status.sources["wave"].accepted >= 2).await;
    assert_eq!(status.sources["wave"].state, SourceState::Running);
    // A changed configuration does not touch it.
    sources.apply(&[]).await;
    assert_eq!(board.read().sources["wave"].restarts, 0);
    sources.stop();
}
