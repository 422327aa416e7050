//! Who a client is, and which topics are its own.

use std::net::SocketAddr;

use tideline_link::link::line::{Peer, Proof};
use tideline_link::mqtt::prefix;
use tideline_protocol::model::AgentId;

use super::DEVICE_TOKEN_PREFIX;
use super::speech::Fault;
use crate::hub::Hub;
use crate::metadata::{DeviceRecord, DeviceTokenRecord, MetadataError};
use crate::secret;

/// What a client has proved, and what to look at again when something was revoked.
#[derive(Debug, Clone)]
pub struct Client {
    /// Who it is.
    pub peer: Peer,
    // The id of its token, unless it has a certificate.
    token: Option<String>,
}

/// Lets in who has a certificate of this hub's, or a token of it as the password. The user name says
/// nothing that the token does not; where it is given it must be the device's id.
///
/// # Errors
/// Neither is good, or the device is not registered or revoked.
pub fn admit(
    hub: &Hub,
    certified: Option<Peer>,
    user: Option<&str>,
    password: Option<&[u8]>,
    remote: SocketAddr,
) -> Result<Client, Fault> {
    let client = match certified {
        Some(peer) => Client { peer, token: None },
        None => by_token(hub, user, password, remote)?,
    };
    still_good(hub, &client)?;
    Ok(client)
}

/// Looks again whether a client may stay.
///
/// # Errors
/// Its token or its device was revoked.
pub fn still_good(hub: &Hub, client: &Client) -> Result<(), Fault> {
    let agent = &client.peer.agent;
    if let Some(id) = &client.token
        && hub.metadata.find::<DeviceTokenRecord>(id).map_err(failed)?.is_none()
    {
        return Err(Fault::Administrative("the device token was revoked".to_owned()));
    }
    match hub.metadata.find::<DeviceRecord>(agent.as_str()).map_err(failed)? {
        Some(own) if own.revoked => Err(Fault::Administrative(format!("device {agent} was revoked"))),
        Some(own) if own.agent != agent.as_str() => {
            Err(Fault::NotAuthorized(format!("{agent} is behind agent {}, which speaks for it", own.agent)))
        }
        Some(_) => Ok(()),
        // Its session is refused, which notes it, so that an operator can let it in again.
        None if matches!(client.peer.proof, Proof::Certificate(_)) => Ok(()),
        None => Err(Fault::NotAuthorized(format!("device {agent} is not registered"))),
    }
}

fn failed(error: MetadataError) -> Fault {
    tracing::error!(%error, "who is registered could not be looked up");
    Fault::Quota("the hub cannot look up devices now".to_owned())
}

fn by_token(
    hub: &Hub,
    user: Option<&str>,
    password: Option<&[u8]>,
    remote: SocketAddr,
) -> Result<Client, Fault> {
    let wrong = || {
        Fault::Credentials(
            "neither a certificate nor a device token of this hub; `cloud-hub device-token create --device ID` makes one, which is the password"
                .to_owned(),
        )
    };
    let token = password.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let parts = token.strip_prefix(DEVICE_TOKEN_PREFIX).and_then(|rest| rest.split_once('_'));
    let found = match parts {
        Some((id, secret)) => hub
            .metadata
            .find::<DeviceTokenRecord>(id)
            .map_err(failed)?
            .filter(|record| secret::same(&record.secret_hash, &secret::sha256_hex(secret.as_bytes())))
            .map(|record| (id.to_owned(), record.device)),
        None => None,
    };
    let Some((id, device)) = found else {
        if hub.logins.take(remote.ip(), hub.clock.mono_ns()).is_err() {
            return Err(Fault::Quota("too many wrong tokens from this address".to_owned()));
        }
        return Err(wrong());
    };
    if user.is_some_and(|user| user != device) {
        return Err(Fault::Credentials(format!("the token is device {device}'s; the user name is another")));
    }
    let agent = AgentId::parse(&device).map_err(|error| Fault::Credentials(error.to_string()))?;
    Ok(Client { peer: Peer { agent, proof: Proof::Token }, token: Some(id) })
}

/// Whether a client may read what a filter matches: nothing but what is below its own prefix.
pub fn may_read(agent: &AgentId, filter: &str) -> bool {
    filter.strip_prefix(&prefix(agent)).is_some_and(|rest| !rest.is_empty())
}

/// Whether a filter that may be read matches a topic that is the prefix and one more level.
pub fn matches(agent: &AgentId, filter: &str, topic: &str) -> bool {
    let own = prefix(agent);
    match (filter.strip_prefix(&own), topic.strip_prefix(&own)) {
        (Some("#" | "+"), Some(_)) => true,
        (Some(filter), Some(topic)) => filter == topic || filter == format!("{topic}/#"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_reads_below_its_own_prefix_only() {
        let agent = AgentId::parse("pump-7").unwrap();
        for good in ["tideline/v1/pump-7/down", "tideline/v1/pump-7/#", "tideline/v1/pump-7/+/x"] {
            assert!(may_read(&agent, good), "{good}");
        }
        for bad in [
            "tideline/v1/pump-70/down",
            "tideline/v1/pump-7",
            "tideline/v1/pump-7/",
            "tideline/v1/+/down",
            "tideline/#",
            "#",
            "$share/g/tideline/v1/pump-7/down",
            "$SYS/#",
        ] {
            assert!(!may_read(&agent, bad), "{bad}");
        }
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        let agent = AgentId::parse("pump-7").unwrap();
        let down = "tideline/v1/pump-7/down";
        for good in [down, "tideline/v1/pump-7/#", "tideline/v1/pump-7/+", "tideline/v1/pump-7/down/#"] {
            assert!(matches(&agent, good, down), "{good}");
        }
        for bad in ["tideline/v1/pump-7/up", "tideline/v1/pump-7/down/x", "tideline/v1/pump-7/+/down"] {
            assert!(!matches(&agent, bad, down), "{bad}");
        }
    }
}
