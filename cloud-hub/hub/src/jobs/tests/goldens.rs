//! Windows of every kind, with what they give written out, also through kills and with the input in another order.

use super::*;

fn t(rows: &[(i64, f64)]) -> Columns {
    vec![("pump-1/t", rows.to_vec())]
}

/// A job, what comes, and what each series then holds, by time and by arrival among equal ones.
struct Golden {
    more: Value,
    batches: Vec<Columns>,
    wanted: Vec<(&'static str, Vec<(i64, f64)>)>,
}

fn of_window(window: Value, aggregates: Value) -> Value {
    json!({"window": window, "aggregates": aggregates, "source": {"devices": ["pump-1"], "points": ["t", "u"]},
        "sinks": [{"kind": "series", "point": "{point}.{aggregate}"}]})
}

/// Windows worked out by hand, as in the tests of the engines. What comes last closes them.
fn fixed_goldens() -> Vec<Golden> {
    let tumbling = json!({"kind": "tumbling", "length_ms": 10});
    vec![
        Golden {
            more: of_window(tumbling.clone(), json!(["sum", "mean", "time_weighted_mean"])),
            batches: vec![
                t(&[(0, 1.0), (2, 4.0), (7, -2.0)]),
                t(&[(9, 8.0)]),
                t(&[(10, 5.0)]),
                t(&[(34, 7.0)]),
                end(),
            ],
            wanted: vec![
                ("t.sum", vec![(0, 11.0), (10, 5.0), (30, 7.0)]),
                ("t.mean", vec![(0, 2.75), (10, 5.0), (30, 7.0)]),
                ("t.time_weighted_mean", vec![(0, 2.6), (10, 5.0), (30, 6.2)]),
            ],
        },
        Golden {
            more: of_window(json!({"kind": "hopping", "length_ms": 15, "hop_ms": 5}), json!(["sum"])),
            batches: vec![t(&[(3, 1.0), (12, 2.0)]), t(&[(20, 4.0)]), end()],
            wanted: vec![(
                "t.sum",
                vec![(-10, 1.0), (-5, 1.0), (0, 3.0), (5, 2.0), (10, 6.0), (15, 4.0), (20, 4.0)],
            )],
        },
        Golden {
            more: of_window(json!({"kind": "sliding", "length_ms": 10}), json!(["count", "sum"])),
            batches: vec![t(&[(0, 1.0), (4, 2.0), (4, 3.0), (10, 4.0)]), t(&[(15, 9.0)]), end()],
            wanted: vec![
                ("t.sum", vec![(0, 1.0), (4, 6.0), (10, 10.0), (15, 13.0)]),
                ("t.count", vec![(0, 1.0), (4, 3.0), (10, 4.0), (15, 2.0)]),
            ],
        },
    ]
}

fn other_goldens() -> Vec<Golden> {
    let tumbling = json!({"kind": "tumbling", "length_ms": 10});
    let by_device = of_window(tumbling.clone(), json!(["sum"]));
    let by_device = with(by_device, "sinks", json!([{"kind": "series", "point": "all.{aggregate}"}]));
    let pairs = of_window(json!({"kind": "each"}), json!([]));
    let pairs = with(pairs, "sinks", json!([{"kind": "series", "point": "t-u"}]));
    vec![
        Golden {
            more: of_window(json!({"kind": "session", "gap_ms": 5}), json!(["count", "max"])),
            batches: vec![t(&[(0, 1.0), (4, 3.0)]), t(&[(9, 5.0)]), t(&[(13, 2.0), (17, 2.0)]), end()],
            wanted: vec![("t.count", vec![(0, 2.0), (9, 3.0)]), ("t.max", vec![(0, 3.0), (9, 5.0)])],
        },
        Golden {
            more: with(of_window(tumbling.clone(), json!(["sum"])), "late", json!({"allowed_ms": 5})),
            batches: vec![
                t(&[(1, 1.0), (11, 10.0)]),
                t(&[(2, 2.0), (3, 3.0)]),
                t(&[(14, 20.0)]),
                t(&[(4, 4.0)]),
                t(&[(15, 30.0)]),
                t(&[(6, 6.0), (12, 1.0)]),
                end(),
            ],
            wanted: vec![("t.sum", vec![(0, 1.0), (0, 6.0), (0, 10.0), (10, 61.0)])],
        },
        Golden {
            more: with(by_device, "group", json!("device")),
            batches: vec![
                vec![("pump-1/t", vec![(1, 1.0)]), ("pump-1/u", vec![(3, 5.0)])],
                vec![("pump-1/u", vec![(8, 0.5), (12, 2.0)])],
                end(),
            ],
            wanted: vec![("all.sum", vec![(0, 6.5), (10, 2.0)])],
        },
        Golden {
            more: with(
                pairs,
                "join",
                json!({"left": "t", "right": "u", "tolerance_ms": 5, "combine": "difference"}),
            ),
            batches: vec![
                vec![("pump-1/t", vec![(5, 10.0)]), ("pump-1/u", vec![(3, 4.0)])],
                vec![("pump-1/t", vec![(9, 1.0)])],
                vec![("pump-1/u", vec![(28, 0.5)])],
                t(&[(30, 2.0)]),
                end(),
            ],
            wanted: vec![("t-u", vec![(5, 6.0), (30, 1.5)])],
        },
        Golden {
            more: with(of_window(tumbling, json!(["sum"])), "late", json!({"then": "update"})),
            batches: vec![
                t(&[(1, 1.0), (11, 10.0)]),
                t(&[(2, 2.0)]),
                t(&[(25, 3.0)]),
                t(&[(12, 5.0)]),
                end(),
            ],
            wanted: vec![("t.sum", vec![(0, 1.0), (0, 3.0), (10, 10.0), (10, 15.0), (20, 3.0)])],
        },
    ]
}

/// Sessions that late readings make part of longer ones: what was given of them is taken back.
fn joined_goldens() -> Vec<Golden> {
    let sessions = of_window(json!({"kind": "session", "gap_ms": 5}), json!(["count", "sum"]));
    vec![
        Golden {
            more: with(sessions.clone(), "late", json!({"then": "update"})),
            batches: vec![
                t(&[(0, 1.0), (4, 2.0)]),
                t(&[(12, 4.0), (30, 8.0), (60, 16.0)]),
                t(&[(8, 0.5)]),
                t(&[(27, 1.0)]),
                end(),
            ],
            wanted: vec![
                (
                    "t.sum",
                    vec![
                        (0, 3.0),
                        (0, 7.5),
                        (12, 4.0),
                        (12, NOTHING),
                        (27, 9.0),
                        (30, 8.0),
                        (30, NOTHING),
                        (60, 16.0),
                    ],
                ),
                (
                    "t.count",
                    vec![
                        (0, 2.0),
                        (0, 4.0),
                        (12, 1.0),
                        (12, NOTHING),
                        (27, 2.0),
                        (30, 1.0),
                        (30, NOTHING),
                        (60, 1.0),
                    ],
                ),
            ],
        },
        Golden {
            more: with(sessions, "late", json!({"allowed_ms": 100})),
            batches: vec![t(&[(0, 1.0), (7, 2.0), (20, 4.0)]), t(&[(4, 8.0)]), end()],
            wanted: vec![("t.sum", vec![(0, 1.0), (0, 11.0), (7, 2.0), (7, NOTHING), (20, 4.0)])],
        },
    ]
}

fn goldens() -> Vec<Golden> {
    fixed_goldens().into_iter().chain(other_goldens()).chain(joined_goldens()).collect()
}

fn end() -> Columns {
    t(&[(1_000, 0.0)])
}

fn with(mut value: Value, key: &str, more: Value) -> Value {
    value[key] = more;
    value
}

/// When a hub is killed after a batch.
#[derive(Clone, Copy, PartialEq)]
enum Kill {
    Never,
    AtOnce,
    WhenRead,
    WhenStored,
}

async fn run(golden: &Golden, kills: impl Fn(usize) -> Kill) -> Vec<(&'static str, Vec<(i64, f64)>)> {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = open(dir.path()).await;
    put(&hub, job("golden", golden.more.clone())).await.unwrap();
    for (at, batch) in golden.batches.iter().enumerate() {
        write(&hub, batch.iter().map(|(series, rows)| column(series, rows)).collect()).await;
        let kill_now = kills(at);
        match kill_now {
            Kill::Never => drop(caught_up(&hub, "golden").await),
            Kill::AtOnce => {}
            Kill::WhenRead => drop(caught_up(&hub, "golden").await),
            Kill::WhenStored => {
                drained(&hub, "golden").await;
                resume(&hub, "golden").await.unwrap();
            }
        }
        if kill_now != Kill::Never {
            // Sealing lets the log go, but for what the job needs.
            flush(&hub).await;
            kill(hub).await;
            hub = open(dir.path()).await;
        }
    }
    drained(&hub, "golden").await;
    let found = golden.wanted.iter().map(|(point, _)| (*point, readings(&hub, &format!("pump-1/{point}"))));
    let found = found.collect();
    let ledger = hub.store.ledger(&AgentId::parse("_job.golden").unwrap());
    assert!(ledger.len() == 1 && ledger[0].duplicates == 0 && ledger[0].lost == 0, "{ledger:?}");
    close(hub).await;
    found
}

#[tokio::test]
async fn golden_windows_are_stored_once_whenever_the_hub_is_killed() {
    for golden in goldens() {
        assert_eq!(run(&golden, |_| Kill::Never).await, golden.wanted, "{}", golden.more);
        for kills in [[Kill::WhenRead; 3], [Kill::AtOnce, Kill::WhenStored, Kill::AtOnce]] {
            let found = run(&golden, |at| kills[at % 3]).await;
            assert_eq!(found, golden.wanted, "{}", golden.more);
        }
    }
}

#[tokio::test]
async fn the_order_of_arrival_within_the_bound_changes_no_golden_window() {
    for mut golden in goldens() {
        if golden.more.get("late").is_some() {
            continue;
        }
        golden.more["time"] = json!({"out_of_orderness_ms": 40, "idle_timeout_ms": null});
        let last = golden.batches.pop().unwrap();
        let mut rows: Vec<(&str, i64, f64)> = Vec::new();
        for (series, samples) in golden.batches.drain(..).flatten() {
            rows.extend(samples.iter().map(|(ms, value)| (series, *ms, *value)));
        }
        // Equal times of a series keep their order, of which "last" depends.
        rows.sort_by_key(|(_, ms, _)| (ms * 7).rem_euclid(41));
        golden.batches =
            rows.into_iter().map(|(series, ms, value)| vec![(series, vec![(ms, value)])]).collect();
        golden.batches.push(last);
        let kills = [Kill::Never, Kill::Never, Kill::AtOnce, Kill::Never, Kill::WhenRead];
        assert_eq!(run(&golden, |at| kills[at % 5]).await, golden.wanted, "{}", golden.more);
    }
}
