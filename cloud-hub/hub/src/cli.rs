//! The command line: what there is, and which part of the hub does it.

mod backup;
mod beside;
mod commands;
mod dead;
mod devices;
mod export;
mod files;
mod import;
mod jobs;
mod profiles;
mod progress;
mod query;
mod show;
mod sites;
mod socket;
mod table;
mod templates;
mod twin;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tideline_link::{out, outln};
use tideline_sql::worker::Caps;

use cloud_hub::config::{self, Config, Layers};
use cloud_hub::metadata::Role;
use cloud_hub::when::parse_span;

pub use socket::HubSocket;

/// The Tideline hub.
#[derive(Debug, Parser)]
#[command(name = "cloud-hub", version)]
pub struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// What this process does, when it is one that does what it is told over stdin and nothing else.
    pub fn worker(&self) -> Option<Worker> {
        match &self.command {
            Command::SqlWorker { memory_bytes, cpu_s } => {
                Some(Worker::Sql(Caps { memory_bytes: *memory_bytes, cpu_s: *cpu_s }))
            }
            Command::ParquetWorker { memory_bytes, cpu_s, columns } => {
                let caps = Caps { memory_bytes: *memory_bytes, cpu_s: *cpu_s };
                Some(Worker::Parquet(caps, columns.clone()))
            }
            _ => None,
        }
    }
}

/// A process with limits of its own.
#[derive(Debug)]
pub enum Worker {
    /// It runs a statement.
    Sql(Caps),
    /// It reads these columns of a Parquet file.
    Parquet(Caps, Vec<usize>),
}

impl Worker {
    /// Does it.
    pub fn run(&self) -> std::io::Result<()> {
        match self {
            Self::Sql(caps) => tideline_sql::worker::run(*caps),
            Self::Parquet(caps, columns) => tideline_sql::parquet::run(*caps, columns),
        }
    }
}

/// Where the configuration and the data are.
#[derive(Debug, Clone, Args)]
pub struct Place {
    /// The configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder; stronger than the file's hub.data_dir.
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Place {
    /// Reads all layers of the configuration.
    pub fn load(&self) -> Result<Config> {
        let flags = self.data.iter().map(|d| ("hub.data_dir", d.display().to_string())).collect();
        Ok(config::load(&Layers { file: self.config.clone(), env: std::env::vars().collect(), flags })?)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the hub.
    Serve {
        /// Stop when stdin ends.
        #[arg(long, hide = true)]
        until_stdin_ends: bool,
    },
    /// Run a hub and agents on this machine, cut one off, and account for every reading.
    Demo(DemoArgs),
    /// Enrolment tokens.
    #[command(subcommand)]
    EnrollToken(EnrollTokenCommand),
    /// Tokens for devices without a certificate, over MQTT.
    #[command(subcommand)]
    DeviceToken(DeviceTokenCommand),
    /// Devices.
    #[command(subcommand)]
    Device(devices::DeviceCommand),
    /// People.
    #[command(subcommand)]
    User(UserCommand),
    /// Tokens for programs.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Read series, or ask in SQL.
    Query(QueryArgs),
    /// Write readings to a Parquet, Arrow or CSV file, for DuckDB, pandas and the like.
    Export(export::ExportArgs),
    /// Store the readings of Parquet or CSV files, each file once.
    Import(import::ImportArgs),
    /// The store.
    #[command(subcommand)]
    Store(StoreCommand),
    /// What agents sent that cannot be decoded.
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// Commands for devices.
    #[command(subcommand, name = "command")]
    Order(commands::DeviceCommands),
    /// Stream jobs: windows over readings as they come.
    #[command(subcommand)]
    Job(jobs::JobCommand),
    /// What all agents of a group or at a site are to have, where nobody wants something else of one.
    #[command(subcommand)]
    ConfigTemplate(templates::TemplateCommand),
    /// Profiles of device families: what the hub knows of points, commands and boards.
    #[command(subcommand)]
    Profile(profiles::ProfileCommand),
    /// Sites, and their time zones.
    #[command(subcommand)]
    Site(sites::SiteCommand),
    /// Twins: what is wanted of devices, and what they report.
    #[command(subcommand)]
    Twin(twin::TwinCommand),
    /// Make a backup, beside a running hub or without one.
    Backup {
        /// A folder that is there, to make one in that is named by the time; or the name of a new one.
        #[arg(long, value_name = "DIR", default_value = ".")]
        to: PathBuf,
    },
    /// Restore a backup into the data folder, without a running hub.
    Restore {
        /// The backup's folder.
        #[arg(value_name = "FROM")]
        from: PathBuf,
        /// Move aside what the data folder holds.
        #[arg(long)]
        force: bool,
    },
    /// The configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run one statement of SQL that comes over stdin; the hub starts it.
    #[command(hide = true)]
    SqlWorker {
        #[arg(long)]
        memory_bytes: u64,
        #[arg(long)]
        cpu_s: u64,
    },
    /// Read the Parquet file on stdin; an import starts it.
    #[command(hide = true)]
    ParquetWorker {
        #[arg(long)]
        memory_bytes: u64,
        #[arg(long)]
        cpu_s: u64,
        #[arg(long, value_delimiter = ',')]
        columns: Vec<usize>,
    },
}

/// How the demo runs.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many agents; the odd ones measure this machine, the even ones replay a recording, and the second (or the only one)
    /// reads simulated field devices too.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub agents: u8,
    /// End after this long, as 60s; until Ctrl-C when left out.
    #[arg(long = "for", value_parser = parse_span)]
    pub duration: Option<Duration>,
    /// How long demo-1 is cut off; 0s for not at all. 20s when left out, or a third of --for when that
    /// is less.
    #[arg(long, value_parser = parse_span)]
    pub outage: Option<Duration>,
    /// Only the final ledger as JSON on stdout.
    #[arg(long)]
    pub json: bool,
    /// The recording (CSV) to replay instead of the built-in one.
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// The dashboard's port; a free one when it is taken.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
}

#[derive(Debug, Subcommand)]
pub enum EnrollTokenCommand {
    /// Make a token that lets one key enrol one device.
    Create {
        /// The device's id.
        #[arg(long, value_name = "ID")]
        device: String,
        /// How long it can be used.
        #[arg(long, default_value = "24h", value_parser = parse_span)]
        ttl: Duration,
    },
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user; the password is generated and printed unless it comes on stdin.
    Create {
        /// The name.
        name: String,
        /// What they may do.
        #[arg(long, value_enum, default_value_t = Role::Admin)]
        role: Role,
        /// Read the password from the first line of stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// All users.
    List,
    /// Remove a user and end their sessions.
    Revoke {
        /// The name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is printed this once.
    Create {
        /// What it is for.
        name: String,
        /// What it may do.
        #[arg(long, value_enum, default_value_t = Role::Viewer)]
        role: Role,
        /// Write readings of this device and do nothing else: an id, or the beginning of one and '*'. May be
        /// given several times.
        #[arg(long, value_name = "DEVICE", conflicts_with = "role")]
        write: Vec<String>,
        /// With --write: only devices that are registered; otherwise one is with its first reading.
        #[arg(long, requires = "write")]
        registered_only: bool,
    },
    /// All tokens.
    List,
    /// Remove a token.
    Revoke {
        /// The token's id.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum DeviceTokenCommand {
    /// Make a token, the device's password over MQTT; it is printed this once.
    Create {
        /// The device's id; a new one is registered.
        #[arg(long, value_name = "ID")]
        device: String,
    },
    /// All tokens.
    List,
    /// Remove a token and end what it has opened.
    Revoke {
        /// The token's id.
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One line of blocks for each series.
    Sparkline,
    Csv,
    Json,
    /// The stream of Arrow IPC.
    Arrow,
    Parquet,
}

impl Format {
    /// The name in the API.
    const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Sparkline => "sparkline",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    const fn is_table(self) -> bool {
        matches!(self, Self::Table)
    }
}

#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The series, as device/point; several with commas.
    #[arg(required_unless_present = "sql", conflicts_with = "sql")]
    pub series: Option<String>,
    /// Ask in SQL over readings, cold, rollups_1m, rollups_1h, rollups_1d and devices; - reads it from stdin.
    #[arg(long, value_name = "STATEMENT", conflicts_with_all = ["from", "to", "since", "buckets", "every"], allow_hyphen_values = true)]
    pub sql: Option<String>,
    /// From when: RFC 3339, Unix ms, or relative as -6h.
    #[arg(long, default_value = "-1h", allow_hyphen_values = true)]
    pub from: String,
    /// The time until now, as 6h or 7d.
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["from", "to"], value_parser = span)]
    pub since: Option<String>,
    /// Until when.
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    pub to: String,
    /// At most so many buckets, 2 to 10000, instead of raw readings.
    #[arg(long)]
    pub buckets: Option<u32>,
    /// Buckets that are days, weeks from Monday on, or months.
    #[arg(long, value_parser = ["1d", "1w", "1mo"], conflicts_with = "buckets")]
    pub every: Option<String>,
    /// The time zone of --every, as Europe/Berlin; UTC when left out.
    #[arg(long, value_name = "ZONE", requires = "every")]
    pub tz: Option<String>,
    /// What buckets have besides, with commas: twa (the mean over time) and quantiles as p50, p95 or p99.9.
    #[arg(long, value_name = "NAMES")]
    pub agg: Option<String>,
    /// How to show them.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

impl QueryArgs {
    /// Which buckets, as a part of a request.
    fn parts(&self) -> Option<String> {
        let zone = self.tz.as_ref().map_or_else(String::new, |zone| format!("&tz={}", socket::escape(zone)));
        let every = self.every.as_ref().map(|every| format!("&every={every}{zone}"));
        let parts = self.buckets.map(|most| format!("&buckets={most}")).or(every)?;
        let agg = self.agg.as_ref().map_or_else(String::new, |agg| format!("&agg={}", socket::escape(agg)));
        Some(parts + &agg)
    }

    /// From when.
    fn from(&self) -> String {
        self.since.as_ref().map_or_else(|| self.from.clone(), |span| format!("-{span}"))
    }
}

/// A length of time, as it was written.
fn span(text: &str) -> Result<String, cloud_hub::when::BadSpan> {
    parse_span(text).map(|_| text.to_owned())
}

#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// All that are kept.
    List,
    /// One, with the first bytes of its block.
    Show {
        /// The letter.
        id: String,
    },
    /// Try to decode letters again, and store their readings.
    Replay {
        /// The letters.
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All that are kept.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Throw letters away; their readings stay counted as refused.
    Delete {
        /// The letters.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// What is stored; by a running hub, or by the files without one.
    Inspect,
    /// Read everything as it is now and check it; beside a running hub or without one.
    Verify,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Every option with its value, default and meaning.
    Print,
    /// Report every error.
    Check,
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, for people.
pub async fn run(cli: Cli) -> Result<()> {
    let config = match cli.command {
        Command::Demo(args) => return crate::demo::run(&args).await,
        _ => cli.place.load()?,
    };
    match cli.command {
        Command::Serve { until_stdin_ends } => {
            let mut stop = crate::StopSignals::listen()?;
            if until_stdin_ends {
                stop = stop.and_end_of_stdin()?;
            }
            cloud_hub::serve::run(config, async move { stop.next().await }).await
        }
        Command::Config(ConfigCommand::Print) => {
            out!("{}", config::render(&config));
            Ok(())
        }
        Command::Config(ConfigCommand::Check) => {
            outln!("the configuration is good");
            Ok(())
        }
        Command::Store(StoreCommand::Inspect) => files::inspect(&config).await,
        Command::Store(StoreCommand::Verify) => files::verify(&config).await,
        Command::DeadLetter(command) => dead::dead_letter(&HubSocket::of(&config), &command).await,
        Command::Order(command) => commands::command(&HubSocket::of(&config), &command).await,
        Command::Job(command) => jobs::job(&HubSocket::of(&config), &command).await,
        Command::ConfigTemplate(command) => templates::template(&HubSocket::of(&config), &command).await,
        Command::Profile(command) => profiles::profile(&HubSocket::of(&config), &command).await,
        Command::Site(command) => sites::site(&HubSocket::of(&config), &command).await,
        Command::Twin(command) => twin::twin(&HubSocket::of(&config), &command).await,
        Command::Backup { to } => backup::backup(&config, &to).await,
        Command::Restore { from, force } => backup::restore(&config, &from, force),
        // Neither comes here.
        Command::Demo(_) | Command::SqlWorker { .. } | Command::ParquetWorker { .. } => Ok(()),
        Command::EnrollToken(command) => beside::enroll_token(&HubSocket::of(&config), &command).await,
        Command::DeviceToken(command) => beside::device_token(&HubSocket::of(&config), &command).await,
        Command::Device(command) => devices::device(&HubSocket::of(&config), &command).await,
        Command::User(command) => beside::user(&HubSocket::of(&config), &command).await,
        Command::Token(command) => beside::token(&HubSocket::of(&config), &command).await,
        Command::Query(args) => query::query(&HubSocket::of(&config), &args).await,
        Command::Export(args) => export::export(&HubSocket::of(&config), &args).await,
        Command::Import(args) => import::import(&config, args).await,
    }
}
