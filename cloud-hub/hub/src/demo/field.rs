//! The demo's field devices: a simulated energy meter on Modbus TCP and a plug at a broker, each a process that speaks its
//! real protocol, and the sources by which an agent reads them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::children::{self, Running, Start, UNTIL_STDIN_ENDS};

/// The meter and the plug as the fleet shows them.
pub const METER: &str = "demo-meter";
pub const PLUG: &str = "demo-plug";
const METER_PROFILE: &str = "eastron-sdm630";
const PLUG_PROFILE: &str = "shelly-plus-plug";
/// What the plug is called in its topics, as the maker names such plugs.
const PLUG_NAME: &str = "shellyplusplugs-d0d0d0d0d0d0";
/// Between two steps of what they measure.
const INTERVAL_MS: &str = "1000";

/// The field devices, and what an agent needs to read them.
pub struct Field {
    /// Their processes, and the broker's.
    pub running: Vec<Running>,
    /// Sources and devices, as they stand in an agent's configuration.
    pub config: String,
    /// Why something is left out.
    pub missing: Option<String>,
}

/// Starts them; without a broker the plug is left out.
///
/// # Errors
/// A process cannot be started.
pub fn start(agent_program: &Path, folder: &Path, free_port: impl Fn() -> Result<u16>) -> Result<Field> {
    let device = |name: &str, profile: &str, more: &[&str]| {
        let args = ["profile", "simulate", profile, UNTIL_STDIN_ENDS, "--interval-ms", INTERVAL_MS];
        let args = args.iter().chain(more).map(|arg| (*arg).to_owned()).collect();
        let log = folder.join(format!("{name}.log"));
        children::start(Start {
            name: name.to_owned(),
            program: agent_program.to_owned(),
            args,
            env: Vec::new(),
            log,
        })
    };
    let meter = format!("127.0.0.1:{}", free_port()?);
    let mut running = vec![device(METER, METER_PROFILE, &["--listen", &meter])?];
    let mut config = format!(
        "\n[[source]]\nkind = \"modbus-tcp\"\nname = \"meters\"\naddress = \"{meter}\"\n\n\
         [[device]]\nid = \"{METER}\"\nsource = \"meters\"\nprofile = \"{METER_PROFILE}\"\n"
    );
    let Some(mosquitto) = program("mosquitto") else {
        let missing = format!(
            "{PLUG} is left out: it needs a broker, and mosquitto is not installed (sudo apt-get install mosquitto)"
        );
        return Ok(Field { running, config, missing: Some(missing) });
    };
    let port = free_port()?;
    running.push(broker(mosquitto, folder, port)?);
    let broker = format!("127.0.0.1:{port}");
    running.push(device(PLUG, PLUG_PROFILE, &["--broker", &broker, "--device", PLUG_NAME])?);
    config.push_str(&format!(
        "\n[[source]]\nkind = \"mqtt\"\nname = \"plugs\"\nurl = \"mqtt://{broker}\"\n\n\
         [[device]]\nid = \"{PLUG}\"\nsource = \"plugs\"\nprofile = \"{PLUG_PROFILE}\"\naddress = \"{PLUG_NAME}\"\n"
    ));
    Ok(Field { running, config, missing: None })
}

/// A broker without any memory, on loopback alone.
fn broker(mosquitto: PathBuf, folder: &Path, port: u16) -> Result<Running> {
    let file = folder.join("mosquitto.conf");
    // As root it would become another user, and with that forget that it is to end with the demo.
    let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n");
    fs::write(&file, text)?;
    let own = ["-c".to_owned(), file.display().to_string()];
    // It does not end with its stdin; where the system can, it is killed with the demo all the same.
    let (program, args) = match program("setpriv") {
        Some(setpriv) => {
            let first = ["--pdeathsig", "TERM", "--"].map(str::to_owned);
            (setpriv, first.into_iter().chain([mosquitto.display().to_string()]).chain(own).collect())
        }
        None => (mosquitto, own.to_vec()),
    };
    let log = folder.join("mosquitto.log");
    children::start(Start { name: "the broker".to_owned(), program, args, env: Vec::new(), log })
}

/// Where a program is.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has the broker where only root looks.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}
