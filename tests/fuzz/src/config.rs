//! The configurations of agent and hub: any text is taken, or refused with places and reasons.

use crate::input::Input;

#[cfg(any(feature = "agent", feature = "hub"))]
/// Longest text of all reasons together, by input and in bytes: each names what is allowed.
const REASONS_BYTES_MAX: usize = 1 << 20;

pub fn seeds() -> Vec<Vec<u8>> {
    let sources = "[http]\nlisten = \"\"\n[[source]]\nkind = \"replay\"\nname = \"rows\"\npath = \"a.csv\"\nrate = 600\ncolumns = [\"a\", \"b\"]\ntypes = [\"a=bool\", \"b=text\"]\nquality = \"ok\"\n[[source]]\nkind = \"host\"\n";
    let texts = ["", sources, "[spool]\nquota_mb = 9\n"];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| [b"\0", text.as_bytes()].concat()).collect();
    all.push(
        b"\x02TIDELINE_AGENT_SPOOL_QUOTA_MB=7\nTIDELINE_HTTP_LISTEN=1\n[spool]\nquota_mb = 9\n".to_vec(),
    );
    all.push(
        b"\x03TIDELINE_STORE_HOT_ROWS_MAX=10000\nTIDELINE_HUB_NAMES=a,b\n[hub]\nnames = [\"x\"]\n".to_vec(),
    );
    all.extend(agent_seed());
    all.extend(hub_seed());
    all
}

/// The first byte: bit 0 is agent or hub, the others how many lines are of the environment.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let text = String::from_utf8_lossy(input.rest());
    let mut rest: &str = &text;
    let mut env = Vec::new();
    for _ in 0..mode >> 1 & 3 {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        env.push((name.to_owned(), value.to_owned()));
    }
    if mode & 1 == 0 { agent(rest, &env) } else { hub(rest, &env) }
}

#[cfg(feature = "agent")]
fn agent_seed() -> Option<Vec<u8>> {
    Some([b"\0", edge_agent::config::reference().as_bytes()].concat())
}

#[cfg(not(feature = "agent"))]
fn agent_seed() -> Option<Vec<u8>> {
    None
}

#[cfg(not(feature = "agent"))]
fn agent(_: &str, _: &[(String, String)]) {}

#[cfg(feature = "agent")]
fn agent(text: &str, env: &[(String, String)]) {
    match edge_agent::config::parse("a.toml", text, env) {
        Ok(config) => {
            assert!(config.quota_bytes > 0 && config.rows_max > 0 && config.flush_interval_ms > 0);
            let mut names: Vec<_> = config.sources.iter().map(|source| &source.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), config.sources.len(), "two sources of one name share a position");
        }
        Err(error) => told(&error.problems),
    }
}

#[cfg(any(feature = "agent", feature = "hub"))]
/// Each problem has a place, and there is one at least.
fn told(problems: &[String]) {
    assert!(!problems.is_empty(), "refused without a reason");
    assert!(problems.iter().map(String::len).sum::<usize>() < REASONS_BYTES_MAX);
    for problem in problems {
        let placed = problem.starts_with("a.toml") || problem.starts_with("environment ");
        assert!(placed && problem.contains(": "), "{problem:?} has no place");
    }
}

#[cfg(feature = "hub")]
fn hub_seed() -> Option<Vec<u8>> {
    let text = cloud_hub::config::render(&cloud_hub::config::Config::default());
    Some([b"\x01", text.as_bytes()].concat())
}

#[cfg(not(feature = "hub"))]
fn hub_seed() -> Option<Vec<u8>> {
    None
}

#[cfg(feature = "hub")]
fn hub(text: &str, env: &[(String, String)]) {
    use cloud_hub::config::{Layers, load, render};

    let folder = crate::spool::scratch().expect("a folder");
    let file = folder.path().join("a.toml");
    let load = |text: &str, env: &[(String, String)]| {
        std::fs::write(&file, text).expect("a file");
        load(&Layers { file: Some(file.clone()), env: env.to_vec(), flags: Vec::new() })
    };
    match load(text, env) {
        // What is printed of a configuration is the same configuration.
        Ok(config) => assert_eq!(load(&render(&config), &[]).as_ref(), Ok(&config)),
        Err(errors) => {
            let named = file.display().to_string();
            let line = |place: &str, text: &str| format!("{}: {text}", place.replace(&named, "a.toml"));
            told(&errors.0.iter().map(|fault| line(&fault.place, &fault.text)).collect::<Vec<_>>());
        }
    }
}

#[cfg(not(feature = "hub"))]
fn hub(_: &str, _: &[(String, String)]) {}
