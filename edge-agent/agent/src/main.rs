//! The command line of the agent.

mod shown;

use std::fs::OpenOptions;
use std::io::IsTerminal as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use edge_agent::clock::AgentClock;
use edge_agent::commands::cli::{self, CommandCommand};
use edge_agent::commands::limited::{self, Limited};
use edge_agent::config::{self, Layers};
use edge_agent::export::{self, Selection};
use edge_agent::logs::Recent;
use edge_agent::pipeline::{self, PipelineCommand};
use edge_agent::profile::{self, ProfileCommand};
use edge_agent::twin::command::{self as twin, TwinCommand};
use edge_agent::{enroll, run, serve, store, write};
use tideline_formats::when::parse_time;
use tideline_link::{console, errln, out, outln};
use tideline_protocol::time::{Clock as _, NS_PER_MS};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[derive(Parser)]
#[command(
    name = "edge-agent",
    version,
    about = "Reads sensors, keeps every reading, sends it to a Tideline hub."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Folder of identity, spool and socket [default: ./tideline-agent; environment:
    /// TIDELINE_AGENT_DATA_DIR]
    #[arg(long, global = true)]
    data: Option<PathBuf>,
    /// Configuration file
    #[arg(long, global = true)]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol with the hub that the token names
    Enroll {
        /// As `cloud-hub enroll-token create` shows it
        token: String,
    },
    /// Run the agent
    Run {
        /// host:port of the hub's QUIC port, or several with commas, in place of the enrolled one
        #[arg(long)]
        hub: Option<String>,
        /// Stop when stdin ends
        #[arg(long, hide = true)]
        until_stdin_ends: bool,
    },
    /// Show the state of the running agent
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the running agent bring everything that is pending to the hub now, and wait for it
    Sync {
        /// Longest wait
        #[arg(long, default_value = "30s", value_parser = timeout)]
        timeout: Duration,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a value to a point of a device, through the running agent: within the range and the interlocks of its
    /// profile
    Write {
        /// The device's id
        device: String,
        /// The point's id
        point: String,
        /// true, false, a number or a text; a text that looks like another of these stands in double quotes
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Longest wait [default: as long as the profile says of the command, or 10s]
        #[arg(long, value_parser = timeout)]
        timeout: Option<Duration>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at twins of the agent's devices or change them, with or without a hub
    Twin {
        #[command(subcommand)]
        command: TwinCommand,
    },
    /// Look at commands of the hub
    #[command(name = "command")]
    Order {
        #[command(subcommand)]
        command: CommandCommand,
    },
    /// Become another program, within limits
    #[command(hide = true)]
    Limited(Limited),
    /// Look at the spool, repair it, or compare it with the hub
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Test profiles of device families, and simulate devices by them
    Profile {
        #[command(subcommand)]
        command: ProfileCommand,
    },
    /// Try pipelines out, or look at those of the running agent
    Pipeline {
        #[command(subcommand)]
        command: PipelineCommand,
    },
    /// Show or check the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Subcommand)]
enum StoreCommand {
    /// Show its figures
    Inspect {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read and check everything
    Verify {
        /// Have the running agent compare what it holds with what the hub holds, by digests
        #[arg(long)]
        against_hub: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put the file in order: what cannot be read becomes a gap, or the file is put aside
    Repair {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write held readings to stdout or a file, also beside a running agent
    Export {
        /// As JSON lines in place of CSV
        #[arg(long)]
        json: bool,
        /// Only of this series, as device/point; may be given several times
        #[arg(long)]
        series: Vec<String>,
        /// Not earlier than this: RFC 3339, Unix milliseconds, or relative as -6h
        #[arg(long, value_parser = time_ns, allow_hyphen_values = true)]
        from: Option<i64>,
        /// Earlier than this: RFC 3339, Unix milliseconds, or relative as -6h
        #[arg(long, value_parser = time_ns, allow_hyphen_values = true)]
        to: Option<i64>,
        /// A new file to write, which its owner alone can read
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Show every option with its default and meaning
    Print {
        /// Show what is in force instead, and where each value comes from: default, file, environment, hub or flag
        #[arg(long)]
        effective: bool,
        /// As JSON, with --effective
        #[arg(long, requires = "effective")]
        json: bool,
    },
    /// Check the configuration file and the environment
    Check,
    /// Print the JSON Schema of what a hub may set
    Schema,
}

fn layers(args: &Args) -> Layers {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let env = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let hub = if let Command::Run { hub, .. } = &args.command { hub.clone() } else { None };
    Layers { file: args.config.clone(), env, data_dir: args.data.clone(), hub, needs_text: false }
}

/// As "30s", "2m" or a number of seconds.
fn timeout(text: &str) -> Result<Duration, String> {
    let allowed = || format!("{text:?} is no time; allowed is for example 30s, 2m or 45 (seconds)");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| allowed())?;
    Duration::try_from(span).map_err(|_| allowed())
}

/// A time as the hub reads it too.
fn time_ns(text: &str) -> Result<i64, String> {
    parse_time(text, AgentClock::default().wall_ns()).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    // `level` or `target=level` with commas. A filter with patterns would add half a megabyte of
    // regular expressions to a binary that is to stay small.
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    // What comes of each step of an OPC UA connection is told again by its source, with what can be done about it.
    let quiet = ["opcua_client", "opcua_core", "opcua_crypto", "opcua_server", "opcua_types"];
    let quiet = quiet.map(|crate_name| (crate_name, tracing_subscriber::filter::LevelFilter::OFF));
    let usual = || Targets::new().with_default(tracing::Level::INFO).with_targets(quiet);
    let filter = wanted.unwrap_or_else(usual);
    // What cannot be written to stderr is gone: telling that on stderr would panic, and an agent
    // must outlive the terminal that it was started from. A log file holds no colours.
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    // What a command of the hub asks for.
    let recent = Recent::default();
    let kept = tracing_subscriber::fmt::layer().with_writer(recent.clone()).with_ansi(false);
    tracing_subscriber::registry().with(log).with(kept).with(filter).init();
    match carry_out(Args::parse(), recent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("edge-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(args: Args, recent: Recent) -> anyhow::Result<()> {
    // Without threads, whose stacks would be counted.
    if let Command::Limited(limited) = &args.command {
        return limited::become_it(limited);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command(args, recent));
    // A source may hang in a read of the machine; it must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn command(args: Args, recent: Recent) -> anyhow::Result<()> {
    if let Command::Profile { command } = args.command {
        // It is of no agent, so that no configuration has to be right.
        return profile::carry_out(command).await;
    }
    let layers = layers(&args);
    // A file with pipelines need not be the configuration of an agent that could run.
    if let Command::Pipeline { command } = args.command {
        return pipeline::carry_out(command, args.config, || Ok(layers.load()?.data_dir)).await;
    }
    let data = layers.load()?.data_dir;
    match args.command {
        Command::Enroll { token } => enroll_command(&token, &data).await?,
        Command::Run { until_stdin_ends, .. } => run::run(layers, until_stdin_ends, recent).await?,
        Command::Status { json } => shown::command(&data, json).await?,
        Command::Twin { command } => twin::carry_out(command, &data, &mut console::Stdout).await?,
        Command::Sync { timeout, json } => {
            let report = serve::ask_sync(&data, timeout).await?;
            if json {
                outln!("{}", serde_json::to_string(&report)?)
            } else {
                outln!("{report}")
            }
            anyhow::ensure!(
                report.reached,
                "not everything that was pending is at the hub after {timeout:?}"
            );
        }
        Command::Write { device, point, value, timeout, json } => {
            let written = write::ask(&data, &device, &point, write::value(&value), timeout).await?;
            if json {
                outln!("{}", serde_json::to_string(&written)?)
            } else if written.why.is_none() {
                outln!("{device}/{point} is written")
            }
            let why = written.why.as_deref().unwrap_or_default();
            anyhow::ensure!(written.outcome == "done", "{device}/{point}: {why}");
        }
        Command::Order { command } => cli::carry_out(&command, &data).await?,
        Command::Store { command: StoreCommand::Verify { against_hub: true, json } } => {
            let report = serve::ask_agreement(&data).await?;
            if json {
                outln!("{}", serde_json::to_string(&report)?)
            } else {
                outln!("{report}")
            }
            anyhow::ensure!(report.ok, "agent and hub do not hold the same");
        }
        Command::Store { command: StoreCommand::Export { json, series, from, to, out } } => {
            let selection = Selection { json, series, from_ns: from, to_ns: to };
            export_command(&data, &selection, out.as_deref()).await?;
        }
        Command::Store { command } => store_command(&command, &data)?,
        // These were carried out before the configuration was looked at.
        Command::Profile { .. } | Command::Pipeline { .. } | Command::Limited(_) => {}
        Command::Config { command: ConfigCommand::Print { effective: false, .. } } => {
            out!("{}", config::reference());
        }
        Command::Config { command: ConfigCommand::Print { json, .. } } => {
            print_effective(&layers, &data, json)?
        }
        Command::Config { command: ConfigCommand::Schema } => outln!("{:#}", config::schema::layer()),
        Command::Config { command: ConfigCommand::Check } => {
            let now_ms = edge_agent::clock::AgentClock::default().wall_ns() / NS_PER_MS;
            layers.load()?.jobs.over(now_ms).iter().for_each(|what| outln!("warning: {what}"));
            outln!("the configuration is valid");
        }
    }
    Ok(())
}

async fn enroll_command(token: &str, data: &Path) -> anyhow::Result<()> {
    let identity = enroll::enroll(token, data).await?;
    outln!("enrolled as {}; start with: edge-agent run --data {}", identity.file.agent, data.display());
    Ok(())
}

/// Shows what is in force and where it comes from.
fn print_effective(layers: &Layers, data: &Path, json: bool) -> anyhow::Result<()> {
    let layer = edge_agent::trial::driver::in_force(data);
    layers.load_under(Some(&layer))?;
    let all = layers.effective(&layer)?;
    if json {
        outln!("{}", serde_json::to_string(&all)?);
        return Ok(());
    }
    for one in all {
        outln!("{}.{} = {}  # {}", one.section, one.name, one.value, one.source);
    }
    Ok(())
}

/// Exports what the running agent holds, or what stands in the files when none runs.
async fn export_command(data: &Path, selection: &Selection, out: Option<&Path>) -> anyhow::Result<()> {
    hide_panics();
    let missing = match out {
        Some(path) => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let file = file.with_context(|| path.display().to_string())?;
            let missing = export_to(data, selection, &mut std::io::BufWriter::new(&file)).await?;
            file.sync_all()?;
            missing
        }
        None => export_to(data, selection, &mut std::io::BufWriter::new(console::Stdout)).await?,
    };
    anyhow::ensure!(missing == 0, "{missing} batches cannot be read and are not in the export");
    Ok(())
}

async fn export_to(data: &Path, selection: &Selection, out: &mut impl std::io::Write) -> anyhow::Result<u64> {
    match export::ask(data, selection, out).await? {
        Some(missing) => Ok(missing),
        None => store::export(data, selection, out),
    }
}

/// redb panics on some damaged files, which is then told as such; its message helps nobody.
fn hide_panics() {
    std::panic::set_hook(Box::new(|info| tracing::debug!(%info, "panic")));
}

fn store_command(command: &StoreCommand, data: &Path) -> anyhow::Result<()> {
    hide_panics();
    let (found, json) = match command {
        StoreCommand::Inspect { json } => (store::inspect(data)?, json),
        StoreCommand::Verify { json, .. } => (store::verify(data)?, json),
        StoreCommand::Repair { json } => (store::repair(data)?, json),
        StoreCommand::Export { .. } => return Ok(()),
    };
    if *json {
        outln!("{found}")
    } else {
        out!("{}", store::text(&found))
    }
    anyhow::ensure!(found.get("ok") != Some(&serde_json::Value::Bool(false)), "the spool has problems");
    Ok(())
}
