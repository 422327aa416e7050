//! Writers over restarts, and what they do when the registry and the store do not agree.

use tideline_protocol::model::{DeviceId, Epoch, PointId, Sample};
use tideline_protocol::value::{Boxes, ValueKind};
use tideline_store::StoreConfig;

use super::*;
use crate::api::tests::{hub_in, hub_on};
use crate::config::Config;
use crate::metadata::{WriterRecord, WriterSeriesRecord};

fn writer() -> AgentId {
    AgentId::parse("_write.telegraf").unwrap()
}

fn column(device: &str, point: &str, times: std::ops::Range<i64>) -> Column {
    Column {
        device: DeviceId::parse(device).unwrap(),
        point: PointId::parse(point).unwrap(),
        kind: ValueKind::Float,
        boxes: Boxes::new(),
        samples: times.map(|at| Sample { time_ns: at, value: 0.5 }).collect(),
    }
}

/// As the API does, for a request that takes no place.
async fn store(hub: &App, agent: &AgentId, columns: Vec<Column>) -> Result<(), WriteError> {
    super::store(hub, agent, columns, None).await
}

fn registered(hub: &App) {
    let record = DeviceRecord::behind(writer().to_string(), 1);
    hub.metadata.put(writer().as_str(), &record).unwrap();
}

/// Closes the store, so that the folder can be opened again.
async fn close(hub: App) {
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
}

async fn settle(hub: &App) {
    let store = hub.store.clone();
    tokio::task::spawn_blocking(move || store.settle()).await.unwrap().unwrap();
}

/// The rows of each series of the hub.
async fn counts(hub: &App) -> Vec<(String, u64)> {
    settle(hub).await;
    let mut all: Vec<_> =
        hub.store.series(None).into_iter().map(|s| (format!("{}/{}", s.device, s.point), s.count)).collect();
    all.sort();
    all
}

fn epoch(hub: &App) -> Epoch {
    hub.metadata.find::<WriterRecord>(writer().as_str()).unwrap().unwrap().epoch.parse().unwrap()
}

#[tokio::test]
async fn a_writer_goes_on_in_its_epoch_after_a_restart_and_no_seq_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut begun = None;
    for start in 0..3_i64 {
        let hub = hub_in(dir.path(), Config::default());
        registered(&hub);
        store(&hub, &writer(), vec![column("a", "p", 0..5), column("a", &format!("q{start}"), 0..1)])
            .await
            .unwrap();
        store(&hub, &writer(), vec![column("a", "p", 5..6)]).await.unwrap();
        assert_eq!(*begun.get_or_insert(epoch(&hub)), epoch(&hub));
        let ledger = hub.store.ledger(&writer());
        assert_eq!(ledger.len(), 1);
        let stored = u64::try_from(start + 1).unwrap() * 7;
        assert_eq!((ledger[0].stored, ledger[0].duplicates, ledger[0].balanced), (stored, 0, true));
        let settled = hub.store.agent_state(&writer(), epoch(&hub)).settled.all();
        assert_eq!((settled.last(), settled.range_count()), (Some(stored / 7 * 2), 1));
        assert!(hub.writers.last_seen_ms(&writer()).is_some());
        assert!(
            hub.metadata.find::<DeviceRecord>(writer().as_str()).unwrap().unwrap().last_seen_ms.is_some()
        );
        close(hub).await;
    }
    let hub = hub_in(dir.path(), Config::default());
    let wanted =
        [("a/p", 18), ("a/q0", 1), ("a/q1", 1), ("a/q2", 1)].map(|(name, rows)| (name.to_owned(), rows));
    assert_eq!(counts(&hub).await, wanted);
}

#[tokio::test]
async fn a_dictionary_that_is_not_that_of_the_store_begins_a_new_epoch_and_surplus_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    registered(&hub);
    store(&hub, &writer(), vec![column("a", "p", 0..5)]).await.unwrap();
    let first = epoch(&hub);
    let key = |no: u32| format!("{}/{first}/{no:08}", writer());
    let chunk = hub.metadata.find::<WriterSeriesRecord>(&key(0)).unwrap().unwrap();
    // Written before the store was asked, and then the hub was killed.
    hub.metadata.put(&key(1), &chunk).unwrap();
    close(hub).await;
    let hub = hub_in(dir.path(), Config::default());
    store(&hub, &writer(), vec![column("a", "q", 0..5)]).await.unwrap();
    assert_eq!(epoch(&hub), first);
    let second = hub.metadata.find::<WriterSeriesRecord>(&key(1)).unwrap().unwrap();
    assert_eq!(second.series.first().map(|def| def.point.to_string()), Some("q".to_owned()));
    // A registry of another time than the store.
    hub.metadata.put(&key(0), &second).unwrap();
    close(hub).await;
    let hub = hub_in(dir.path(), Config::default());
    store(&hub, &writer(), vec![column("a", "p", 5..7)]).await.unwrap();
    assert_ne!(epoch(&hub), first);
    assert_eq!(counts(&hub).await, [("a/p".to_owned(), 7), ("a/q".to_owned(), 5)]);
    assert!(hub.metadata.find::<WriterSeriesRecord>(&key(0)).unwrap().is_none());
    assert!(hub.store.ledger(&writer()).iter().all(|account| account.balanced));
}

#[tokio::test]
async fn after_rows_were_lost_with_a_file_a_writer_begins_an_epoch_and_they_stay_counted() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    registered(&hub);
    store(&hub, &writer(), vec![column("a", "p", 0..5)]).await.unwrap();
    let first = epoch(&hub);
    let sealing = hub.store.clone();
    tokio::task::spawn_blocking(move || sealing.flush()).await.unwrap().unwrap();
    close(hub).await;
    for file in std::fs::read_dir(dir.path().join("store/sealed")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let hub = hub_in(dir.path(), Config::default());
    store(&hub, &writer(), vec![column("a", "p", 5..7)]).await.unwrap();
    assert_ne!(epoch(&hub), first);
    let ledger = hub.store.ledger(&writer());
    let sums = ledger.iter().fold((0, 0, true), |(lost, stored, balanced), account| {
        (lost + account.lost, stored + account.stored, balanced && account.balanced)
    });
    assert_eq!(sums, (5, 2, true));
    assert_eq!(counts(&hub).await, [("a/p".to_owned(), 2)]);
}

#[tokio::test]
async fn requests_at_once_are_stored_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    registered(&hub);
    let all = (0..20_i64).map(|n| {
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            store(&hub, &writer(), vec![column(&format!("d{}", n % 3), "p", n * 10..n * 10 + 10)]).await
        })
    });
    for done in all.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    assert_eq!(counts(&hub).await.iter().map(|(_, rows)| rows).sum::<u64>(), 200);
    let settled = hub.store.agent_state(&writer(), epoch(&hub)).settled.all();
    assert_eq!((settled.last(), settled.range_count()), (Some(20), 1));
}

#[tokio::test]
async fn a_closed_store_is_told_and_a_client_that_goes_away_leaves_no_seq_in_doubt() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    registered(&hub);
    for n in 0..10 {
        // Dropped at some point on its way.
        let pace = std::time::Duration::from_micros(n * 300);
        let _given_up =
            tokio::time::timeout(pace, store(&hub, &writer(), vec![column("a", "p", 0..3)])).await;
    }
    store(&hub, &writer(), vec![column("a", "p", 0..3)]).await.unwrap();
    settle(&hub).await;
    let account = hub.store.ledger(&writer()).remove(0);
    assert_eq!((account.stored % 3, account.duplicates, account.balanced), (0, 0, true));
    let settled = hub.store.agent_state(&writer(), epoch(&hub)).settled.all();
    assert_eq!((settled.range_count(), settled.last()), (1, Some(account.stored / 3)));
    close(Arc::clone(&hub)).await;
    let error = store(&hub, &writer(), vec![column("a", "p", 0..3)]).await.unwrap_err();
    assert!(matches!(error, WriteError::Store(StoreError::Closed)), "{error}");
}

#[tokio::test]
async fn while_the_log_cannot_be_written_nothing_is_called_stored_and_then_all_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // Each append needs a new segment.
    let small = StoreConfig { log_segment_bytes_max: 1, ..StoreConfig::new(dir.path().join("store")) };
    let hub = hub_on(dir.path(), Config::default(), small);
    registered(&hub);
    store(&hub, &writer(), vec![column("a", "p", 0..3)]).await.unwrap();
    let (log, away) = (dir.path().join("store/log"), dir.path().join("away"));
    std::fs::rename(&log, &away).unwrap();
    let mut stored = 3;
    let error = loop {
        match store(&hub, &writer(), vec![column("a", "p", 0..1)]).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100, "it is stored without a log");
    };
    assert!(matches!(error, WriteError::Store(StoreError::Io { .. } | StoreError::Poisoned)), "{error}");
    assert!(store(&hub, &writer(), vec![column("a", "new", 0..1)]).await.is_err());
    std::fs::rename(&away, &log).unwrap();
    store(&hub, &writer(), vec![column("a", "p", 0..3), column("a", "q", 0..2)]).await.unwrap();
    assert_eq!(counts(&hub).await, [("a/p".to_owned(), stored + 3), ("a/q".to_owned(), 2)]);
    let account = hub.store.ledger(&writer()).remove(0);
    assert_eq!((account.stored, account.duplicates, account.balanced), (stored + 5, 0, true));
    let settled = hub.store.agent_state(&writer(), epoch(&hub)).settled.all();
    assert_eq!(settled.range_count(), 1);
}

#[tokio::test]
async fn a_series_keeps_the_unit_that_an_agent_gave_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_in(dir.path(), Config::default());
    registered(&hub);
    let (agent, own) = (AgentId::parse("pump-7").unwrap(), DeviceId::parse("pump-7").unwrap());
    let record = DeviceRecord { key_hash: "x".into(), ..DeviceRecord::behind(agent.to_string(), 1) };
    hub.metadata.put("pump-7", &record).unwrap();
    let def =
        tideline_protocol::model::SeriesDef::new(own.clone(), PointId::parse("p").unwrap(), "Cel".into());
    let series = tideline_protocol::wire::Series { first: 0, defs: vec![def] };
    hub.store.define_series(agent, Epoch::from_bytes([1; 16]), series).await.unwrap();
    settle(&hub).await;
    store(&hub, &writer(), vec![column("pump-7", "p", 0..3), column("pump-7", "q", 0..3)]).await.unwrap();
    settle(&hub).await;
    let units: Vec<_> =
        hub.store.series(Some(&own)).into_iter().map(|s| (s.point.to_string(), s.unit.to_string())).collect();
    assert_eq!(units, [("p".to_owned(), "Cel".to_owned()), ("q".to_owned(), String::new())]);
}
