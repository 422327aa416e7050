//! The hub's metrics: every name in one enum, shown in the Prometheus text format.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use tideline_protocol::invariants::Invariant;
use tideline_protocol::wire::CommandState;
use tideline_store::StoreMetrics;

use crate::jobs::View;
use crate::twins::Standing;

/// Every metric that the hub itself counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Sessions opened.
    Sessions,
    /// Sessions refused or ended for a fault of the agent.
    SessionsRefused,
    /// Series that were set aside.
    SeriesAside,
    /// QUIC handshakes that failed.
    HandshakesFailed,
    /// QUIC handshakes that were not begun: too many at once or within a second.
    HandshakesPutOff,
    /// Sessions that were told to come again later.
    SessionsPutOff,
    /// HTTP connections closed for want of a place.
    ConnectionsRefused,
    /// Enrolments.
    Enrolments,
    /// Live batches that the feed had to skip.
    LiveSkipped,
    /// Readings that tokens have written.
    Written,
    /// Lines, fields and time series of theirs that were refused.
    WritesRefused,
    /// Requests of theirs that were told to come again later.
    WritesPutOff,
    /// Queries that were answered from memory.
    AnswersKept,
    /// Queries that waited for the same one of somebody else.
    AnswersShared,
    /// Queries that were computed.
    AnswersComputed,
    /// Statements of SQL that ran.
    Statements,
    /// Statements of SQL that were refused, or put off, before they ran.
    StatementsRefused,
    /// Statements of SQL that were ended by a limit.
    StatementsEnded,
    /// Changes of twins over the API.
    TwinEdits,
    /// Messages about twins that came.
    TwinMessagesHeard,
    /// Messages about twins that went.
    TwinMessagesSent,
    /// Bytes of messages about twins that came.
    TwinBytesHeard,
    /// Bytes of those that went.
    TwinBytesSent,
    /// Messages about twins that were refused.
    TwinMessagesRefused,
    /// Times that the history of a twin was cut off.
    TwinRebases,
    /// Commits of twins.
    TwinCommits,
    /// Records in them.
    TwinRecords,
    /// Microseconds that they took.
    TwinCommitMicros,
}

impl Metric {
    const ALL: [Self; 28] = [
        Self::Sessions,
        Self::SessionsRefused,
        Self::SeriesAside,
        Self::HandshakesFailed,
        Self::HandshakesPutOff,
        Self::SessionsPutOff,
        Self::ConnectionsRefused,
        Self::Enrolments,
        Self::LiveSkipped,
        Self::Written,
        Self::WritesRefused,
        Self::WritesPutOff,
        Self::AnswersKept,
        Self::AnswersShared,
        Self::AnswersComputed,
        Self::Statements,
        Self::StatementsRefused,
        Self::StatementsEnded,
        Self::TwinEdits,
        Self::TwinMessagesHeard,
        Self::TwinMessagesSent,
        Self::TwinBytesHeard,
        Self::TwinBytesSent,
        Self::TwinMessagesRefused,
        Self::TwinRebases,
        Self::TwinCommits,
        Self::TwinRecords,
        Self::TwinCommitMicros,
    ];

    const fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Sessions => ("tideline_hub_sessions_total", "Sessions opened."),
            Self::SessionsRefused => {
                ("tideline_hub_sessions_refused_total", "Sessions refused or ended for a fault of the agent.")
            }
            Self::SeriesAside => {
                ("tideline_hub_series_aside_total", "Series kept aside: of devices of others.")
            }
            Self::HandshakesFailed => {
                ("tideline_hub_handshakes_failed_total", "QUIC handshakes that failed.")
            }
            Self::HandshakesPutOff => (
                "tideline_hub_handshakes_put_off_total",
                "QUIC handshakes that were not begun: too many at once, or within a second.",
            ),
            Self::SessionsPutOff => (
                "tideline_hub_sessions_put_off_total",
                "Sessions told to come again later: too many within a second.",
            ),
            Self::ConnectionsRefused => (
                "tideline_hub_connections_refused_total",
                "Connections closed because the listener or their address had as many as it may have.",
            ),
            Self::Enrolments => ("tideline_hub_enrolments_total", "Certificates issued."),
            Self::LiveSkipped => (
                "tideline_hub_live_skipped_total",
                "Live batches that the feed skipped because it fell behind.",
            ),
            Self::Written => ("tideline_hub_written_rows_total", "Readings that tokens have written."),
            Self::WritesRefused => (
                "tideline_hub_writes_refused_total",
                "Lines, fields and time series of tokens that were refused.",
            ),
            Self::WritesPutOff => (
                "tideline_hub_writes_put_off_total",
                "Requests of tokens that were told to come again later.",
            ),
            Self::AnswersKept => (
                "tideline_hub_answers_kept_total",
                "Queries that were answered from memory: nothing of their range had changed.",
            ),
            Self::AnswersShared => (
                "tideline_hub_answers_shared_total",
                "Queries that were answered by what somebody else had asked for at the same time.",
            ),
            Self::AnswersComputed => ("tideline_hub_answers_computed_total", "Queries that were computed."),
            Self::Statements => ("tideline_hub_sql_statements_total", "Statements of SQL that ran."),
            Self::StatementsRefused => {
                ("tideline_hub_sql_refused_total", "Statements of SQL refused or put off before they ran.")
            }
            Self::StatementsEnded => {
                ("tideline_hub_sql_ended_total", "Statements of SQL ended by a limit: time, memory, rows.")
            }
            Self::TwinEdits => ("tideline_hub_twin_edits_total", "Changes of twins over the API."),
            Self::TwinMessagesHeard => ("tideline_hub_twin_messages_in_total", "Messages that came."),
            Self::TwinMessagesSent => ("tideline_hub_twin_messages_out_total", "Messages that went."),
            Self::TwinBytesHeard => ("tideline_hub_twin_bytes_in_total", "Bytes of those that came."),
            Self::TwinBytesSent => ("tideline_hub_twin_bytes_out_total", "Bytes of those that went."),
            Self::TwinMessagesRefused => {
                ("tideline_hub_twin_messages_refused_total", "Messages about twins that were refused.")
            }
            Self::TwinRebases => {
                ("tideline_hub_twin_rebases_total", "Times that the history of a twin was cut off.")
            }
            Self::TwinCommits => ("tideline_hub_twin_commits_total", "Commits of twins."),
            Self::TwinRecords => ("tideline_hub_twin_records_total", "Changes and agreements in them."),
            Self::TwinCommitMicros => ("tideline_hub_twin_commit_microseconds_total", "What they took."),
        }
    }
}

/// The counters behind [`Metric`].
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Metric::ALL.len()]);

impl Counters {
    /// Adds to one.
    pub fn add(&self, metric: Metric, by: u64) {
        if let Some(counter) = self.0.get(metric as usize) {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn value(&self, metric: Metric) -> u64 {
        self.0.get(metric as usize).map_or(0, |c| c.load(Ordering::Relaxed))
    }
}

/// The metrics page.
#[must_use]
pub fn page(
    counters: &Counters,
    online: u64,
    (suspect, flapping): (u64, u64),
    store: &StoreMetrics,
) -> String {
    let mut out = String::new();
    let mut line = |name: &str, help: &str, kind: &str, value: u64| {
        // Writing to a String cannot fail.
        let _ok = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    };
    for metric in Metric::ALL {
        let (name, help) = metric.text();
        line(name, help, "counter", counters.value(metric));
    }
    line("tideline_hub_sessions_online", "Sessions that live.", "gauge", online);
    line("tideline_hub_agents_suspect", "Agents that are late.", "gauge", suspect);
    line("tideline_hub_agents_flapping", "Agents that come and go.", "gauge", flapping);
    line("tideline_store_appended_rows_total", "Readings made durable.", "counter", store.appended_rows);
    line(
        "tideline_store_duplicate_rows_total",
        "Readings received again and ignored.",
        "counter",
        store.duplicate_rows,
    );
    line("tideline_store_commits_total", "Group commits.", "counter", store.commits);
    line("tideline_store_dead_letters_total", "Runs kept as dead letters.", "counter", store.dead_letters);
    line(
        "tideline_store_revived_rows_total",
        "Readings of dead letters that were stored after all.",
        "counter",
        store.revived_rows,
    );
    line("tideline_store_hot_rows", "Readings held in memory.", "gauge", store.hot_rows);
    for (name, help, kind, value) in of_files(store) {
        line(name, help, kind, value);
    }
    line(
        "tideline_store_log_failures_total",
        "Writes of the log that failed.",
        "counter",
        store.log_failures,
    );
    line(
        "tideline_store_log_reopenings_total",
        "Times that the log was opened again after one.",
        "counter",
        store.log_reopenings,
    );
    line("tideline_store_damaged_files_total", "Sealed files put aside.", "counter", store.damaged_files);
    line(
        "tideline_store_poisoned",
        "Whether a failed write stopped the store, until its log has reopened.",
        "gauge",
        u64::from(store.poisoned),
    );
    out.push_str("# HELP tideline_invariant_breaches_total Bugs found at work, by what they broke.\n");
    out.push_str("# TYPE tideline_invariant_breaches_total counter\n");
    for invariant in Invariant::ALL {
        let (name, count) = (invariant.name(), invariant.breaches());
        let _ok = writeln!(out, "tideline_invariant_breaches_total{{invariant=\"{name}\"}} {count}");
    }
    out
}

/// Name, help, kind and value of what there is to say of sealed files.
fn of_files(store: &StoreMetrics) -> [(&'static str, &'static str, &'static str, u64); 12] {
    [
        ("tideline_store_flushes_total", "Times that rows were sealed.", "counter", store.flushes),
        ("tideline_store_sealed_bytes", "Bytes of sealed files.", "gauge", store.sealed_bytes),
        ("tideline_store_sealed_files", "Sealed files.", "gauge", store.sealed_files),
        (
            "tideline_store_expired_rows_total",
            "Readings that were past their retention and are gone from sealed files.",
            "counter",
            store.expired_rows,
        ),
        (
            "tideline_store_expired_files_total",
            "Sealed files of which retention left nothing.",
            "counter",
            store.expired_files,
        ),
        ("tideline_store_cold_bytes", "Bytes of the cold tier's files.", "gauge", store.cold_bytes),
        ("tideline_store_cold_files", "Files of the cold tier.", "gauge", store.cold_files),
        ("tideline_store_cold_rows", "Readings in the cold tier.", "gauge", store.cold_rows),
        (
            "tideline_store_cold_written_rows_total",
            "Readings that went to the cold tier.",
            "counter",
            store.frozen_rows,
        ),
        (
            "tideline_store_cold_expired_rows_total",
            "Readings that were past the cold tier's retention and are gone.",
            "counter",
            store.melted_rows,
        ),
        ("tideline_store_merges_total", "Times that sealed files became one.", "counter", store.compactions),
        ("tideline_store_merge_failures_total", "Times that failed.", "counter", store.compaction_failures),
    ]
}

/// A metric of stream jobs: name, help, kind, value.
type JobMetric = (&'static str, &'static str, &'static str, fn(&View) -> u64);

/// Of devices behind a watermark that nobody has seen it is 0.
fn watermark_s(view: &View) -> u64 {
    view.watermark_ns.and_then(|ns| u64::try_from(ns / 1_000_000_000).ok()).unwrap_or(0)
}

const JOB_METRICS: [JobMetric; 14] = [
    ("tideline_job_readings_total", "Readings that a job took in.", "counter", |v| v.totals.counts.rows),
    ("tideline_job_results_total", "Results that a job gave.", "counter", |v| v.totals.results),
    ("tideline_job_late_readings_total", "Readings behind the watermark.", "counter", |v| {
        v.totals.counts.late
    }),
    ("tideline_job_side_total", "Readings that a job put aside.", "counter", |v| v.totals.side),
    ("tideline_job_missed_total", "Parts of the log that were gone.", "counter", |v| v.tally.missed),
    ("tideline_job_troubles_total", "Times that a job had to wait.", "counter", |v| v.troubles),
    ("tideline_job_statement_runs_total", "Windows that a job's statement answered.", "counter", |v| {
        v.statement.as_ref().map_or(0, |statement| statement.answered)
    }),
    ("tideline_job_statement_retries_total", "Runs of a job's statement that failed.", "counter", |v| {
        v.statement.as_ref().map_or(0, |statement| statement.retried)
    }),
    ("tideline_job_windows_given_up_total", "Windows that a job's statement failed for.", "counter", |v| {
        v.statement.as_ref().map_or(0, |statement| statement.failed)
    }),
    ("tideline_job_open_windows", "Windows that a job holds.", "gauge", |v| v.open_windows),
    ("tideline_job_devices", "Devices that a job knows.", "gauge", |v| v.devices),
    ("tideline_job_state_bytes", "What a job holds, in bytes.", "gauge", |v| v.state_bytes),
    ("tideline_job_behind_bytes", "Bytes of the log that a job has not read.", "gauge", |v| v.behind_bytes),
    ("tideline_job_watermark_seconds", "The least watermark of a job's devices.", "gauge", watermark_s),
];

/// Commands that have not ended, in the Prometheus text format.
#[must_use]
pub fn commands(counts: [(CommandState, u64); 3]) -> String {
    let name = "tideline_hub_commands";
    let mut out = format!("# HELP {name} Commands that have not ended.\n# TYPE {name} gauge\n");
    for (state, count) in counts {
        // Writing to a String cannot fail.
        let _written = writeln!(out, "{name}{{state=\"{state}\"}} {count}");
    }
    out
}

/// How often files were opened again after their disk had failed.
#[must_use]
pub fn reopenings(files: [(&str, u64); 2]) -> String {
    let name = "tideline_hub_file_reopenings_total";
    let help = "Times that a file was opened again after its disk had failed.";
    let mut out = format!("# HELP {name} {help}\n# TYPE {name} counter\n");
    for (file, count) in files {
        // Writing to a String cannot fail.
        let _written = writeln!(out, "{name}{{file=\"{file}\"}} {count}");
    }
    out
}

/// The metrics of stream jobs, by the name of each; there are few.
#[must_use]
pub fn jobs(all: &[(String, bool, View)]) -> String {
    let mut out = String::new();
    if all.is_empty() {
        return out;
    }
    out.push_str("# HELP tideline_job_running Whether a job runs.\n# TYPE tideline_job_running gauge\n");
    for (name, runs, _) in all {
        // Writing to a String cannot fail.
        let _ok = writeln!(out, "tideline_job_running{{job=\"{name}\"}} {}", u64::from(*runs));
    }
    for (metric, help, kind, value) in JOB_METRICS {
        let _ok = write!(out, "# HELP {metric} {help}\n# TYPE {metric} {kind}\n");
        for (name, _, view) in all {
            let _ok = writeln!(out, "{metric}{{job=\"{name}\"}} {}", value(view));
        }
    }
    out
}

/// The metrics of twins.
#[must_use]
pub fn twins(standing: Standing) -> String {
    let mut out = String::new();
    for (name, help, value) in [
        ("tideline_hub_twins", "Twins on disk.", standing.documents),
        ("tideline_hub_twins_kept", "Twins in memory.", standing.kept),
        ("tideline_hub_twins_kept_bytes", "About what they take.", standing.kept_bytes),
        ("tideline_hub_twins_kept_largest_bytes", "What the largest of them takes.", standing.largest_bytes),
        ("tideline_hub_twin_records_waiting", "Records that wait for a commit.", standing.waiting),
    ] {
        // Writing to a String cannot fail.
        let _ok = write!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    }
    out
}
