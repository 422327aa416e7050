//! Units of a bus, known by their registers.

use std::collections::HashMap;
use std::time::Duration;

use tideline_link::errln;
use tideline_profiles::Profile;
use tideline_profiles::detect::{Signs, has_models};
use tideline_profiles::form::protocol::Function;
use tideline_profiles::modbus::Request;
use tideline_profiles::sunspec::{Discovery, ModelAt, Step};

use super::Found;
use crate::config::ModbusLine;
use crate::source::modbus::bus::{Bus, Call, Trouble};

/// Least time between two requests: some devices miss one that comes at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks all of these units for the signs of all families. Gives those that answer.
///
/// # Errors
/// The bus cannot be reached.
pub async fn look(
    line: ModbusLine,
    units: &[u8],
    limit: Duration,
    families: &[Profile],
) -> Result<Vec<Found>, Trouble> {
    let signs: Vec<(&str, Signs)> =
        families.iter().filter_map(|family| Some((family.name(), Signs::of(family)?))).collect();
    let of_registers = |(_, signs): &(&str, Signs)| !matches!(signs, Signs::Messages(_));
    let signs: Vec<(&str, Signs)> = signs.into_iter().filter(of_registers).collect();
    let mut bus = Bus::new(line, None);
    let mut found = Vec::new();
    for number in units {
        let mut unit = Unit { bus: &mut bus, number: *number, limit, known: HashMap::new(), answers: false };
        match unit.families(&signs).await {
            Ok(families) if unit.answers => found.push(Found { address: number.to_string(), families }),
            Err(error) if error.is_of_the_bus() && found.is_empty() => return Err(error),
            // A gateway with one place for a connection may still hold the one that was dropped.
            Err(error) if error.is_of_the_bus() => errln!("unit {number} was not asked: {error}"),
            // It was asked often enough to know that nobody is there, or that it is none of these.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(found)
}

struct Unit<'b> {
    bus: &'b mut Bus,
    number: u8,
    limit: Duration,
    // What it has answered; none where it refused.
    known: HashMap<(&'static str, u16, u16), Option<Vec<u16>>>,
    answers: bool,
}

impl Unit<'_> {
    /// The names of the families that it may be of, the nearest first.
    async fn families(&mut self, signs: &[(&str, Signs)]) -> Result<Vec<String>, Trouble> {
        let mut found = Vec::new();
        for (name, signs) in signs {
            if self.shows(signs).await? {
                found.push((signs.count(), (*name).to_owned()));
            }
        }
        found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    async fn shows(&mut self, signs: &Signs) -> Result<bool, Trouble> {
        match signs {
            Signs::Registers(signs) => {
                for sign in signs {
                    let words = self.read(&sign.request()).await?;
                    if !words.is_some_and(|words| sign.holds(&words)) {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Signs::Models(table, wanted) => {
                let mut discovery = Discovery::new(table);
                let found: Vec<ModelAt> = loop {
                    match discovery.poll() {
                        Step::Read { start, count } => {
                            let words = self.read(&Request::plain(Function::Holding, start, count)).await?;
                            discovery.handle(words.as_deref());
                        }
                        Step::Done(models) => break models,
                        Step::Failed(_) => break Vec::new(),
                    }
                };
                Ok(has_models(&found, wanted))
            }
            Signs::Messages(_) => Ok(false),
        }
    }

    /// What stands there; none when it refuses.
    async fn read(&mut self, request: &Request) -> Result<Option<Vec<u16>>, Trouble> {
        let key = (request.function.as_str(), request.start, request.count);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let Request { function, start, count, .. } = *request;
        let call = Call::Read { function, start, count };
        let words = match self.bus.call(self.number, call, self.limit, PAUSE).await {
            Ok(words) => Some(words),
            Err(trouble) if trouble.is_of_one_request() => None,
            // Some devices are silent where they have no register.
            Err(Trouble::Silent(_)) if self.answers => None,
            Err(trouble) => return Err(trouble),
        };
        self.answers = true;
        self.known.insert(key, words.clone());
        Ok(words)
    }
}
