//! What is told of the agent's configuration, and to whom.

use super::*;
use crate::wire::{CONFIG_ABILITY, ConfigAsked, ConfigOption, ConfigSource};

pub fn in_force() -> ConfigInForce {
    let (section, name) = ("batch".to_owned(), "rows_max".to_owned());
    let (value, source, from) = ("9".to_owned(), ConfigSource::File, String::new());
    ConfigInForce::of([3; 16], [ConfigOption { section, name, value, source, from }])
}

/// A hub that knows no values asks for those that are only named.
pub fn hear(hub: &mut HubSession, told: ConfigInForce) -> Option<ConfigInForce> {
    if told.options.is_none() {
        hub.handle_config_lacked(told.digest);
        return None;
    }
    Some(told)
}

#[test]
fn a_configuration_is_named_and_told_to_a_hub_that_asks_and_to_no_other() {
    for knows in [false, true] {
        let mut pair = Pair::new(0, Settlement::default());
        let capabilities = if knows { vec![CONFIG_ABILITY.to_owned()] } else { vec![] };
        let hello = Hello { capabilities, ..hello(0) };
        pair.agent = AgentSession::new(0, hello, empty_spool(), BackfillBudget::default());
        pair.agent.handle_config(in_force().named());
        pair.settle_down();
        assert_eq!((pair.configs.len(), pair.agent.speaks_of_config()), (0, knows), "not before the welcome");
        pair.agent.handle_config(in_force().named());
        pair.settle_down();
        assert_eq!(pair.configs, if knows { vec![in_force()] } else { vec![] });
        if !knows {
            // From an end that did not name the ability they are out of place.
            let asked = Message::ConfigAsked(ConfigAsked { digest: [3; 16] });
            assert!(pair.agent.handle_message(pair.now_ns, 0, asked).is_err());
            assert!(pair.hub.handle_message(0, Message::Config(in_force())).is_err());
        }
    }
}
