//! The replicas that are in memory, those that are in the file alone, and by what name they write.

use std::collections::{BTreeMap, HashMap};

use tideline_protocol::model::Epoch;
use tideline_protocol::wire::DocumentId;
use tideline_twin::{Actor, Record, Side, Twin, Write};

use super::super::file::{Contents, Entropy, Entry, Figures, FileError, Name, TwinFile};
use super::super::{Listed, TwinError};
use super::{Round, empty};

/// Most documents of an agent (INV-6): as many as it may know devices.
pub const DOCUMENTS_MAX: usize = crate::cards::CARDS_MAX;
/// Most replicas that are in memory when nothing is being done: some tens of KB each.
const RESIDENT_MAX: usize = 16;
/// Appended records after which a document is written as a whole.
const APPENDED_MAX: usize = 64;

struct Resident {
    twin: Twin,
    // Records in the file since the last whole one.
    appended: usize,
    used: u64,
    // Used since the replicas last rested.
    busy: bool,
}

/// Opens the file of the replicas, each time that it is needed.
pub type Open = Box<dyn FnMut() -> Result<(TwinFile, Contents), FileError> + Send>;

pub struct Replicas {
    open: Open,
    // None after a failed write, until it could be opened again.
    file: Option<TwinFile>,
    name: Name,
    // Whether the file does not say so yet.
    renamed: bool,
    renames: u64,
    figures: BTreeMap<DocumentId, Figures>,
    residents: HashMap<DocumentId, Resident>,
    uses: u64,
    // For those that were never written.
    empty: Option<Twin>,
}

impl Replicas {
    /// Opens the file. One that was put back, or came with a spool that is a copy, is written by another name.
    pub fn open(mut open: Open, epoch: Epoch) -> Result<Self, FileError> {
        let (file, Contents { name, documents, .. }) = open()?;
        let renamed = name.is_none_or(|name| name.epoch != epoch);
        let fresh = || Name { epoch, entropy: entropy() };
        Ok(Self {
            open,
            file: Some(file),
            name: name.filter(|_| !renamed).unwrap_or_else(fresh),
            renamed,
            renames: 0,
            figures: documents,
            residents: HashMap::new(),
            uses: 0,
            empty: None,
        })
    }

    /// Whether the spool is still the one that the name was taken beside.
    pub fn is_of(&self, epoch: Epoch) -> bool {
        self.name.epoch == epoch
    }

    /// Takes another name, as the spool has begun another epoch: it was wiped, or is a copy of another. All must be
    /// written before.
    pub fn follow(&mut self, epoch: Epoch) {
        self.rename();
        self.name.epoch = epoch;
        self.residents.clear();
    }

    /// A name that this replica has not: another one that the others took already, or a new one.
    pub fn other_name(&mut self, than: Actor) -> Actor {
        if self.actor() == than { self.rename() } else { self.actor() }
    }

    /// From now on other changes are made by another name.
    fn rename(&mut self) -> Actor {
        self.name.entropy = entropy();
        (self.renamed, self.empty) = (true, None);
        self.renames += 1;
        self.actor()
    }

    const fn actor(&self) -> Actor {
        Actor::new(Side::Agent, self.name.entropy)
    }

    pub const fn is_renamed(&self) -> bool {
        self.renamed
    }

    pub const fn renames(&self) -> u64 {
        self.renames
    }

    pub fn holds(&self, document: &DocumentId) -> bool {
        self.figures.contains_key(document)
    }

    pub fn documents(&self) -> Vec<DocumentId> {
        self.figures.keys().cloned().collect()
    }

    pub fn list(&self) -> Vec<Listed> {
        let listed = |(document, figures): (&DocumentId, &Figures)| Listed {
            document: document.clone(),
            unconfirmed: figures.unconfirmed,
        };
        self.figures.iter().map(listed).collect()
    }

    /// How many documents there are of the kind of one.
    pub fn alike(&self, document: &DocumentId) -> usize {
        let kind = std::mem::discriminant(document);
        self.figures.keys().filter(|of| std::mem::discriminant(*of) == kind).count()
    }

    /// Lets go of a document, whatever was not confirmed of it. What it wrote by its name is not known any more: should it come
    /// again, others are written by another name, which is durable before the document goes.
    pub fn leave(&mut self, document: &DocumentId) -> Result<(), FileError> {
        self.rename();
        self.commit(&[])?;
        self.file()?.remove(document)?;
        self.residents.remove(document);
        self.figures.remove(document);
        Ok(())
    }

    /// Of the documents that there are and of those in memory.
    pub fn counts(&self) -> (u64, u64) {
        (self.figures.len() as u64, self.residents.len() as u64)
    }

    /// Bytes of the changes of those in memory, and of the largest of them.
    pub fn bytes(&self) -> (u64, u64) {
        let each = self.residents.values().map(|resident| resident.twin.history_bytes() as u64);
        each.fold((0, 0), |(sum, most), bytes| (sum + bytes, bytes.max(most)))
    }

    pub fn unconfirmed(&self) -> u64 {
        self.figures.values().map(|figures| figures.unconfirmed).sum()
    }

    /// One that was never written.
    pub fn empty(&mut self) -> Result<&mut Twin, TwinError> {
        let twin = match self.empty.take() {
            Some(twin) => twin,
            None => empty(self.name.entropy)?,
        };
        Ok(self.empty.insert(twin))
    }

    /// A document that there is.
    pub fn twin(&mut self, document: &DocumentId, round: &mut Round) -> Result<&mut Twin, TwinError> {
        self.uses += 1;
        if !self.residents.contains_key(document) {
            let resident = self.read(document, round)?;
            self.residents.insert(document.clone(), resident);
        }
        let none = || FileError::Corrupt(format!("{document} is gone"));
        let resident = self.residents.get_mut(document).ok_or_else(none)?;
        (resident.used, resident.busy) = (self.uses, true);
        Ok(&mut resident.twin)
    }

    /// A document that there is from now on.
    pub fn twin_or_new(&mut self, document: &DocumentId, round: &mut Round) -> Result<&mut Twin, TwinError> {
        if !self.holds(document) {
            if self.figures.len() >= DOCUMENTS_MAX {
                return Err(TwinError::Full { max: DOCUMENTS_MAX });
            }
            let mut twin = empty(self.name.entropy)?;
            round.write(document, twin.save());
            let figures = Figures { unconfirmed: 0, entropy: self.name.entropy };
            self.figures.insert(document.clone(), figures);
            let resident = Resident { twin, appended: 0, used: 0, busy: true };
            self.residents.insert(document.clone(), resident);
        }
        self.twin(document, round)
    }

    fn file(&mut self) -> Result<&TwinFile, FileError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let (file, contents) = (self.open)()?;
                self.figures = contents.documents;
                if contents.name != Some(self.name) {
                    self.renamed = true;
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }

    fn read(&mut self, document: &DocumentId, round: &mut Round) -> Result<Resident, TwinError> {
        let before = self.figures.get(document).copied().unwrap_or_default();
        let stored = self.file()?.read(document)?;
        let loaded = stored.map(|stored| {
            let actor = self.actor();
            Twin::load(actor, &stored.saved, &stored.appended).map(|twin| (twin, stored.appended.len()))
        });
        match loaded {
            Some(Ok((mut twin, appended))) => {
                if before.entropy != self.name.entropy {
                    // Its new name stands in whole saves alone.
                    round.write(document, twin.save());
                    self.note(document, &twin);
                }
                Ok(Resident { twin, appended, used: 0, busy: true })
            }
            lost => {
                let why = lost.and_then(Result::err).map_or("it is not there".to_owned(), |e| e.to_string());
                tracing::error!(%document, why, "a twin cannot be read; it is put aside, and comes again from the hub");
                self.file()?.put_aside(document)?;
                // What it wrote by its name is not known any more.
                self.rename();
                let mut twin = empty(self.name.entropy)?;
                round.write(document, twin.save());
                self.note(document, &twin);
                Ok(Resident { twin, appended: 0, used: 0, busy: true })
            }
        }
    }

    fn note(&mut self, document: &DocumentId, twin: &Twin) {
        let of = self.figures.entry(document.clone()).or_default();
        of.unconfirmed = twin.unconfirmed();
        let hex = twin.actor().hex();
        // The first two digits say at which end it is.
        for (byte, digits) in of.entropy.iter_mut().zip(hex.as_bytes().chunks(2).skip(1)) {
            *byte =
                std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok()).unwrap_or(0);
        }
    }

    /// Adds whole saves of documents of which much was appended.
    pub fn fold(&mut self, records: &mut Vec<(DocumentId, Record)>) {
        let mut added: BTreeMap<DocumentId, usize> = BTreeMap::new();
        for (document, record) in records.iter() {
            let is_whole = matches!(record.write, Write::Replace(_));
            let count = added
                .entry(document.clone())
                .or_insert_with(|| self.residents.get(document).map_or(0, |resident| resident.appended));
            *count = if is_whole { 0 } else { *count + 1 };
        }
        for (document, count) in added {
            let Some(resident) = self.residents.get_mut(&document) else { continue };
            resident.appended = count;
            if count > APPENDED_MAX {
                let record = resident.twin.save();
                resident.appended = 0;
                records.push((document, record));
            }
        }
    }

    /// Counts what is not confirmed of a document in memory.
    pub fn count(&mut self, document: &DocumentId) {
        if let Some(resident) = self.residents.remove(document) {
            self.note(document, &resident.twin);
            self.residents.insert(document.clone(), resident);
        }
    }

    /// Makes records durable with what is known of their documents.
    pub fn commit(&mut self, entries: &[Entry<'_>]) -> Result<(), FileError> {
        let mut figures = BTreeMap::new();
        for Entry { document, .. } in entries {
            self.count(document);
            figures.extend(self.figures.get(document).map(|of| ((*document).clone(), *of)));
        }
        let name = self.name;
        self.file()?.commit(name, entries, &figures)?;
        self.renamed = false;
        Ok(())
    }

    /// A record is durable.
    pub fn written(&mut self, document: &DocumentId, record: &Record) {
        if let Some(resident) = self.residents.get_mut(document) {
            resident.twin.handle_durable(record.ticket);
        }
    }

    /// After a failed write: what is in memory may not be in the file.
    pub fn forget(&mut self) {
        self.file = None;
        self.residents.clear();
        if let Err(error) = self.file() {
            tracing::error!(%error, "the file of the twins cannot be opened again");
        }
    }

    /// Leaves those to the file that were not used for a while; all must be written there.
    pub fn rest(&mut self) {
        for resident in self.residents.values_mut() {
            if !std::mem::take(&mut resident.busy) {
                resident.used = 0;
            }
        }
    }

    /// Whether there are so many in memory that what waits should be written, to leave them to the file.
    pub fn is_crowded(&self) -> bool {
        self.residents.len() > RESIDENT_MAX
    }

    /// Leaves to the file what rests, and the longest unused of too many. All must be written there.
    pub fn evict(&mut self) {
        self.residents.retain(|_, resident| resident.used > 0);
        while self.is_crowded() {
            let oldest = self.residents.iter().min_by_key(|(_, resident)| resident.used);
            let Some(document) = oldest.map(|(document, _)| document.clone()) else { return };
            self.residents.remove(&document);
        }
    }
}

/// The random part of a name.
fn entropy() -> Entropy {
    let mut bytes = [0; 15];
    if let Err(error) = getrandom::fill(&mut bytes) {
        // A name that another replica has is found out and parted from.
        tracing::error!(%error, "there is no randomness for a replica's name");
    }
    bytes
}
