//! Twins in memory: those that are worked on, and those that were last. All others are on disk alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tideline_protocol::wire::DocumentId;
use tideline_twin::{Actor, Record, Side, Ticket, Twin, Write};

use super::TwinError;
use super::file::{Put, TwinFile};

/// Most documents that are kept in memory: those of a fleet that is awake.
const KEPT_MAX: usize = 20_000;
/// Most memory that they take.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// About what a document takes in memory that holds nothing, and what it takes for each byte on disk.
const EMPTY_BYTES: usize = 10 * 1024;
const BYTES_PER_BYTE: usize = 12;

/// Records that are appended until the whole is written again: a load reads that many.
const APPENDED_MAX: usize = 64;
/// Bytes of them, once they are more than the whole.
const APPENDED_BYTES_MAX: usize = 64 * 1024;

/// Changes of one document over the API: so many at once, then one in 50 ms. A twin is state and no stream; what changes
/// faster is a reading.
const EDITS_AT_ONCE: u64 = 200;
const EDIT_EVERY_NS: u64 = 50_000_000;

/// A document in memory.
#[derive(Debug)]
pub struct Warm {
    pub twin: Twin,
    // The number of the next that is appended.
    next: u64,
    // What was appended since the whole was written, and the whole.
    appended: usize,
    appended_bytes: usize,
    whole_bytes: usize,
    // Whether the file lacks the whole of this replica.
    is_new: bool,
    // When its bucket of edits is full again, in monotonic ns.
    full_at_ns: u64,
}

impl Warm {
    fn load(file: &TwinFile, document: &DocumentId) -> Result<Self, TwinError> {
        let actor = Actor::new(Side::Hub, file.actor());
        let damaged = |source| TwinError::Damaged { document: document.clone(), source };
        let Some(found) = file.find(document)? else {
            let twin = match file.former() {
                None => Twin::new(actor)?,
                // A hub that was restored may have forgotten the document, and takes back what an agent has of it.
                Some(former) => {
                    let mut twin = Twin::new(Actor::new(Side::Hub, former))?;
                    let (Write::Append(bytes) | Write::Replace(bytes)) = twin.save().write;
                    Twin::load(actor, &bytes, &[] as &[&[u8]]).map_err(damaged)?
                }
            };
            return Ok(Self::of(twin, 0, (0, 0, 0), true));
        };
        let twin = Twin::load(actor, &found.whole, &found.since).map_err(damaged)?;
        let bytes = found.since.iter().map(Vec::len).sum();
        let sizes = (found.since.len(), bytes, found.whole.len());
        Ok(Self::of(twin, found.next, sizes, found.actor != file.actor()))
    }

    const fn of(twin: Twin, next: u64, sizes: (usize, usize, usize), is_new: bool) -> Self {
        let (appended, appended_bytes, whole_bytes) = sizes;
        Self { twin, next, appended, appended_bytes, whole_bytes, is_new, full_at_ns: 0 }
    }

    /// What is to be written for a record, and what says that it is durable. Now and then that is the whole.
    pub fn put(&mut self, record: Record) -> (Ticket, Put) {
        let many =
            self.appended >= APPENDED_MAX || self.appended_bytes > APPENDED_BYTES_MAX.max(self.whole_bytes);
        let record = match record.write {
            Write::Append(_) if self.is_new || many => self.twin.save(),
            _ => record,
        };
        match record.write {
            Write::Append(bytes) => {
                self.appended += 1;
                self.appended_bytes = self.appended_bytes.saturating_add(bytes.len());
                let number = self.next;
                self.next = number.saturating_add(1);
                (record.ticket, Put::Since(number, bytes))
            }
            Write::Replace(bytes) => {
                self.is_new = false;
                (self.appended, self.appended_bytes, self.whole_bytes) = (0, 0, bytes.len());
                (record.ticket, Put::Whole(bytes))
            }
        }
    }

    /// Takes so many edits out of the document's share, or none.
    ///
    /// # Errors
    /// There are not as many: the seconds until then.
    pub fn take_edits(&mut self, now_ns: u64, count: u64) -> Result<(), u64> {
        let next = self.full_at_ns.max(now_ns).saturating_add(EDIT_EVERY_NS.saturating_mul(count));
        let over = next.saturating_sub(now_ns).saturating_sub(EDIT_EVERY_NS.saturating_mul(EDITS_AT_ONCE));
        if over > 0 {
            return Err(over.div_ceil(1_000_000_000));
        }
        self.full_at_ns = next;
        Ok(())
    }

    /// About how much memory it takes.
    fn bytes(&self) -> usize {
        EMPTY_BYTES + BYTES_PER_BYTE.saturating_mul(self.whole_bytes.saturating_add(self.appended_bytes))
    }
}

#[derive(Debug)]
enum Stand {
    Cold,
    Warm(Box<Warm>),
    // What was made of it is not on disk: whoever still holds it must take it anew.
    Failed,
}

/// The place of one document in memory. There is one at a time, as long as anybody holds it.
#[derive(Debug)]
pub struct Slot {
    document: DocumentId,
    stand: Mutex<Stand>,
}

impl Slot {
    /// Which document.
    #[must_use]
    pub const fn document(&self) -> &DocumentId {
        &self.document
    }

    fn stand(&self) -> MutexGuard<'_, Stand> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record is on disk, and those before it.
    pub fn handle_durable(&self, ticket: Ticket) {
        if let Stand::Warm(warm) = &mut *self.stand() {
            warm.twin.handle_durable(ticket);
        }
    }

    /// Its records are not on disk.
    pub fn fail(&self) {
        *self.stand() = Stand::Failed;
    }

    /// Whether it has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(*self.stand(), Stand::Failed)
    }
}

struct Kept {
    slot: Arc<Slot>,
    used: u64,
    bytes: usize,
}

#[derive(Default)]
struct Inner {
    by_document: HashMap<DocumentId, Kept>,
    // By when they were used last, the oldest first.
    by_use: BTreeMap<u64, DocumentId>,
    bytes: usize,
    uses: u64,
}

impl Inner {
    fn touch(&mut self, document: &DocumentId) -> Arc<Slot> {
        self.uses += 1;
        let used = self.uses;
        let kept = self.by_document.entry(document.clone()).or_insert_with(|| Kept {
            slot: Arc::new(Slot { document: document.clone(), stand: Mutex::new(Stand::Cold) }),
            used,
            bytes: 0,
        });
        self.by_use.remove(&kept.used);
        kept.used = used;
        self.by_use.insert(used, document.clone());
        Arc::clone(&kept.slot)
    }

    fn remove(&mut self, document: &DocumentId) {
        if let Some(kept) = self.by_document.remove(document) {
            self.by_use.remove(&kept.used);
            self.bytes = self.bytes.saturating_sub(kept.bytes);
        }
    }

    /// Lets go of those that were used longest ago and that nobody holds. Looks at no more than it lets go of and those before
    /// them that are held: with a full shelf this is done at every use.
    fn shrink(&mut self, limits: (usize, usize)) {
        let mut from = 0;
        while self.by_document.len() > limits.0 || self.bytes > limits.1 {
            let is_free = |document: &DocumentId| {
                self.by_document.get(document).is_none_or(|kept| Arc::strong_count(&kept.slot) == 1)
            };
            let oldest = self.by_use.range(from..).find(|(_, document)| is_free(document));
            let Some((used, document)) = oldest.map(|(used, document)| (*used, document.clone())) else {
                return;
            };
            from = used;
            self.remove(&document);
        }
    }
}

/// All that are in memory.
pub struct Shelf {
    inner: Mutex<Inner>,
    limits: (usize, usize),
}

impl Default for Shelf {
    fn default() -> Self {
        Self::with_limits(KEPT_MAX, KEPT_BYTES_MAX)
    }
}

impl Shelf {
    /// An empty one that keeps so many documents and so many bytes.
    #[must_use]
    pub fn with_limits(kept: usize, bytes: usize) -> Self {
        Self { inner: Mutex::default(), limits: (kept, bytes) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `work` use a document, which is loaded if it is on disk, or empty if there is none. Waits for the disk, and for
    /// whoever else uses it.
    ///
    /// # Errors
    /// It cannot be loaded, or a write of it has just failed.
    pub fn with<T>(
        &self,
        file: &TwinFile,
        document: &DocumentId,
        work: impl FnOnce(&Arc<Slot>, &mut Warm) -> T,
    ) -> Result<T, TwinError> {
        let slot = self.inner().touch(document);
        let (done, bytes) = {
            let mut stand = slot.stand();
            if matches!(*stand, Stand::Cold) {
                *stand = Stand::Warm(Box::new(Warm::load(file, document)?));
            }
            match &mut *stand {
                Stand::Warm(warm) => (work(&slot, warm), warm.bytes()),
                Stand::Cold | Stand::Failed => return Err(TwinError::Unwritten),
            }
        };
        let mut inner = self.inner();
        if let Some(kept) = inner.by_document.get_mut(document).filter(|kept| Arc::ptr_eq(&kept.slot, &slot))
        {
            let was = std::mem::replace(&mut kept.bytes, bytes);
            inner.bytes = inner.bytes.saturating_sub(was).saturating_add(bytes);
        }
        drop(slot);
        inner.shrink(self.limits);
        Ok(done)
    }

    /// Lets go of a document that has failed; the next to use it loads it.
    pub fn forget(&self, slot: &Arc<Slot>) {
        let mut inner = self.inner();
        if inner.by_document.get(&slot.document).is_some_and(|kept| Arc::ptr_eq(&kept.slot, slot)) {
            inner.remove(&slot.document);
        }
    }

    /// How many documents are in memory, and about how much they and the largest of them take.
    #[must_use]
    pub fn kept(&self) -> (usize, usize, usize) {
        let inner = self.inner();
        let largest = inner.by_document.values().map(|kept| kept.bytes).max();
        (inner.by_document.len(), inner.bytes, largest.unwrap_or(0))
    }
}
