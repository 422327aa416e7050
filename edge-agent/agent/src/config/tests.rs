//! What a configuration may say, and how it is told when it may not.

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
        "a.toml:8: source.kind: must be one of host, replay",
        "environment TIDELINE_AGENT_BATCH_ROWS_MAX: must be a whole number from 1 to 500000",
        "environment TIDELINE_AGENT_HTTP_LISTE: unknown variable; allowed are TIDELINE_AGENT_DATA_DIR",
    ] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
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
fn every_congestion_control_of_the_link_can_be_chosen_by_its_name() {
    for (name, congestion) in Congestion::NAMES {
        let config = parse("a.toml", &format!("[uplink]\ncongestion = {name:?}\n"), &[]).unwrap();
        assert_eq!(config.congestion, congestion);
    }
    assert_eq!(parse("a.toml", "", &[]).unwrap().congestion, Congestion::default());
    let error = parse("a.toml", "[uplink]\ncongestion = \"vegas\"\n", &[]).unwrap_err();
    assert_eq!(error.problems, ["a.toml:2: uplink.congestion: must be one of bbr, cubic, newreno"]);
}
