//! The models of a SunSpec device: found before it is polled, and found again whenever it may be another device that
//! answers, as after a new connection. No I/O.

use tideline_profiles::form::protocol::SunSpecTable;
use tideline_profiles::sunspec::{Common, Discovery, ModelAt, Step};

/// The search for models.
#[derive(Debug)]
pub struct Chain {
    table: SunSpecTable,
    discovery: Discovery,
    // What is known, and on which connection that was found.
    found: Option<u64>,
    // The connection that the search goes on over; none before its first answer.
    on: Option<u64>,
    // Who it says that it is, once asked; an empty one when it does not say.
    common: Option<Common>,
}

/// All that is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The models, in their order.
    pub models: Vec<ModelAt>,
    /// Who it says that it is.
    pub common: Common,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// These holding registers are to be read.
    Read {
        /// The first.
        start: u16,
        /// How many.
        count: u16,
    },
    /// All is known.
    Found(Found),
    /// There is nothing to be found; says why.
    Failed(String),
}

impl Chain {
    /// Nothing is known yet.
    pub fn new(table: &SunSpecTable) -> Self {
        let (table, discovery) = (table.clone(), Discovery::new(table));
        Self { table, discovery, found: None, on: None, common: None }
    }

    /// Whether what was found is true of who answers on this connection.
    pub fn is_known(&self, connection: Option<u64>) -> bool {
        self.found.is_some() && self.found == connection
    }

    /// It may be another one by now, or have other models.
    pub fn forget(&mut self) {
        *self = Self::new(&self.table);
    }

    /// What is to be done next.
    pub fn poll(&self) -> Wanted {
        match (self.discovery.poll(), &self.common) {
            (Step::Read { start, count }, _) => Wanted::Read { start, count },
            (Step::Failed(error), _) => Wanted::Failed(error.to_string()),
            (Step::Done(models), Some(common)) => Wanted::Found(Found { models, common: common.clone() }),
            (Step::Done(models), None) => match Common::place(&models) {
                Some((start, count)) => Wanted::Read { start, count },
                None => Wanted::Found(Found { models, common: Common::default() }),
            },
        }
    }

    /// Takes the answer that came over this connection to what was to be read; none when the device refused.
    pub fn handle(&mut self, connection: Option<u64>, words: Option<&[u16]>) {
        if self.on.is_some() && self.on != connection {
            // What was found so far may be of another device.
            self.forget();
            return;
        }
        self.on = connection;
        match self.discovery.poll() {
            Step::Done(_) => self.common = Some(words.map(Common::of).unwrap_or_default()),
            _ => self.discovery.handle(words),
        }
    }

    /// What was found is used from now on.
    pub const fn keep(&mut self) {
        self.found = self.on;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mark, the common model and the end of the list, from register 40000 on.
    fn device(maker: &str) -> Vec<u16> {
        let mut words = vec![0x5375, 0x6E53, 1, 66];
        words.resize(70, 0);
        for (at, pair) in maker.as_bytes().chunks(2).enumerate() {
            words[4 + at] = u16::from_be_bytes([pair[0], pair[1]]);
        }
        [words, vec![0xFFFF, 0]].concat()
    }

    fn answer(chain: &mut Chain, connection: u64, words: &[u16]) -> bool {
        let Wanted::Read { start, count } = chain.poll() else { return false };
        let at = usize::from(start - 40_000);
        chain.handle(Some(connection), words.get(at..at + usize::from(count)));
        true
    }

    #[test]
    fn models_and_maker_are_found_and_known_on_their_connection_only() {
        let mut chain = Chain::new(&SunSpecTable::default());
        while answer(&mut chain, 7, &device("Sun!")) {}
        let Wanted::Found(found) = chain.poll() else { panic!("{:?}", chain.poll()) };
        assert_eq!(found.models, [ModelAt { id: 1, start: 40_002, length: 66, blocks: None }]);
        assert_eq!(found.common.maker, "Sun!");
        assert!(!chain.is_known(Some(7)));
        chain.keep();
        assert!(chain.is_known(Some(7)) && !chain.is_known(Some(8)) && !chain.is_known(None));
    }

    #[test]
    fn a_search_that_changes_its_connection_begins_again() {
        let mut chain = Chain::new(&SunSpecTable::default());
        assert!(answer(&mut chain, 7, &device("Sun!")) && answer(&mut chain, 7, &device("Sun!")));
        chain.handle(Some(8), Some(&[103, 50]));
        assert_eq!(chain.poll(), Wanted::Read { start: 40_000, count: 2 });
    }
}
