//! Sites by API.

use super::*;
use crate::metadata::{DeviceRecord, Marks};

fn bench() -> Bench {
    let bench = Bench::new();
    for (device, site) in [("a", "north"), ("b", "north"), ("c", "hall 2/3"), ("d", "")] {
        let marks = Marks { site: site.into(), ..Marks::default() };
        bench.hub.metadata.put(device, &DeviceRecord { marks, ..DeviceRecord::behind("a", 1) }).unwrap();
    }
    bench
}

#[tokio::test]
async fn a_site_has_the_zone_that_somebody_said() {
    let bench = bench();
    let (_, page) = bench.local("GET", "/api/v1/sites", Value::Null).await;
    assert_eq!(
        page["sites"],
        json!([{"id": "hall 2/3", "devices": 1, "zone": null}, {"id": "north", "devices": 2, "zone": null}])
    );
    let berlin = json!({"zone": "Europe/Berlin"});
    let (status, site) = bench.local("PATCH", "/api/v1/sites/hall%202%2F3", berlin.clone()).await;
    assert_eq!((status, &site["zone"]), (StatusCode::OK, &berlin["zone"]), "{site}");
    let (_, page) = bench.local("GET", "/api/v1/sites?device=b,c,d,none", Value::Null).await;
    assert_eq!(
        page["sites"],
        json!([{"id": "hall 2/3", "devices": 1, "zone": "Europe/Berlin"}, {"id": "north", "devices": 1, "zone": null}])
    );
    let (_, page) = bench.local("GET", "/api/v1/sites?limit=1", Value::Null).await;
    assert_eq!(page["next"], json!("hall 2/3"));
    // It stays when the last device has left, and goes when somebody says so.
    bench.hub.metadata.put("c", &DeviceRecord::behind("a", 1)).unwrap();
    let (_, site) = bench.local("PATCH", "/api/v1/sites/hall%202%2F3", json!({"zone": "UTC"})).await;
    assert_eq!((&site["devices"], &site["zone"]), (&json!(0), &json!("UTC")));
    let (_, site) = bench.local("PATCH", "/api/v1/sites/hall%202%2F3", json!({"zone": null})).await;
    assert_eq!(site["zone"], Value::Null);
    let (_, page) = bench.local("GET", "/api/v1/sites", Value::Null).await;
    assert_eq!(page["sites"], json!([{"id": "north", "devices": 2, "zone": null}]));
}

#[tokio::test]
async fn what_is_no_zone_or_no_site_is_refused() {
    let bench = bench();
    for (site, body, status, code) in [
        ("north", json!({"zone": "Europe/Bonn"}), 400, "bad-zone"),
        ("north", json!({"zone": ""}), 400, "bad-zone"),
        ("north", json!({}), 400, "bad-patch"),
        ("south", json!({"zone": "UTC"}), 404, "not-found"),
    ] {
        let (found, answer) = bench.local("PATCH", &format!("/api/v1/sites/{site}"), body).await;
        assert_eq!((found.as_u16(), &answer["code"]), (status, &json!(code)), "{answer}");
    }
}
