//! The Tideline hub: ingest, ledger, API, web app.
//!
//! [`serve::run`] wires it together; [`ingest`] is the path of readings into the store, [`api`] the
//! way out. It must never decode readings itself or know Polars: that is the store's.

pub mod answers;
pub mod api;
pub mod arrivals;
pub mod backup;
pub mod belonging;
pub mod boards;
pub mod bucket;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod doors;
pub mod fleet;
pub mod hub;
pub mod imports;
pub mod in_force;
pub mod ingest;
pub mod jobs;
pub mod lateness;
pub mod layer;
pub mod leaving;
pub mod live;
pub mod map;
pub mod metadata;
pub mod mqtt;
pub mod passwords;
pub mod picture;
pub mod pki;
pub mod places;
pub mod plans;
pub mod position;
pub mod presence;
pub mod profiles;
pub mod pulse;
pub mod redbfile;
pub mod registry;
pub mod schedules;
pub mod secret;
pub mod serve;
pub mod signs;
pub mod sites;
pub mod sql;
pub mod strangers;
pub mod telemetry;
pub mod templates;
pub mod twins;
pub mod web;
pub mod when;
pub mod writes;
