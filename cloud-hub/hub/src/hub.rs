//! What all parts of a running hub share.

use std::sync::Arc;

use tideline_link::identity::CertificateAuthority;
use tideline_protocol::time::Clock;
use tideline_store::{GroupQuestion, Store};
use tokio::sync::watch;

use crate::answers::Answers;
use crate::api::prometheus::EVALUATIONS;
use crate::api::query::BucketQuestion;
use crate::arrivals::Arrivals;
use crate::bucket::{Allowance, Buckets, Pace};
use crate::commands::Commands;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::ingest::Turns;
use crate::jobs::Jobs;
use crate::lateness::Lateness;
use crate::live::Live;
use crate::metadata::{Metadata, MetadataError};
use crate::passwords::Passwords;
use crate::picture::Pictures;
use crate::places::{Limits, Places};
use crate::position::Positions;
use crate::presence::{Now, Presences};
use crate::pulse::Pulse;
use crate::registry;
use crate::secret::{self, SecretError};
use crate::strangers::Strangers;
use crate::telemetry::Counters;
use crate::twins::Twins;
use crate::when;
use crate::writes::Writers;

/// Logins from one address: ten at once, then one every six seconds. Slow enough against guessing,
/// and a person with a wrong keyboard layout never meets it.
const LOGINS: Allowance = Allowance { burst: 10, refill_ns: 6_000_000_000 };
/// Enrolments from one address: a van full of devices behind one router must pass.
const ENROLMENTS: Allowance = Allowance { burst: 60, refill_ns: 1_000_000_000 };

/// Sessions opened: so many at once, and 200 a second. Each sends its ranges, its dictionary and the
/// first of its backlog, and a thousand agents are back within five seconds.
const OPENINGS: Allowance = Allowance { burst: 200, refill_ns: 5_000_000 };

/// Questions by links that show a board, from one address: an office behind one router that has some on its walls.
const SHARED: Allowance = Allowance { burst: 240, refill_ns: 50_000_000 };

/// Readers of the live feed: each takes a connection, a task and some events. One user or token may
/// have a wall of screens under one login, with some tabs left open.
pub const STREAMS: Limits = Limits { all: 512, each: 48 };
/// Exports at a time: each takes a core while its client keeps up.
const EXPORTS_MAX: usize = 2;
/// What is told of foreign certificates from one address: an agent of another hub knocks every few
/// seconds, and the log is for more than that.
const COMPLAINTS: Allowance = Allowance { burst: 3, refill_ns: 600_000_000_000 };

/// Bytes of answers that are kept, of each kind.
const ANSWERS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The shared hub.
pub type App = Arc<Hub>;

/// The addresses that were bound, as agents are told them.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// `host:port` of HTTPS.
    pub https: String,
    /// `host:port` of QUIC.
    pub quic: String,
    /// `host:port` of MQTT over TLS, where that is open.
    pub mqtt: Option<String>,
    /// The name that the hub's certificate is checked against.
    pub server_name: String,
}

/// Why the parts do not come together.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The system gives no randomness.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The registry cannot be read.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

fn now(clock: &dyn Clock) -> Now {
    Now { mono_ms: clock.mono_ns() / 1_000_000, wall_ms: when::ms(clock.wall_ns()) }
}

/// The parts of a running hub.
pub struct Hub {
    /// The configuration.
    pub config: Config,
    /// The clock of the machine, or a test's.
    pub clock: Arc<dyn Clock>,
    /// Registry, users and tokens.
    pub metadata: Metadata,
    /// The twins of devices.
    pub twins: Twins,
    /// The readings and the ledger.
    pub store: Store,
    /// Who is connected.
    pub fleet: Fleet,
    /// Whose turn it is to say which series of an agent are aside.
    pub asides: Turns,
    /// Who is there, and when that changed.
    pub presences: Presences,
    /// How the fleet fared of late.
    pub pulse: Pulse,
    /// The fleet as it was a moment ago.
    pub pictures: Pictures,
    /// Where devices are that measure it.
    pub positions: Positions,
    /// Until when the agents' readings have come.
    pub arrivals: Arrivals,
    /// Which ranges of devices came late.
    pub lateness: Lateness,
    /// The live feed.
    pub live: Live,
    /// The certificate authority.
    pub authority: CertificateAuthority,
    /// What agents are told.
    pub addresses: Addresses,
    /// Slows down password guessing.
    pub logins: Buckets,
    /// Slows down token guessing.
    pub enrolments: Buckets,
    /// Slows down questions by links that show a board.
    pub shared: Buckets,
    /// The pace of sessions that open.
    pub openings: Pace,
    /// Keeps one address from filling the log.
    pub complaints: Buckets,
    /// The hashing of passwords.
    pub passwords: Passwords,
    /// The turn to lay templates of configuration into a twin.
    pub templates: std::sync::Mutex<()>,
    /// What tokens write.
    pub writers: Writers,
    /// Stream jobs.
    pub jobs: Jobs,
    /// Commands for devices.
    pub commands: Commands,
    /// Who follows the live feed.
    pub streams: Places<String>,
    /// Changes when a session, a user or a token ends: whoever goes on for long looks again then.
    pub signed_out: watch::Sender<u64>,
    /// Agents that are not registered and have a certificate of this hub.
    pub strangers: Strangers,
    /// The turn to look at a snapshot of the store: there is one at a time.
    pub snapshots: Arc<tokio::sync::Mutex<()>>,
    /// Places for exports.
    pub exports: Arc<tokio::sync::Semaphore>,
    /// The turn to read the store for an agent that compares it with its own.
    pub audits: Arc<tokio::sync::Semaphore>,
    /// The turns to evaluate PromQL.
    pub evaluations: Arc<tokio::sync::Semaphore>,
    /// Answers to questions about series in buckets.
    pub buckets: Answers<BucketQuestion>,
    /// Answers to questions about groups of series.
    pub groups: Answers<GroupQuestion>,
    /// The turns to run a statement of SQL.
    pub statements: Arc<tokio::sync::Semaphore>,
    /// Counters for `/metrics`.
    pub counters: Counters,
    /// Dead letters that are in the ledger; sessions tell their agents when it changes.
    pub refused: watch::Sender<u64>,
    /// Becomes true when the hub shuts down.
    pub stopping: watch::Sender<bool>,
    /// A password hash that fits nothing, for users that do not exist.
    pub decoy_hash: String,
}

impl Hub {
    /// Puts the parts together.
    ///
    /// # Errors
    /// The system gives no randomness, or the registry cannot be read.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        metadata: Metadata,
        twins: Twins,
        store: Store,
        authority: CertificateAuthority,
        addresses: Addresses,
    ) -> Result<App, HubError> {
        let first_event = u64::try_from(when::ms(clock.wall_ns())).unwrap_or(0).saturating_mul(1000);
        let presences = Presences::load(&metadata, now(clock.as_ref()))?;
        registry::tell_keeps(&metadata, &store)?;
        let statements = usize::try_from(config.sql.at_once).unwrap_or(1);
        Ok(Arc::new(Self {
            config,
            clock,
            metadata,
            twins,
            store,
            fleet: Fleet::default(),
            asides: Turns::default(),
            presences,
            pulse: Pulse::default(),
            pictures: Pictures::default(),
            positions: Positions::default(),
            arrivals: Arrivals::default(),
            lateness: Lateness::default(),
            live: Live::starting_at(first_event),
            authority,
            addresses,
            logins: Buckets::new(LOGINS),
            enrolments: Buckets::new(ENROLMENTS),
            shared: Buckets::new(SHARED),
            openings: Pace::new(OPENINGS),
            complaints: Buckets::new(COMPLAINTS),
            passwords: Passwords::default(),
            templates: std::sync::Mutex::default(),
            writers: Writers::default(),
            jobs: Jobs::default(),
            commands: Commands::default(),
            streams: Places::new(STREAMS),
            signed_out: watch::Sender::new(0),
            strangers: Strangers::default(),
            snapshots: Arc::default(),
            exports: Arc::new(tokio::sync::Semaphore::new(EXPORTS_MAX)),
            audits: Arc::new(tokio::sync::Semaphore::new(1)),
            evaluations: Arc::new(tokio::sync::Semaphore::new(EVALUATIONS)),
            buckets: Answers::new(ANSWERS_BYTES_MAX),
            groups: Answers::new(ANSWERS_BYTES_MAX),
            statements: Arc::new(tokio::sync::Semaphore::new(statements)),
            counters: Counters::default(),
            refused: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            decoy_hash: secret::hash_password(&secret::random()?)?,
        }))
    }

    /// Now, by both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        now(self.clock.as_ref())
    }

    /// The wall time in Unix ms.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        when::ms(self.clock.wall_ns())
    }

    /// Does what waits for the disk off the threads that serve everybody. It comes to its end even
    /// when nobody waits for it any more.
    ///
    /// # Errors
    /// What `work` says, or that it panicked.
    pub async fn blocking<A: Send + 'static, E: From<MetadataError> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<A, E> + Send + 'static,
    ) -> Result<A, E> {
        let hub = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&hub)).await {
            Ok(done) => done,
            Err(error) => Err(MetadataError::interrupted(error).into()),
        }
    }

    /// Tells who goes on for long that a session, a user or a token has ended.
    pub fn sign_out(&self) {
        self.signed_out.send_modify(|times| *times = times.wrapping_add(1));
    }

    /// Resolves when the hub shuts down.
    pub async fn stopped(&self) {
        let mut watch = self.stopping.subscribe();
        // An error means that the sender is gone, and then so is the hub.
        let _gone = watch.wait_for(|stopping| *stopping).await;
    }
}
