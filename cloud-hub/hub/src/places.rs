//! Places for what takes room as long as it lasts: so many in all, and so many for each party, so
//! that one cannot take them all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub all: usize,
    /// For one party.
    pub each: usize,
}

/// Whose limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Nobody gets one more.
    All,
    /// The party has all that it may have.
    Each,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by_party: HashMap<K, usize>,
}

/// The places.
#[derive(Debug)]
pub struct Places<K: Hash + Eq> {
    limits: Limits,
    taken: Arc<Mutex<Taken<K>>>,
}

/// One place; dropped, it is free again.
#[derive(Debug)]
pub struct Place<K: Hash + Eq> {
    taken: Arc<Mutex<Taken<K>>>,
    // None when the party is not counted by itself.
    party: Option<K>,
}

fn locked<K>(taken: &Mutex<Taken<K>>) -> MutexGuard<'_, Taken<K>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq + Clone> Places<K> {
    /// All places free.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, taken: Arc::new(Mutex::new(Taken { all: 0, by_party: HashMap::new() })) }
    }

    /// Takes a place for a party; without one it counts in all only.
    ///
    /// # Errors
    /// There is none left, for this party or for anybody.
    pub fn take(&self, party: Option<K>) -> Result<Place<K>, Full> {
        let mut taken = locked(&self.taken);
        if taken.all >= self.limits.all {
            return Err(Full::All);
        }
        if let Some(party) = &party {
            let own = taken.by_party.entry(party.clone()).or_default();
            if *own >= self.limits.each {
                return Err(Full::Each);
            }
            *own += 1;
        }
        taken.all += 1;
        Ok(Place { taken: Arc::clone(&self.taken), party })
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        locked(&self.taken).all
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        taken.all = taken.all.saturating_sub(1);
        let Some(party) = &self.party else { return };
        if let Some(own) = taken.by_party.get_mut(party) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_party.remove(party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_by_party_and_in_all_and_come_back() {
        let places = Places::new(Limits { all: 5, each: 2 });
        let mut eve = vec![places.take(Some("eve")).unwrap(), places.take(Some("eve")).unwrap()];
        assert_eq!(places.take(Some("eve")).unwrap_err(), Full::Each);
        let others = [places.take(Some("ann")).unwrap(), places.take(None).unwrap()];
        eve.pop();
        eve.push(places.take(Some("eve")).unwrap());
        let last = places.take(None).unwrap();
        assert_eq!(places.take(Some("bob")).unwrap_err(), Full::All);
        assert_eq!(places.taken(), 5);
        drop((eve, others, last));
        assert_eq!(places.taken(), 0);
        assert!(locked(&places.taken).by_party.is_empty());
    }
}
