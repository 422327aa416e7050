//! The JSON of the API. Times are Unix milliseconds; the property names are a contract with the
//! web app and with programs.

mod access;
mod aggregate;
mod backup;
mod boards;
mod commands;
mod dead;
mod device;
mod fleet;
mod imports;
mod jobs;
mod ledger;
mod map;
mod operate;
mod profile;
mod query;
mod site;
mod sql;
mod store;
mod template;
mod twin;
mod value;

pub use access::*;
pub use aggregate::*;
pub use backup::*;
pub use boards::*;
pub use commands::*;
pub use dead::*;
pub use device::*;
pub use fleet::*;
pub use imports::*;
pub use jobs::*;
pub use ledger::*;
pub use map::*;
pub use operate::*;
pub use profile::*;
pub use query::*;
pub use site::*;
pub use sql::*;
pub use store::*;
pub use template::*;
pub use twin::*;
pub use value::*;
