//! What all parts of a running hub share.

use std::sync::Arc;

use tideline_link::identity::CertificateAuthority;
use tideline_protocol::time::Clock;
use tideline_store::Store;
use tokio::sync::watch;

use crate::bucket::{Allowance, Buckets};
use crate::config::Config;
use crate::fleet::Fleet;
use crate::live::Live;
use crate::metadata::Metadata;
use crate::secret::{self, SecretError};
use crate::telemetry::Counters;
use crate::when;

/// Logins from one address: ten at once, then one every six seconds. Slow enough against guessing,
/// and a person with a wrong keyboard layout never meets it.
const LOGINS: Allowance = Allowance { burst: 10, refill_ns: 6_000_000_000 };
/// Enrolments from one address: a van full of devices behind one router must pass.
const ENROLMENTS: Allowance = Allowance { burst: 60, refill_ns: 1_000_000_000 };

/// The shared hub.
pub type App = Arc<Hub>;

/// The addresses that were bound, as agents are told them.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    /// `host:port` of HTTPS.
    pub https: String,
    /// `host:port` of QUIC.
    pub quic: String,
    /// The name that the hub's certificate is checked against.
    pub server_name: String,
}

/// The parts of a running hub.
pub struct Hub {
    /// The configuration.
    pub config: Config,
    /// The clock of the machine, or a test's.
    pub clock: Arc<dyn Clock>,
    /// Registry, users and tokens.
    pub metadata: Metadata,
    /// The readings and the ledger.
    pub store: Store,
    /// Who is connected.
    pub fleet: Fleet,
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
    /// Counters for `/metrics`.
    pub counters: Counters,
    /// Becomes true when the hub shuts down.
    pub stopping: watch::Sender<bool>,
    /// A password hash that fits nothing, for users that do not exist.
    pub decoy_hash: String,
}

impl Hub {
    /// Puts the parts together.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        metadata: Metadata,
        store: Store,
        authority: CertificateAuthority,
        addresses: Addresses,
    ) -> Result<App, SecretError> {
        let first_event = u64::try_from(when::ms(clock.wall_ns())).unwrap_or(0).saturating_mul(1000);
        Ok(Arc::new(Self {
            config,
            clock,
            metadata,
            store,
            fleet: Fleet::default(),
            live: Live::starting_at(first_event),
            authority,
            addresses,
            logins: Buckets::new(LOGINS),
            enrolments: Buckets::new(ENROLMENTS),
            counters: Counters::default(),
            stopping: watch::Sender::new(false),
            decoy_hash: secret::hash_password(&secret::random()?)?,
        }))
    }

    /// The wall time in Unix ms.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        when::ms(self.clock.wall_ns())
    }

    /// Resolves when the hub shuts down.
    pub async fn stopped(&self) {
        let mut watch = self.stopping.subscribe();
        // An error means that the sender is gone, and then so is the hub.
        let _gone = watch.wait_for(|stopping| *stopping).await;
    }
}
