//! Series of devices that are not their agent's.

use tideline_protocol::model::RowCounts;

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

    let moved = serde_json::from_value(serde_json::json!({ "agent": "gateway" })).unwrap();
    let moved = crate::api::marks::patch(
        axum::extract::State(Arc::clone(&bench.hub)),
        axum::extract::Path("valve-9".to_owned()),
        axum::Json(moved),
    );
    assert!(moved.await.is_ok());
    let (code, text) = agent.refusal_text().await;
    assert_eq!(code, RefuseCode::Unavailable);
    assert!(text.contains("valve-9 is behind gateway now"), "{text}");
    let mut agent = Agent::connect(&bench, "gateway", &identity).await;
    agent.welcome().await;
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
