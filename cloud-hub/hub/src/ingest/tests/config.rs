//! What agents say of their configuration over a session.

use tideline_protocol::wire::{CONFIG_ABILITY, ConfigAsked, ConfigInForce, ConfigOption, ConfigSource};

use super::*;
use crate::metadata::ConfigRecord;

async fn connect(bench: &Bench, identity: &KeyAndCert) -> Agent {
    let Message::Hello(hello) = hello("gate", Vec::new()) else { panic!("a hello") };
    let capabilities = vec![CONFIG_ABILITY.to_owned()];
    let mut agent =
        Agent::connect_with(bench, identity, Message::Hello(Hello { capabilities, ..hello })).await;
    assert_eq!(agent.welcome().await.capabilities, [CONFIG_ABILITY]);
    agent
}

fn in_force(digest: u8, value: &str) -> ConfigInForce {
    let (section, name, from) = ("batch".to_owned(), "rows_max".to_owned(), String::new());
    let value = value.to_owned();
    let option = ConfigOption { section, name, value, source: ConfigSource::File, from };
    ConfigInForce::of([digest; 16], [option])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_is_asked_for_once_and_kept_for_when_the_agent_is_away() {
    let bench = Bench::start();
    let identity = bench.enrol("gate");
    let mut agent = connect(&bench, &identity).await;
    for (digest, value) in [(1, "5"), (2, "6")] {
        let told = in_force(digest, value);
        agent.send(Message::Config(told.named())).await;
        let asked = ConfigAsked { digest: told.digest };
        assert_eq!(agent.next().await, Some(Message::ConfigAsked(asked)));
        agent.send(Message::Config(told)).await;
    }
    // Answered after what came before it was kept.
    agent.send(Message::Config(in_force(9, "9").named())).await;
    assert_eq!(agent.next().await, Some(Message::ConfigAsked(ConfigAsked { digest: [9; 16] })));
    drop(agent);
    let mut agent = connect(&bench, &identity).await;
    agent.send(Message::Config(in_force(2, "6").named())).await;
    // It is known, so that the next word is of what is not.
    agent.send(Message::Config(in_force(3, "7").named())).await;
    assert_eq!(agent.next().await, Some(Message::ConfigAsked(ConfigAsked { digest: [3; 16] })));
    let kept = bench.hub.metadata.find::<ConfigRecord>("gate").unwrap().unwrap();
    assert_eq!((kept.options.len(), kept.options[0].value.as_str()), (1, "6"));
}
