//! What is said of twins and of what devices share, and to whom.

use super::*;
use crate::wire::{GROUPS_ABILITY, TWIN_ABILITY};

#[test]
fn twins_are_spoken_of_where_both_ends_know_them_and_ahead_of_readings() {
    let sync = TwinSync { document: "pump-7".parse().unwrap(), message: vec![1] };
    for knows in [false, true] {
        let mut pair = Pair::new(3, Settlement::default());
        let capabilities = if knows { vec![TWIN_ABILITY.to_owned()] } else { vec![] };
        let hello = Hello { capabilities, ..hello(0) };
        pair.agent = AgentSession::new(0, hello, empty_spool(), BackfillBudget::default());
        pair.agent.handle_twin(sync.clone());
        pair.settle_down();
        assert!(pair.twins.is_empty(), "not before the welcome");
        pair.agent.handle_appended(Seq::new(1), 0);
        pair.agent.handle_twin(sync.clone());
        if knows {
            let first = pair.agent.poll(1).unwrap();
            assert_eq!(first, Some(AgentAction::Send(Message::Twin(sync.clone()))));
            pair.hub.handle_message(0, Message::Twin(sync.clone())).unwrap();
        } else {
            // From an end that did not name it, it is out of place.
            assert!(pair.hub.handle_message(0, Message::Twin(sync.clone())).is_err());
            continue;
        }
        pair.settle_down();
        assert_eq!(pair.twins, vec![sync.clone()]);
    }
}

#[test]
fn documents_of_groups_are_spoken_of_where_both_ends_know_them_too() {
    let sync = |name: &str| TwinSync { document: name.parse().unwrap(), message: vec![1] };
    let (site, group) = (sync("site/hall"), sync("group/pumps"));
    for knows in [false, true] {
        let mut pair = Pair::new(0, Settlement::default());
        let groups = knows.then(|| GROUPS_ABILITY.to_owned());
        let capabilities = [TWIN_ABILITY.to_owned()].into_iter().chain(groups).collect();
        let hello = Hello { capabilities, ..hello(0) };
        pair.agent = AgentSession::new(0, hello, empty_spool(), BackfillBudget::default());
        pair.settle_down();
        for said in [&group, &site] {
            pair.agent.handle_twin(said.clone());
        }
        pair.settle_down();
        let expected = if knows { vec![group.clone(), site.clone()] } else { vec![site.clone()] };
        assert_eq!(std::mem::take(&mut pair.twins), expected, "to the hub");
        for said in [&group, &site] {
            pair.hub.handle_twin(said.clone());
        }
        pair.settle_down();
        assert_eq!(pair.twins, expected, "to the agent");
        if !knows {
            // From an end that did not name the ability they are out of place.
            assert!(pair.agent.handle_message(pair.now_ns, 0, Message::Twin(group.clone())).is_err());
            assert!(pair.hub.handle_message(0, Message::Twin(group.clone())).is_err());
        }
    }
}
