//! A connected rumqttc client, and what its errors mean for a link.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet, QoS, StateError,
    SubscribeReasonCode, TlsConfiguration, TlsError, Transport,
};

use super::{INFLIGHT_MAX, KEEP_ALIVE, PACKET_BYTES_MAX, Server};
use crate::quic::{LinkError, is_certificate_alert_number, resolve};

/// Most payloads between a link and its client.
const REQUESTS_MAX: usize = 4;
/// Longest wait for room on the line, as long as a session waits.
const FLUSH_MAX: Duration = Duration::from_secs(30);

/// A client with its subscription made.
pub(super) struct Connected {
    pub(super) client: AsyncClient,
    pub(super) events: EventLoop,
    /// Where the server is, by the first of its addresses.
    pub(super) remote: SocketAddr,
}

/// Connects and subscribes to `filter`.
pub(super) async fn open(server: &Server, filter: &str, timeout: Duration) -> Result<Connected, LinkError> {
    let opening = async {
        let remote = resolve(&server.address(), timeout).await?;
        let remote = *remote.first().ok_or(LinkError::TimedOut)?;
        let (client, mut events) = AsyncClient::new(options(server)?, REQUESTS_MAX);
        events.network_options.set_connection_timeout(FLUSH_MAX.as_secs()).set_tcp_nodelay(true);
        wait_for(&mut events, |packet| matches!(packet, Packet::ConnAck(_)).then_some(Ok(()))).await?;
        let subscribe = client.subscribe(filter, QoS::AtLeastOnce);
        subscribe.await.map_err(|error| LinkError::Lost { reason: error.to_string() })?;
        wait_for(&mut events, |packet| match packet {
            Packet::SubAck(ack) => Some(granted(filter, &ack.return_codes)),
            _ => None,
        })
        .await?;
        Ok(Connected { client, events, remote })
    };
    tokio::time::timeout(timeout, opening).await.map_err(|_| LinkError::TimedOut)?
}

fn options(server: &Server) -> Result<MqttOptions, LinkError> {
    // A name that nobody can guess: whoever connects under the same one puts this client out.
    let mut random = [0_u8; 12];
    getrandom::fill(&mut random).map_err(LinkError::config)?;
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = MqttOptions::new(format!("tideline{id}"), &server.host, server.port);
    options
        .set_clean_session(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX)
        .set_inflight(INFLIGHT_MAX);
    if let Some((user, password)) = &server.login {
        options.set_credentials(user, password);
    }
    if let Some(tls) = &server.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    Ok(options)
}

async fn wait_for<T>(
    events: &mut EventLoop,
    wanted: impl Fn(&Packet) -> Option<Result<T, LinkError>>,
) -> Result<T, LinkError> {
    loop {
        if let Event::Incoming(packet) = events.poll().await.map_err(link_error)?
            && let Some(found) = wanted(&packet)
        {
            return found;
        }
    }
}

fn granted(filter: &str, codes: &[SubscribeReasonCode]) -> Result<(), LinkError> {
    if codes.iter().any(|code| matches!(code, SubscribeReasonCode::Success(_))) {
        return Ok(());
    }
    Err(LinkError::Refused { code: 0x80, reason: format!("the server does not let this end read {filter}") })
}

/// Publishes one payload.
pub(super) async fn publish(
    client: &AsyncClient,
    topic: &str,
    qos: QoS,
    payload: Bytes,
) -> Result<(), LinkError> {
    let gone = |_| LinkError::Lost { reason: "the MQTT connection is gone".into() };
    client.publish_bytes(topic, qos, false, payload).await.map_err(gone)
}

/// What a client's error says about the link.
pub(super) fn link_error(error: ConnectionError) -> LinkError {
    match error {
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => LinkError::TimedOut,
        ConnectionError::MqttState(StateError::AwaitPingResp) => LinkError::TimedOut,
        ConnectionError::ConnectionRefused(code) => refused(code),
        ConnectionError::RequestsDone => LinkError::Closed,
        ConnectionError::Tls(TlsError::Io(error)) => io_error(&error),
        ConnectionError::Tls(error) => LinkError::Lost { reason: error.to_string() },
        ConnectionError::Io(error) => io_error(&error),
        ConnectionError::MqttState(StateError::Io(error)) => io_error(&error),
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::Io(error))) => {
            io_error(&error)
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            LinkError::Lost { reason: "the MQTT server closed the connection".into() }
        }
        other => LinkError::Lost { reason: other.to_string() },
    }
}

fn refused(code: ConnectReturnCode) -> LinkError {
    let reason = match code {
        ConnectReturnCode::BadUserNamePassword => "user name or password is wrong",
        ConnectReturnCode::NotAuthorized => "not authorized",
        ConnectReturnCode::ServiceUnavailable => "the server is not available",
        ConnectReturnCode::BadClientId => "the client's id is not allowed",
        _ => "the server does not speak MQTT 3.1.1",
    };
    // As numbered by MQTT 3.1.1, section 3.2.2.3.
    let number = match code {
        ConnectReturnCode::Success => 0,
        ConnectReturnCode::RefusedProtocolVersion => 1,
        ConnectReturnCode::BadClientId => 2,
        ConnectReturnCode::ServiceUnavailable => 3,
        ConnectReturnCode::BadUserNamePassword => 4,
        ConnectReturnCode::NotAuthorized => 5,
    };
    LinkError::Refused { code: number, reason: reason.into() }
}

fn io_error(error: &std::io::Error) -> LinkError {
    let reason = error.to_string();
    let inner = error.get_ref().and_then(|inner| (inner as &(dyn Error + 'static)).downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => LinkError::PeerCertificate { reason },
        Some(rustls::Error::AlertReceived(alert)) if is_certificate_alert_number(u8::from(*alert)) => {
            LinkError::OwnCertificate { reason }
        }
        Some(_) => LinkError::Lost { reason },
        None => match error.kind() {
            std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::HostUnreachable
            | std::io::ErrorKind::NetworkUnreachable => LinkError::Unreachable { reason },
            std::io::ErrorKind::TimedOut => LinkError::TimedOut,
            _ => LinkError::Lost { reason },
        },
    }
}
