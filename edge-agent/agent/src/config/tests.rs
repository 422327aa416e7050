//! What a configuration may say, and how it is told when it may not.

use tideline_protocol::model::Class;
use tideline_protocol::session::BackfillBudget;
use tideline_spool::{Overflow, Policy};

use std::path::PathBuf;

use tideline_protocol::value::ValueKind;

use super::*;

fn variables(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn all_problems_come_at_once_with_file_line_and_what_is_allowed() {
    let text = "[spool]\nquota_mb = 0\ncolour = 1\n[nonsense]\n[[source]]\nkind = \"replay\"\n[[source]]\nkind = \"x\"\n";
    let env = variables(&[("TIDELINE_AGENT_BATCH_ROWS_MAX", "many"), ("TIDELINE_AGENT_HTTP_LISTE", "x")]);
    let error = parse("a.toml", text, &env).unwrap_err();
    let all = error.to_string();
    for part in [
        "a.toml:2: spool.quota_mb: must be a whole number from 1 to 1000000",
        "a.toml:3: spool.colour: unknown key; allowed are quota_mb",
        "a.toml:4: nonsense: unknown section; allowed are agent, spool",
        "a.toml:5: source.path: needed for kind \"replay\"",
        "a.toml:8: source.kind: must be one of host, replay, tail, stdin, http",
        "environment TIDELINE_AGENT_BATCH_ROWS_MAX: must be a whole number from 1 to 500000",
        "environment TIDELINE_AGENT_HTTP_LISTE: unknown variable; allowed are TIDELINE_AGENT_DATA_DIR",
    ] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    assert_eq!(error.problems.len(), 7, "each is told once: {all}");
    let error = parse("a.toml", "[[source]]\nrate = 1\n", &[]).unwrap_err();
    assert_eq!(
        error.problems,
        [
            "a.toml:1: source.kind: needed; allowed are host, replay, tail, stdin, http, modbus-tcp, modbus-rtu, mqtt, sparkplug, serial, coap, opc-ua"
        ]
    );
}

#[test]
fn numbers_of_all_bases_that_toml_has_are_read_as_what_they_are() {
    for (text, expected) in
        [("0x100", 256), ("0x1_0", 16), ("0o17", 15), ("0b101", 5), ("1_0", 10), ("+7", 7)]
    {
        let config = parse("a.toml", &format!("[spool]\nquota_mb = {text}\n"), &[]).unwrap();
        assert_eq!(config.quota_bytes, expected * 1024 * 1024, "{text}");
    }
    let error = parse("a.toml", "[spool]\nquota_mb = 0xffff_ffff_ffff_ffff_f\n", &[]).unwrap_err();
    assert!(error.to_string().contains("a.toml:2: spool.quota_mb: 0xffff"), "{error}");
}

#[test]
fn all_problems_of_streams_come_at_once_with_line_and_what_is_allowed() {
    let text = "[[stream]]\nname = \"meter\"\nclass = \"urgent\"\noverflow = \"drop\"\nquota_mb = 1_000_001\n\
        keep_h = -1\ndownsample_s = 0\nquota_gb = 1\n\
        [[stream]]\nname = \"meter\"\n\
        [[stream]]\n\
        [[source]]\nkind = \"host\"\nstream = \"metre\"\n";
    let error = parse("a.toml", text, &[]).unwrap_err();
    let all = error.to_string();
    for part in [
        "a.toml:3: stream.class: must be one of live, state, alarm",
        "a.toml:4: stream.overflow: must be one of block, drop-newest, drop-oldest, keep-latest, downsample",
        "a.toml:5: stream.quota_mb: must be a whole number from 0 to 1000000",
        "a.toml:6: stream.keep_h: -1 is not a whole number of 0 or more",
        "a.toml:7: stream.downsample_s: must be a whole number from 1 to 86400",
        "a.toml:8: stream.quota_gb: unknown key; did you mean quota_mb? Allowed are name, class, overflow, quota_mb, keep_h, downsample_s",
        "a.toml:9: stream.name: \"meter\" is used twice",
        "a.toml:11: stream.name: is 0 bytes long; allowed are 1 to 64",
        "a.toml:12: source.stream: there is no \"metre\"; allowed are default, meter",
    ] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    assert_eq!(error.problems.len(), 9, "{all}");
    for (text, what) in [
        ("stream = 1\n", "a.toml:1: stream: must be"),
        ("[stream]\nname = \"a\"\n", "a.toml:1: stream: must be"),
    ] {
        let error = parse("a.toml", text, &[]).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("[[stream]]"), "{error}");
    }
    let sections =
        |count: usize| (0..count).map(|n| format!("[[stream]]\nname = \"s{n}\"\n")).collect::<String>();
    assert_eq!(parse("a.toml", &sections(63), &[]).unwrap().streams.len(), 63);
    let error = parse("a.toml", &sections(64), &[]).unwrap_err();
    assert_eq!(error.problems, ["a.toml:127: stream: at most 63 are allowed"]);
}

#[test]
fn a_stream_is_as_it_is_written_and_sources_go_to_it() {
    let text = "[[stream]]\nname = \"meter\"\nclass = \"state\"\noverflow = \"downsample\"\nquota_mb = 2\nkeep_h = 3\n\
        downsample_s = 5\n[[stream]]\nname = \"plain\"\n\
        [[source]]\nkind = \"host\"\nstream = \"meter\"\n";
    let config = parse("a.toml", text, &[]).unwrap();
    let overflow = Overflow::Downsample { bucket_s: 5 };
    let policy = Policy { overflow, quota_bytes: 2 * 1024 * 1024, keep_s: 3 * 3600 };
    let meter = StreamConfig { name: "meter".into(), class: Class::State, policy };
    let plain = StreamConfig { name: "plain".into(), ..StreamConfig::default() };
    assert_eq!(config.streams, [meter, plain]);
    assert_eq!(config.sources[0].stream, "meter");
}

#[test]
fn columns_of_a_replay_may_be_given_types() {
    let source = |types: &str| {
        let text =
            format!("[[source]]\nkind = \"replay\"\npath = \"a\"\ntypes = [{types}]\nquality = \"ok\"\n");
        parse("a.toml", &text, &[])
    };
    let config = source("\"on = bool\", \"a=b=text\"").unwrap();
    let SourceKind::Replay { rows: Rows { types, quality, .. }, .. } = &config.sources[0].kind else {
        panic!("no replay")
    };
    let wanted = [("on".to_owned(), ValueKind::Bool), ("a=b".to_owned(), ValueKind::Text)];
    assert_eq!((types, quality.as_str()), (&wanted.into(), "ok"));
    let error = source("\"on\", \"a=number\", \"b=int\", \"b=text\"").unwrap_err();
    assert_eq!(
        error.problems,
        [
            "a.toml:1: source.types: \"on\"; allowed is column=type",
            "a.toml:1: source.types: \"a=number\": \"number\" is unknown; allowed are float, int, bool, text",
            "a.toml:1: source.types: \"b\" stands there twice",
        ]
    );
}

#[test]
fn devices_belong_to_the_source_that_they_name() {
    let text = "[[source]]\nkind = \"host\"\nname = \"a\"\n[[device]]\nid = \"pump-1\"\nsource = \"a\"\n\
        profile = \"eastron-sdm630\"\naddress = \"3\"\nfirmware = \"1.2\"\n";
    let config = parse("a.toml", text, &[]).unwrap();
    let wanted = DeviceConfig {
        id: "pump-1".parse().unwrap(),
        profile: "eastron-sdm630".into(),
        family: Some(std::sync::Arc::new(shipped("eastron-sdm630").unwrap())),
        address: "3".into(),
        firmware: Some("1.2".into()),
        hardware: None,
        stream: None,
    };
    assert_eq!(config.sources[0].devices, [wanted]);
    let text = format!(
        "{text}[[device]]\nid = \"pump-1\"\nsource = \"a\"\n[[device]]\nid = \"pump 2\"\nsource = \"a\"\n\
         [[device]]\nid = \"pump-3\"\nsource = \"b\"\nstream = \"c\"\n"
    );
    let error = parse("a.toml", &text, &[]).unwrap_err();
    assert_eq!(error.problems.len(), 4, "{error}");
    for (problem, part) in error.problems.iter().zip([
        "a.toml:10: device.id: pump-1 is there twice behind a",
        "a.toml:13: device.id: ",
        "a.toml:16: device.stream: there is no \"c\"; allowed are default",
        "a.toml:16: device.source: there is no \"b\"; allowed are a",
    ]) {
        assert!(problem.starts_with(part), "{problem}: {part}");
    }
}

#[test]
fn a_modbus_bus_is_as_it_is_written_and_its_devices_must_fit() {
    let text = "[[source]]\nkind = \"modbus-tcp\"\nname = \"hall\"\naddress = \"10.0.0.7\"\n\
        [[source]]\nkind = \"modbus-rtu\"\nname = \"cellar\"\npath = \"/dev/ttyUSB0\"\nbaud = 19200\nparity = \"even\"\n\
        timeout_ms = 300\n\
        [[device]]\nid = \"meter-1\"\nsource = \"hall\"\nprofile = \"eastron-sdm630\"\naddress = \"255\"\n";
    let config = parse("a.toml", text, &[]).unwrap();
    let line = ModbusLine::Tcp { address: "10.0.0.7:502".into() };
    assert_eq!(config.sources[0].kind, SourceKind::Modbus { line, timeout_ms: None });
    let given = SerialLine {
        baud: Some(19_200),
        parity: Some(tideline_profiles::form::protocol::Parity::Even),
        ..SerialLine::default()
    };
    let line = ModbusLine::Rtu { path: "/dev/ttyUSB0".into(), given };
    assert_eq!(config.sources[1].kind, SourceKind::Modbus { line, timeout_ms: Some(300) });
    let text = format!(
        "{text}[[device]]\nid = \"m\"\nsource = \"cellar\"\nprofile = \"eastron-sdm630\"\naddress = \"248\"\n\
         [[device]]\nid = \"n\"\nsource = \"cellar\"\n\
         [[device]]\nid = \"o\"\nsource = \"hall\"\nprofile = \"linux-host\"\n\
         [[device]]\nid = \"p\"\nsource = \"hall\"\nprofile = \"sdm\"\n\
         [[source]]\nkind = \"modbus-tcp\"\naddress = \"10.0.0.7:fast\"\n"
    );
    let error = parse("a.toml", &text, &[]).unwrap_err();
    let wanted = [
        "a.toml:33: source.address: \"10.0.0.7:fast\" is none; allowed is host or host:port",
        "a.toml:17: device.address: \"248\" is no unit; allowed are 1 to 247",
        "a.toml:22: device.profile: needed for kind \"modbus-rtu\"",
        "a.toml:25: device.profile: profile linux-host is of ",
        "a.toml:29: device.profile: there is no profile \"sdm\"; shipped are ",
    ];
    assert_eq!(error.problems.len(), wanted.len(), "{error}");
    for (problem, part) in error.problems.iter().zip(wanted) {
        assert!(problem.starts_with(part), "{problem}: {part}");
    }
}

#[test]
fn a_listener_that_others_can_reach_needs_a_token_and_stdin_is_read_once() {
    let http = |keys: &str| parse("a.toml", &format!("[[source]]\nkind = \"http\"\n{keys}"), &[]);
    let config = http("listen = \"127.0.0.1:8091\"\nanswer = \"accepted\"\n").unwrap();
    let SourceKind::Http(door) = &config.sources[0].kind else { panic!() };
    assert_eq!((door.listen.as_str(), door.answered), ("127.0.0.1:8091", Answered::Accepted));
    assert!(door.token.is_none() && door.certificate.is_none());
    let error = http("listen = \"0.0.0.0:8091\"\n").unwrap_err();
    assert!(error.problems[0].starts_with("a.toml:1: source.token: needed, as "), "{error}");
    assert!(http("listen = \"0.0.0.0:8091\"\ntoken = \"secret\"\n").is_ok());
    assert!(http("listen = \"here\"\n").unwrap_err().problems[0].starts_with("a.toml:1: source.listen: "));
    let error =
        parse("a.toml", "[[source]]\nkind = \"stdin\"\n[[source]]\nkind = \"stdin\"\n", &[]).unwrap_err();
    assert_eq!(
        error.problems,
        ["a.toml:3: source.kind: \"stdin\" is there twice; allowed is one source of it"]
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let error = parse("a.toml", "[spool]\nquota_mb = \n", &[]).unwrap_err();
    assert!(error.problems.iter().all(|problem| problem.starts_with("a.toml:2: ")), "{error}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let env = variables(&[("TIDELINE_AGENT_SPOOL_QUOTA_MB", "7"), ("TIDELINE_AGENT_DATA_DIR", "/data")]);
    let config = parse("a.toml", "[spool]\nquota_mb = 9\n", &env).unwrap();
    assert_eq!(config.quota_bytes, 7 * 1024 * 1024);
    assert_eq!(config.data_dir, PathBuf::from("/data"));
    assert_eq!(config.sources.len(), 1);
}

#[test]
fn several_hub_addresses_come_as_list_or_with_commas_and_from_one_place() {
    let hubs = |text: &str, env: &[(&str, &str)]| {
        parse("a.toml", text, &variables(env)).map(|config| config.hubs).map_err(|error| error.to_string())
    };
    let wanted = Ok(vec!["a:1".to_owned(), "b:2".to_owned()]);
    assert_eq!(hubs("[uplink]\nhub = \"a:1, b:2\"\n", &[]), wanted);
    assert_eq!(hubs("[uplink]\nhubs = [\"a:1\", \"b:2\"]\n", &[]), wanted);
    assert_eq!(hubs("", &[("TIDELINE_AGENT_UPLINK_HUBS", "a:1,b:2")]), wanted);
    assert_eq!(hubs("", &[]), Ok(vec![]));
    for (text, what) in [
        ("[uplink]\nhub = \"a:1\"\nhubs = [\"b:2\"]\n", "both given; allowed is one of them"),
        ("[uplink]\nhub = \"a:1,a:1\"\n", "uplink.hub: \"a:1\" stands there twice"),
        ("[uplink]\nhub = \"1,2,3,4,5,6,7,8,9\"\n", "uplink.hub: 9 addresses; allowed are 8"),
    ] {
        let error = hubs(text, &[]).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn the_address_of_the_local_page_is_one() {
    let parsed = |listen: &str| parse("a.toml", &format!("[http]\nlisten = {listen:?}\n"), &[]);
    for listen in ["", "127.0.0.1:0", "[::1]:8090", "localhost:8090"] {
        assert!(parsed(listen).is_ok(), "{listen}");
    }
    for listen in ["bad", ":80", "a:b", "a:99999"] {
        let error = parsed(listen).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("a.toml: http.listen: {listen:?} is none; allowed is")),
            "{error}"
        );
    }
}

#[test]
fn variables_of_a_hub_on_the_same_machine_mean_nothing_to_the_agent() {
    let env = variables(&[("TIDELINE_HTTP_LISTEN", "127.0.0.1:8080"), ("TIDELINE_HUB_DATA_DIR", "/hub")]);
    assert_eq!(parse("a.toml", "", &env), parse("a.toml", "", &[]));
    let env = variables(&[("TIDELINE_AGENT_HTTP_LISTEN", "127.0.0.1:9")]);
    assert_eq!(parse("a.toml", "", &env).unwrap().listen.as_deref(), Some("127.0.0.1:9"));
}

#[test]
fn the_reference_is_a_valid_configuration_and_names_each_variable() {
    let reference = reference();
    assert!(parse("reference", &reference, &[]).is_ok());
    for key in KEYS {
        assert!(key.variable().is_none_or(|name| reference.contains(&name)), "{}", key.name);
    }
}

#[test]
fn old_readings_may_be_given_a_budget() {
    let text = "[uplink]\nbackfill_kib_s = 64\nbackfill_percent = 30\n";
    let budget = BackfillBudget { bytes_per_s: 65_536, share_percent: 30 };
    assert_eq!(parse("a.toml", text, &[]).unwrap().backfill, budget);
    assert_eq!(parse("a.toml", "", &[]).unwrap().backfill, BackfillBudget::default());
    let error = parse("a.toml", "[uplink]\nbackfill_percent = 0\n", &[]).unwrap_err();
    assert!(error.problems[0].starts_with("a.toml:2: uplink.backfill_percent: "), "{error}");
}

#[test]
fn every_congestion_control_of_the_link_can_be_chosen_by_its_name() {
    for (name, congestion) in Congestion::NAMES {
        let config = parse("a.toml", &format!("[uplink]\ncongestion = {name:?}\n"), &[]).unwrap();
        assert_eq!(config.congestion, congestion);
    }
    assert_eq!(parse("a.toml", "", &[]).unwrap().congestion, Congestion::default());
    let error = parse("a.toml", "[uplink]\ncongestion = \"vegas\"\n", &[]).unwrap_err();
    assert_eq!(error.problems, ["a.toml:2: uplink.congestion: must be one of bbr, cubic, newreno"]);
}

#[test]
fn keys_that_mean_nothing_to_a_kind_are_told_with_those_that_do() {
    let text =
        "[[source]]\nkind = \"coap\"\nname = \"c\"\nbaud = 9600\n[[source]]\nkind = \"host\"\nurl = \"x\"\n";
    let error = parse("a.toml", text, &[]).unwrap_err();
    let wanted = [
        "a.toml:1: source.baud: means nothing to kind \"coap\"; allowed there are kind, name, stream, patience_s",
        "a.toml:5: source.url: means nothing to kind \"host\"; allowed there are kind, name, stream, patience_s, interval_ms",
    ];
    assert_eq!(error.problems, wanted);
}

#[test]
fn what_may_have_been_meant_is_told_and_a_wrong_source_makes_no_device_wrong() {
    let text = "[sourc]\n[[source]]\nkind = \"mqtt\"\nname = \"hall\"\nurl = \"http://x\"\n\
        [[device]]\nid = \"a\"\nsource = \"hall\"\nprofile = \"tasmota-plug\"\naddress = \"a\"\n\
        [[device]]\nid = \"b\"\nsource = \"hall\"\nprofil = \"x\"\n\
        [[device]]\nid = \"c\"\nsource = \"hal\"\nprofile = \"tasmota-plag\"\n";
    let error = parse("a.toml", text, &[]).unwrap_err().problems;
    let wanted = [
        "a.toml:1: sourc: unknown section; did you mean source? Allowed are agent, spool, ",
        "a.toml:14: device.profil: unknown key; did you mean profile? Allowed are id, source, ",
        "a.toml:2: source.url: ",
        "a.toml:15: device.profile: there is no profile \"tasmota-plag\"; did you mean tasmota-plug? shipped are ",
    ];
    assert_eq!(error.len(), wanted.len(), "{error:?}");
    for part in wanted {
        assert!(error.iter().any(|problem| problem.starts_with(part)), "{part} is not in {error:?}");
    }
}
