//! Profiles that operators give the hub, and devices whose agents have others.

use tideline_profiles::Profile;
use tideline_protocol::model::DeviceId;
use tideline_protocol::wire::DeviceCard;

use super::*;
use crate::profiles::{PROFILE_BYTES_MAX, VERSIONS_MAX};
use crate::registry;

const OVEN: &str = "name = \"oven\"\n[identity]\nvendor = \"any\"\nmodel = \"O 7\"\ntitle = \"An oven\"\n[modbus]\n[points]\n\
    heat = { unit = \"Cel\", min = -20, max = 300, name = \"Heat\", address = \"holding:0\", encoding = \"i16\", access = \"read-write\" }\n\
    on = { type = \"bool\", address = \"coil:0\", access = \"write\" }\n\
    [commands.heat]\npoint = \"heat\"\nmin = 20\nmax = 400\ntimeout_ms = 30000\ninterlocks = [{ point = \"heat\", max = 250, title = \"not when hot\" }]\n\
    [commands.stop]\npoint = \"on\"\nvalue = false\ntitle = \"Stop the oven\"\nconfirm = true\n\
    [[board.panels]]\ntitle = \"Heat\"\npoints = [\"heat\"]\n[firmware]\nmethod = \"upload\"\nversions = \"date\"\nsuffixes = [\".bin\"]\n\
    [[overlays]]\nversions = \">=20240601\"\n[overlays.commands.heat]\nmax = 200\n";

impl Bench {
    async fn add_profile(&self, name: &str, text: &str) -> (StatusCode, Value) {
        let path = format!("/api/v1/profiles/{name}");
        let put = request("PUT", &path, &[], None).map(|_| Body::from(text.to_owned()));
        let (response, value) = self.send(Door::Socket, put).await;
        (response.status(), value)
    }

    async fn at(&self, path: &str) -> Value {
        let (status, value) = self.local("GET", path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    /// An agent tells of a device of this profile.
    fn tells(&self, device: &str, text: &str, firmware: &str) {
        let profile = Profile::parse("x.toml", text).unwrap();
        let device = DeviceId::parse(device).unwrap();
        let card = DeviceCard {
            profile: profile.name().to_owned(),
            firmware: firmware.to_owned(),
            profile_digest: Some(profile.digest()),
            ..DeviceCard::new(device)
        };
        registry::tell(&self.hub, &AgentId::parse("site-1").unwrap(), vec![card]).unwrap();
    }
}

#[tokio::test]
async fn a_profile_that_is_given_says_what_devices_take_and_is_kept_by_versions() {
    let bench = Bench::new();
    bench.tells("oven-1", OVEN, "20240101");
    let unknown = bench.at("/api/v1/devices/oven-1/profile").await;
    assert_eq!((&unknown["origin"], &unknown["sheet"]), (&json!("unknown"), &Value::Null));
    let listed = bench.at("/api/v1/profiles").await;
    let of = |listed: &Value, name: &str| {
        listed["profiles"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (&of(&listed, "oven")["origin"], &of(&listed, "oven")["others"]),
        (&json!("unknown"), &json!(1))
    );
    assert_eq!(of(&listed, "eastron-sdm630")["origin"], "shipped");

    assert_eq!(bench.add_profile("oven", OVEN).await.0, StatusCode::CREATED);
    let commented = OVEN.replace("[modbus]", "# as it stands\n[modbus]");
    assert_eq!(bench.add_profile("oven", &commented).await.0, StatusCode::OK, "it says the same");
    let shown = bench.at("/api/v1/devices/oven-1/profile").await;
    assert_eq!((&shown["agreement"], &shown["version"]), (&json!("same"), &json!(1)));
    let commands = shown["sheet"]["commands"].as_array().unwrap();
    let [heat, stop] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((&heat["title"], &heat["min"], &heat["max"]), (&json!("heat"), &json!(20.0), &json!(300.0)));
    assert_eq!(
        (&heat["timeout_ms"], &heat["unit"], &heat["confirm"]),
        (&json!(30000), &json!("Cel"), &json!(false))
    );
    assert_eq!(heat["interlocks"], json!(["not when hot (heat is 250 or less)"]));
    let said = (&stop["title"], &stop["value"], &stop["confirm"], &stop["kind"]);
    assert_eq!(said, (&json!("Stop the oven"), &json!(false), &json!(true), &json!("bool")));
    let firmware = &shown["sheet"]["firmware"];
    assert_eq!((&firmware["method"], &firmware["versions"]), (&json!("upload"), &json!("date")));
    let board = bench.at("/api/v1/boards/device/oven-1").await;
    assert_eq!(board["panels"][0]["title"], "Heat", "its board, too");

    // Its firmware has an overlay.
    bench.tells("oven-2", OVEN, "20240701-1200");
    let newer = bench.at("/api/v1/devices/oven-2/profile").await;
    assert_eq!(newer["sheet"]["commands"][0]["max"], json!(200.0));
    let one = bench.at("/api/v1/profiles/oven").await;
    assert_eq!((&one["devices"], &one["others"], &one["text"]), (&json!(2), &json!(0), &json!(OVEN)));
}

#[tokio::test]
async fn versions_of_agent_and_hub_that_differ_are_told_and_the_agents_own_is_found() {
    let bench = Bench::new();
    let newer = OVEN.replace("max = 300", "max = 280");
    assert_eq!(bench.add_profile("oven", OVEN).await.0, StatusCode::CREATED);
    bench.tells("oven-1", &newer, "");
    let shown = bench.at("/api/v1/devices/oven-1/profile").await;
    assert_eq!((&shown["agreement"], &shown["version"]), (&json!("other"), &json!(1)));
    assert_eq!(bench.at("/api/v1/profiles/oven").await["others"], 1);
    assert_eq!(bench.add_profile("oven", &newer).await.1["version"], 2);
    bench.tells("oven-2", OVEN, "");
    for (device, version, max) in [("oven-1", 2, 280.0), ("oven-2", 1, 300.0)] {
        let shown = bench.at(&format!("/api/v1/devices/{device}/profile")).await;
        assert_eq!((&shown["agreement"], &shown["version"]), (&json!("same"), &json!(version)), "{device}");
        assert_eq!(shown["sheet"]["commands"][0]["max"], json!(max), "{device}");
    }
    let old = bench.at("/api/v1/profiles/oven?version=1").await;
    assert_eq!((&old["version"], old["versions"].as_array().unwrap().len()), (&json!(1), 2));
    // One that ships may be given, too, and goes before it until it is taken away.
    let meter = tideline_profiles::shipped::named("eastron-sdm630").unwrap().text;
    bench.tells("meter-1", meter, "");
    assert_eq!(bench.at("/api/v1/devices/meter-1/profile").await["origin"], "shipped");
    let other = meter.replacen("title = \"", "title = \"Our ", 1);
    assert_eq!(bench.add_profile("eastron-sdm630", &other).await.0, StatusCode::CREATED);
    assert_eq!(bench.at("/api/v1/devices/meter-1/profile").await["origin"], "shipped", "by what it says");
    assert_eq!(bench.at("/api/v1/profiles/eastron-sdm630").await["origin"], "given");
    let removed = bench.local("DELETE", "/api/v1/profiles/eastron-sdm630", Value::Null).await;
    assert_eq!(removed.0, StatusCode::NO_CONTENT);
    assert_eq!(bench.at("/api/v1/profiles/eastron-sdm630").await["origin"], "shipped");
}

#[tokio::test]
async fn what_is_no_profile_is_refused_with_all_that_is_wrong_and_versions_are_bounded() {
    let bench = Bench::new();
    let (status, told) =
        bench.add_profile("oven", &OVEN.replace("-20", "\"x\"").replace("[\"heat\"]", "[\"heta\"]")).await;
    assert_eq!((status, &told["code"]), (StatusCode::BAD_REQUEST, &json!("bad-profile")));
    assert!(told["detail"].as_str().unwrap().lines().count() >= 2, "{told}");
    let (status, told) = bench.add_profile("stove", OVEN).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(told["detail"].as_str().unwrap().contains("is called \"oven\", not \"stove\""), "{told}");
    let long = format!("{OVEN}#{}", "x".repeat(PROFILE_BYTES_MAX));
    assert_eq!(bench.add_profile("oven", &long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    for (method, path, status) in [
        ("GET", "/api/v1/profiles/oven", StatusCode::NOT_FOUND),
        ("DELETE", "/api/v1/profiles/oven", StatusCode::NOT_FOUND),
        ("DELETE", "/api/v1/profiles/nmea-gps", StatusCode::CONFLICT),
        ("GET", "/api/v1/devices/none/profile", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(bench.local(method, path, Value::Null).await.0, status, "{method} {path}");
    }
    for max in 0..=VERSIONS_MAX {
        let text = OVEN.replace("max = 300", &format!("max = {}", 100 + max));
        assert_eq!(bench.add_profile("oven", &text).await.0, StatusCode::CREATED);
    }
    let one = bench.at("/api/v1/profiles/oven").await;
    let kept: Vec<u64> =
        one["versions"].as_array().unwrap().iter().map(|v| v["version"].as_u64().unwrap()).collect();
    assert_eq!((kept.first(), kept.last()), (Some(&21), Some(&2)));
    let (status, told) = bench.local("GET", "/api/v1/profiles/oven?version=1", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(told["detail"].as_str().unwrap().contains("there are 2 to 21"), "{told}");
}

#[tokio::test]
async fn viewers_see_profiles_and_give_none() {
    let bench = Bench::new();
    let (_, made) = bench.local("POST", "/api/v1/tokens", json!({"name": "wall", "role": "viewer"})).await;
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let ask = async |method: &str, body: &str| {
        let asked = request(method, "/api/v1/profiles/oven", &[("authorization", &bearer)], None);
        let asked = asked.map(|_| Body::from(body.to_owned()));
        bench.send(Door::Plain, asked).await.0.status()
    };
    assert_eq!(ask("PUT", OVEN).await, StatusCode::FORBIDDEN);
    assert_eq!(bench.add_profile("oven", OVEN).await.0, StatusCode::CREATED);
    assert_eq!((ask("GET", "").await, ask("DELETE", "").await), (StatusCode::OK, StatusCode::FORBIDDEN));
}
