//! QUIC endpoints over something else than a UDP socket, which carries datagrams as it can: late,
//! twice, or not at all.

use std::sync::Arc;

use quinn::congestion::{BbrConfig, CubicConfig, NewRenoConfig};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};

use super::{ClientEndpoint, Congestion, INCOMING_MAX, LinkError, LinkOptions, ServerEndpoint, transport};

impl ServerEndpoint {
    /// As [`Self::bind_with`], over a socket that takes datagrams of up to `datagram_bytes_max`. A peer
    /// stays at the address where its link began.
    ///
    /// # Errors
    /// The configuration cannot do QUIC, or `datagram_bytes_max` is no size that QUIC allows.
    pub fn over(
        socket: Arc<dyn AsyncUdpSocket>,
        tls: rustls::ServerConfig,
        options: &LinkOptions,
        datagram_bytes_max: u16,
    ) -> Result<Self, LinkError> {
        let crypto = QuicServerConfig::try_from(tls).map_err(LinkError::config)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(sized(transport(options, 1)?, options, datagram_bytes_max)));
        config.max_incoming(INCOMING_MAX);
        config.migration(false);
        let endpoint = over(socket, Some(config), datagram_bytes_max)?;
        Ok(Self { endpoint })
    }
}

impl ClientEndpoint {
    /// As [`Self::bind_with`], over a socket that takes datagrams of up to `datagram_bytes_max`.
    ///
    /// # Errors
    /// `datagram_bytes_max` is no size that QUIC allows.
    pub fn over(
        socket: Arc<dyn AsyncUdpSocket>,
        options: &LinkOptions,
        datagram_bytes_max: u16,
    ) -> Result<Self, LinkError> {
        let endpoint = over(socket, None, datagram_bytes_max)?;
        Ok(Self { endpoint, transport: Arc::new(sized(transport(options, 0)?, options, datagram_bytes_max)) })
    }
}

fn over(
    socket: Arc<dyn AsyncUdpSocket>,
    server: Option<quinn::ServerConfig>,
    datagram_bytes_max: u16,
) -> Result<Endpoint, LinkError> {
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(datagram_bytes_max).map_err(LinkError::config)?;
    Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
        .map_err(LinkError::config)
}

/// Nothing below fragments, so the largest datagram is the first that is tried; and ten of them are the
/// first window (RFC 9002, section 7.2), or not even one would fit into it.
fn sized(mut config: TransportConfig, options: &LinkOptions, datagram_bytes_max: u16) -> TransportConfig {
    config.initial_mtu(datagram_bytes_max).min_mtu(datagram_bytes_max).mtu_discovery_config(None);
    let window = u64::from(datagram_bytes_max) * 10;
    match options.congestion {
        Congestion::Cubic => {
            let mut cubic = CubicConfig::default();
            cubic.initial_window(window);
            config.congestion_controller_factory(Arc::new(cubic))
        }
        Congestion::Bbr => {
            let mut bbr = BbrConfig::default();
            bbr.initial_window(window);
            config.congestion_controller_factory(Arc::new(bbr))
        }
        Congestion::NewReno => {
            let mut reno = NewRenoConfig::default();
            reno.initial_window(window);
            config.congestion_controller_factory(Arc::new(reno))
        }
    };
    config
}
