//! The command line of the agent.
#![allow(clippy::print_stdout, reason = "a command line speaks on stdout")]

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use edge_agent::config::{self, Config};
use edge_agent::{enroll, run, serve, store};

#[derive(Parser)]
#[command(
    name = "edge-agent",
    version,
    about = "Reads sensors, keeps every reading, sends it to a Tideline hub."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Folder of identity, spool and socket [default: ./tideline-agent; environment: TIDELINE_DATA]
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
        /// host:port of the hub's QUIC port, in place of the enrolled one
        #[arg(long)]
        hub: Option<String>,
    },
    /// Show the state of the running agent
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at the spool while no agent runs
    Store {
        #[command(subcommand)]
        command: StoreCommand,
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
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write every held reading to stdout
    Export {
        /// As JSON lines in place of CSV
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Show every option with its default and meaning
    Print,
    /// Check the configuration file and the environment
    Check,
}

fn load(args: &Args) -> anyhow::Result<Config> {
    let (name, text) = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            (path.display().to_string(), text)
        }
        None => ("defaults".to_owned(), String::new()),
    };
    let mut config = config::parse(&name, &text, |variable| std::env::var(variable).ok())?;
    if let Some(data) = &args.data {
        config.data_dir.clone_from(data);
    }
    Ok(config)
}

fn main() -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(command(args));
    // A source may hang in a read of the machine; it must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

async fn command(args: Args) -> anyhow::Result<()> {
    let mut config = load(&args)?;
    let data = config.data_dir.clone();
    match args.command {
        Command::Enroll { token } => {
            let identity = enroll::enroll(&token, &data).await?;
            println!(
                "enrolled as {}; start with: edge-agent run --data {}",
                identity.file.agent,
                data.display()
            );
        }
        Command::Run { hub } => {
            config.hub = hub.or(config.hub);
            run::run(config).await?;
        }
        Command::Status { json } => {
            let status = serve::ask_status(&data).await?;
            if json { println!("{}", serde_json::to_string(&status)?) } else { print_status(&status) }
        }
        Command::Store { command } => store_command(&command, &data)?,
        Command::Config { command: ConfigCommand::Print } => print!("{}", config::reference()),
        Command::Config { command: ConfigCommand::Check } => println!("the configuration is valid"),
    }
    Ok(())
}

fn store_command(command: &StoreCommand, data: &Path) -> anyhow::Result<()> {
    let (found, json) = match command {
        StoreCommand::Inspect { json } => (store::inspect(data)?, json),
        StoreCommand::Verify { json } => (store::verify(data)?, json),
        StoreCommand::Export { json } => {
            return store::export(data, *json, &mut std::io::BufWriter::new(std::io::stdout().lock()));
        }
    };
    if *json {
        println!("{found}")
    } else {
        println!("{found:#}")
    }
    anyhow::ensure!(found.get("ok") != Some(&serde_json::Value::Bool(false)), "the spool has problems");
    Ok(())
}

fn print_status(status: &edge_agent::status::Status) {
    let a = &status.account;
    let state = if status.connected { "connected" } else { "not connected" };
    println!("agent    {} ({state} to {}, breaker {})", status.agent, status.hub, status.breaker.state);
    println!("epoch    {} at seq {}", status.epoch, status.head);
    println!(
        "rows     {} produced = {} stored + {} pending + {} dropped + {} refused",
        a.produced, a.stored, a.pending, a.dropped, a.refused
    );
    println!("spool    {} of {} bytes", status.spool.bytes, status.spool.quota_bytes);
    for source in status.sources.values() {
        let error = source.last_error.as_deref().unwrap_or("");
        println!(
            "source   {}: {} accepted, {} rejected {error}",
            source.name, source.accepted, source.rejected
        );
    }
    if let Some(error) = &status.last_error {
        println!("error    {error}");
    }
}
