//! Series of devices that are not their agent's.

use tideline_protocol::digest::{SeriesKey, Summer};
use tideline_protocol::model::RowCounts;
use tideline_protocol::wire::{Agreement, Audit, Digest};

use super::*;
use crate::ingest::aside as rule;

/// A batch of one row of each of the first `series` entries.
fn row_of_each(seq: u64, series: u32) -> Message {
    let time_ns = i64::try_from(seq).unwrap() * 1_000_000_000;
    let samples = [Sample { time_ns, value: 1.0 }];
    let mut builder = BlockBuilder::new();
    builder.push_batch(&(0..series).map(|no| (no, &samples[..])).collect::<Vec<_>>());
    let Message::Run(mut run) = run(seq, builder.finish().bytes) else { unreachable!() };
    run.envelope.series_end = series;
    run.envelope.rows = RowCounts::one(series);
    Message::Run(run)
}

#[tokio::test]
async fn a_device_of_another_agent_costs_none_of_the_other_readings_and_gets_its_own_when_it_is_moved() {
    let bench = Bench::start();
    let identity = bench.enrol("gateway");
    bench.enrol("other");
    bench.register("valve-9", "other", "");
    let mut agent = Agent::connect(&bench, "gateway", &identity).await;
    agent.welcome().await;
    agent.send(defs(&["valve-1", "valve-9", "other", "_write.x"])).await;
    agent.send(row_of_each(1, 4)).await;
    assert!(agent.settled(|s| !s.stored.is_empty()).await.stored.contains(1));
    let aside = |point: &str, count| (format!("gateway/aside/{point}"), count);
    let before = [aside("_write.x/p", 1), aside("other/p", 1), aside("valve-9/p", 1)];
    let mut expected = before.to_vec();
    expected.push(("valve-1/p".to_owned(), 1));
    assert_eq!(bench.counts(), expected, "nothing is written into another's history");
    let reason = |device: &str| {
        let all = bench.hub.metadata.list::<AsideRecord>().unwrap();
        all.into_iter().find(|(_, r)| r.def.device.as_str() == device).map(|(_, record)| record.reason)
    };
    assert!(reason("valve-9").unwrap().contains("device set valve-9 --behind gateway"));
    assert!(reason("other").unwrap().contains("an agent of its own"));
    let names = bench.hub.store.series(None);
    assert!(names.iter().any(|series| &*series.name == "p of valve-9, which is not gateway's"));

    put_behind(&bench, "valve-9", "gateway").await;
    agent.send(row_of_each(2, 4)).await;
    assert!(agent.settled(|s| !s.stored.is_empty()).await.stored.contains(2));
    let after = [
        aside("_write.x/p", 2),
        aside("other/p", 2),
        aside("valve-9/p", 1),
        ("valve-1/p".to_owned(), 2),
        ("valve-9/p".to_owned(), 1),
    ];
    assert_eq!(bench.counts(), after);
    assert_eq!((reason("valve-9"), reason("other").is_some()), (None, true));
    let ledger = bench.hub.store.ledger(&AgentId::parse("gateway").unwrap());
    assert_eq!(ledger.iter().map(|e| (e.stored, e.refused)).collect::<Vec<_>>(), [(8, 0)]);
}

async fn put_behind(bench: &Bench, device: &str, agent: &str) {
    let moved = serde_json::from_value(serde_json::json!({ "agent": agent })).unwrap();
    let moved = crate::api::marks::patch(
        axum::extract::State(Arc::clone(&bench.hub)),
        axum::extract::Path(device.to_owned()),
        axum::Json(moved),
    );
    assert!(moved.await.is_ok());
}

/// What the agent and the hub say of so many batches with a row of each of these devices.
async fn digests(agent: &mut Agent, seqs: u64, devices: &[&str]) -> (Digest, Digest) {
    let mut sum = Summer::default();
    for seq in 1..=seqs {
        for device in devices {
            let time_ns = i64::try_from(seq).unwrap() * 1_000_000_000;
            sum.add(seq, SeriesKey::new(device, "p"), time_ns, 1.0_f64.to_bits());
        }
    }
    agent.send(Message::Audit(Audit { id: seqs, seqs: RangeSet::of(1, seqs), per: seqs })).await;
    loop {
        match agent.next().await {
            Some(Message::Agreement(Agreement { id, digests, .. })) if id == seqs => {
                return (sum.digest(), digests[0]);
            }
            Some(_) => {}
            None => panic!("no agreement"),
        }
    }
}

#[tokio::test]
async fn a_device_that_was_moved_has_nothing_more_of_its_former_agent_and_keeps_what_it_had() {
    let bench = Bench::start();
    let (identity, other) = (bench.enrol("former"), bench.enrol("latter"));
    let mut former = Agent::connect(&bench, "former", &identity).await;
    former.welcome().await;
    let devices = ["valve-1", "valve-2"];
    former.send(defs(&devices)).await;
    former.send(row_of_each(1, 2)).await;
    former.settled(|s| s.stored.contains(1)).await;
    put_behind(&bench, "valve-1", "latter").await;
    // In the same session, with times of the past; and the same readings by the new agent.
    former.send(row_of_each(2, 2)).await;
    former.settled(|s| s.stored.contains(2)).await;
    let mut latter = Agent::connect(&bench, "latter", &other).await;
    latter.welcome().await;
    latter.send(defs(&["valve-1"])).await;
    latter.send(row_of_each(2, 1)).await;
    latter.settled(|s| s.stored.contains(2)).await;
    let count = |name: &str, count| (name.to_owned(), count);
    let expected = [count("former/aside/valve-1/p", 1), count("valve-1/p", 2), count("valve-2/p", 2)];
    assert_eq!(bench.counts(), expected);
    let aside = bench.hub.metadata.list::<AsideRecord>().unwrap();
    assert_eq!(aside.len(), 1);
    assert!(aside[0].1.reason.contains("behind agent latter, not behind former"), "{aside:?}");
    let (ours, theirs) = digests(&mut former, 2, &devices).await;
    assert_eq!(ours, theirs, "what is aside is what the agent sent");
    // And back, and away again.
    put_behind(&bench, "valve-1", "former").await;
    former.send(row_of_each(3, 2)).await;
    former.settled(|s| s.stored.contains(3)).await;
    latter.send(row_of_each(3, 1)).await;
    latter.settled(|s| s.stored.contains(3)).await;
    let mut expected = expected.to_vec();
    (expected[1].1, expected[2].1) = (3, 3);
    expected.insert(1, count("latter/aside/valve-1/p", 1));
    assert_eq!(bench.counts(), expected);
    let (ours, theirs) = digests(&mut former, 3, &devices).await;
    assert_eq!(ours, theirs, "what was aside for a while is what the agent sent");
    let ledger = |agent: &str| {
        let epochs = bench.hub.store.ledger(&AgentId::parse(agent).unwrap());
        epochs.iter().map(|e| (e.stored, e.refused, e.duplicates)).collect::<Vec<_>>()
    };
    assert_eq!((ledger("former"), ledger("latter")), (vec![(6, 0, 0)], vec![(2, 0, 0)]));
}

#[tokio::test]
async fn a_move_goes_on_when_nobody_waits_for_it_any_more() {
    let bench = Bench::start();
    let identity = bench.enrol("former");
    bench.enrol("latter");
    let mut agent = Agent::connect(&bench, "former", &identity).await;
    agent.welcome().await;
    agent.send(defs(&["valve-1"])).await;
    agent.send(row_of_each(1, 1)).await;
    agent.settled(|s| s.stored.contains(1)).await;
    let mut asked = Box::pin(put_behind(&bench, "valve-1", "latter"));
    let mut now = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(asked.as_mut().poll(&mut now).is_pending());
    drop(asked);
    let former = AgentId::parse("former").unwrap();
    let own = std::collections::BTreeSet::from([DeviceId::parse("former").unwrap()]);
    let is_aside = async {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while bench.hub.store.defined_devices(&former, EPOCH) != own {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_aside).await.unwrap();
    agent.send(row_of_each(2, 1)).await;
    agent.settled(|s| s.stored.contains(2)).await;
    assert_eq!(bench.counts(), [("former/aside/valve-1/p".to_owned(), 1), ("valve-1/p".to_owned(), 1)]);
}

#[tokio::test]
async fn what_a_kill_has_left_of_a_move_is_done_when_the_agent_signs_on() {
    let bench = Bench::start();
    let identity = bench.enrol("former");
    bench.enrol("latter");
    let former = AgentId::parse("former").unwrap();
    let mut agent = Agent::connect(&bench, "former", &identity).await;
    agent.welcome().await;
    agent.send(defs(&["valve-1", "valve-2"])).await;
    agent.send(row_of_each(1, 2)).await;
    agent.settled(|s| s.stored.contains(1)).await;
    // Moved, and no more than that.
    bench.register("valve-1", "latter", "");
    let mut agent = Agent::connect(&bench, "former", &identity).await;
    agent.welcome().await;
    agent.send(row_of_each(2, 2)).await;
    agent.settled(|s| s.stored.contains(2)).await;
    let count = |name: &str, count| (name.to_owned(), count);
    let aside = |n| count("former/aside/valve-1/p", n);
    assert_eq!(bench.counts(), [aside(1), count("valve-1/p", 1), count("valve-2/p", 2)]);
    // Moved back, with the record that was to go still there.
    let (key, record) = bench.hub.metadata.list::<AsideRecord>().unwrap().remove(0);
    bench.register("valve-1", "former", "");
    assert!(rule::settle(&bench.hub, &former, EPOCH).await.unwrap().is_ok());
    bench.hub.metadata.put(&key, &record).unwrap();
    // And away again: there is a record, and the dictionary has the device.
    bench.register("valve-1", "latter", "");
    let mut agent = Agent::connect(&bench, "former", &identity).await;
    agent.welcome().await;
    agent.send(row_of_each(3, 2)).await;
    agent.settled(|s| s.stored.contains(3)).await;
    assert_eq!(bench.counts(), [aside(2), count("valve-1/p", 1), count("valve-2/p", 3)]);
    assert_eq!(bench.hub.metadata.count::<AsideRecord>().unwrap(), 1);
}

#[tokio::test]
async fn a_move_that_would_set_too_much_aside_ends_the_session_of_the_former_agent() {
    let bench = Bench::start();
    let identity = bench.enrol("former");
    bench.enrol("latter");
    let former = AgentId::parse("former").unwrap();
    let mut agent = Agent::connect(&bench, "former", &identity).await;
    agent.welcome().await;
    bench.register("valve-1", "former", "");
    let def = |no: usize| {
        let point = PointId::parse(&format!("p{no}")).unwrap();
        SeriesDef::new(DeviceId::parse("valve-1").unwrap(), point, String::new())
    };
    let all = Series { first: 0, defs: (0..=rule::ASIDE_MAX).map(def).collect() };
    bench.hub.store.define_series(former.clone(), EPOCH, all).await.unwrap();
    put_behind(&bench, "valve-1", "latter").await;
    let (code, text) = agent.refusal_text().await;
    assert_eq!(code, RefuseCode::Identity);
    assert!(text.contains("valve-1 is registered behind agent latter"), "{text}");
    let mut agent = Agent::connect(&bench, "former", &identity).await;
    assert_eq!(agent.refusal().await, RefuseCode::Identity);
    assert_eq!(bench.hub.metadata.count::<AsideRecord>().unwrap(), 0);
    // One that is let in again has all as it was.
    put_behind(&bench, "valve-1", "former").await;
    Agent::connect(&bench, "former", &identity).await.welcome().await;
}

#[tokio::test]
async fn an_agent_that_leaves_its_epoch_leaves_what_is_aside_of_it() {
    let bench = Bench::start();
    let identity = bench.enrol("gateway");
    bench.enrol("other");
    let mut agent = Agent::connect(&bench, "gateway", &identity).await;
    agent.welcome().await;
    agent.send(defs(&["other"])).await;
    agent.send(run(1, block())).await;
    agent.settled(|s| !s.stored.is_empty()).await;
    assert_eq!(bench.hub.metadata.count::<AsideRecord>().unwrap(), 1);
    let Message::Hello(hello) = hello("gateway", Vec::new()) else { unreachable!() };
    let hello = Message::Hello(Hello { epoch: Epoch::from_bytes([4; 16]), ..hello });
    Agent::connect_with(&bench, &identity, hello).await.welcome().await;
    assert_eq!(bench.hub.metadata.count::<AsideRecord>().unwrap(), 0);
}

#[tokio::test]
async fn beyond_what_may_be_aside_the_session_is_refused_with_the_first_of_them() {
    let bench = Bench::start();
    let agent = AgentId::parse("gateway").unwrap();
    bench.enrol("gateway");
    bench.enrol("other");
    let def = |no: usize| {
        let point = PointId::parse(&format!("p{no}")).unwrap();
        SeriesDef::new(DeviceId::parse("other").unwrap(), point, String::new())
    };
    let series = |from: usize, to: usize| Series {
        first: u32::try_from(from).unwrap(),
        defs: (from..to).map(def).collect(),
    };
    let max = rule::ASIDE_MAX;
    assert!(rule::admit(&bench.hub, &agent, EPOCH, series(0, max)).unwrap().is_ok());
    let refused = rule::admit(&bench.hub, &agent, EPOCH, series(max, max + 1)).unwrap().unwrap_err();
    assert!(refused.to_string().contains("other is an agent of its own"), "{refused}");
}

#[test]
fn long_names_are_cut_and_stay_apart() {
    let own = DeviceId::parse("gateway").unwrap();
    let alias = |point: &str| {
        let device = DeviceId::parse(&"d".repeat(64)).unwrap();
        let def = SeriesDef::new(device, PointId::parse(point).unwrap(), "Cel".to_owned());
        rule::alias(&own, &def.named(&"é".repeat(64)))
    };
    let (a, b) = (alias("a"), alias("b"));
    assert_ne!(a.point, b.point);
    for def in [a, b] {
        assert_eq!((def.point.as_str().len(), def.unit.as_str()), (64, "Cel"));
        assert!(def.name().len() <= 128 && def.device == own);
    }
}
