//! What a server says before a session is opened: which servers it knows, and how they are spoken to.

use opcua_types::ApplicationDescription;
use tokio::time::timeout;

use super::{Dial, OPEN_MAX, Opening, Trouble, client, shown, told};

/// The servers that a server knows, itself among them, each with where it is; and how it may be spoken to.
///
/// # Errors
/// It is not reached, or refuses.
pub async fn offers(opening: &Opening<'_>) -> Result<(Vec<String>, Vec<String>), String> {
    let asked = timeout(OPEN_MAX, ask(opening)).await;
    asked.unwrap_or_else(|_| Err("no answer in time".into()))
}

async fn ask(opening: &Opening<'_>) -> Result<(Vec<String>, Vec<String>), String> {
    let trouble = Trouble::default();
    let client = client(opening)?;
    let dial = Dial { url: opening.server.url.clone(), trouble: trouble.clone() };
    let failed = |error: opcua_types::Error| told(&trouble, error.status(), opening);
    let servers = client.find_servers(dial.clone(), None, None).await.map_err(failed)?;
    let failed = |error: opcua_types::Error| told(&trouble, error.status(), opening);
    let ways = client.get_endpoints(dial, &[], &[]).await.map_err(failed)?;
    Ok((servers.iter().map(named).collect(), ways.iter().map(shown).collect()))
}

fn named(server: &ApplicationDescription) -> String {
    let urls: Vec<&str> = server.discovery_urls.iter().flatten().map(AsRef::as_ref).collect();
    format!("{} ({}) at {}", server.application_name.text, server.application_uri, urls.join(", "))
}
