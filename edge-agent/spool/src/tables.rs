//! redb's database, which can be closed whatever its file holds.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::Database;

/// A database that is open until it is dropped.
///
/// redb writes as it closes, and in a file that was changed behind its back that may panic like any other
/// call, see [`crate::sound`]: here in a drop, where nobody else could catch it.
#[derive(Debug)]
pub struct Tables(Option<Database>);

impl From<Database> for Tables {
    fn from(db: Database) -> Self {
        Self(Some(db))
    }
}

impl Deref for Tables {
    type Target = Database;

    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is open until it is dropped")
    }
}

impl DerefMut for Tables {
    #[expect(clippy::expect_used, reason = "only the drop takes it")]
    fn deref_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("it is open until it is dropped")
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let db = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(db))).is_err() {
            tracing::error!("the spool's file could not be closed in order: its pages contradict each other");
        }
    }
}
