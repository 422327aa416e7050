//! The socket and the local page: who may ask, and what they answer.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use edge_agent::agreement::Auditor;
use edge_agent::serve;
use edge_agent::status::Board;
use edge_agent::sync::{Syncer, Wake};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{LONG, readings, spool};

/// The status line and the body of an answer.
pub async fn ask(addr: SocketAddr, request: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = answer(addr, request, headers).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

/// A whole answer.
pub async fn answer(addr: SocketAddr, request: &str, headers: &[(&str, &str)]) -> String {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut text = format!("{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n");
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn the_page_answers_under_its_own_address_only() {
    let (addr, task) = serve::page("127.0.0.1:0", Board::default()).await.unwrap();
    let (port, own) = (addr.port(), addr.to_string());
    for (host, origin, expected) in [
        (own.as_str(), None, 200),
        (&format!("localhost:{port}"), None, 200),
        (&format!("[::1]:{port}"), None, 200),
        (&own, Some(format!("http://{own}")), 200),
        (&own, Some(format!("https://{own}")), 403),
        (&own, Some("http://evil.example".to_owned()), 403),
        (&own, Some("null".to_owned()), 403),
        (&format!("evil.example:{port}"), None, 403),
        ("evil.example", Some("http://evil.example".to_owned()), 403),
        ("", None, 403),
    ] {
        let mut headers = vec![("Host", host)];
        headers.extend(origin.as_deref().map(|origin| ("Origin", origin)));
        for path in ["/", "/status", "/metrics", "/livez"] {
            let (status, body) = ask(addr, &format!("GET {path}"), &headers).await;
            assert_eq!(status, expected, "{path} {headers:?}");
            assert!(status == 200 || !body.contains("tideline"), "{path} {headers:?}");
        }
    }
    task.abort();
}

#[tokio::test]
async fn the_page_takes_no_commands() {
    let (addr, task) = serve::page("127.0.0.1:0", Board::default()).await.unwrap();
    let headers = [("Host", "localhost")];
    assert_eq!(ask(addr, "POST /sync?timeout_ms=1", &headers).await.0, 404);
    assert_eq!(ask(addr, "POST /status", &headers).await.0, 405);
    task.abort();
}

#[tokio::test]
async fn status_readiness_and_metrics_show_the_spool() {
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    let (addr, task) = serve::page("127.0.0.1:0", board.clone()).await.unwrap();
    let headers = [("Host", "localhost")];
    assert_eq!(ask(addr, "GET /livez", &headers).await.0, 200);
    assert_eq!(ask(addr, "GET /readyz", &headers).await.0, 503, "no readings can be kept yet");
    let spool = spool(folder.path(), &board);
    spool.append(readings(7), Vec::new()).await.unwrap();
    assert_eq!(ask(addr, "GET /readyz", &headers).await, (200, "ok".into()));
    board.source("rows \"a\"", |source| source.accepted = 3);
    board.rejected("rows \"a\"", 2, "bad");
    board.update(|status| {
        status.breaker.state = "open".into();
        status.breaker.failures = 4;
        status.drops.insert("quota".into(), 6);
    });
    let (_, metrics) = ask(addr, "GET /metrics", &headers).await;
    for line in [
        "# TYPE tideline_agent_rows_produced_total counter\ntideline_agent_rows_produced_total 7\n",
        "# TYPE tideline_agent_rows_pending gauge\ntideline_agent_rows_pending 7\n",
        "tideline_agent_connected 0\n",
        "# TYPE tideline_agent_breaker_state gauge\ntideline_agent_breaker_state{state=\"closed\"} 0\n",
        "tideline_agent_breaker_state{state=\"open\"} 1\n",
        "tideline_agent_breaker_failures 4\n",
        "tideline_agent_source_accepted_total{source=\"rows \\\"a\\\"\"} 3\n",
        "tideline_agent_source_rejected_total{source=\"rows \\\"a\\\"\"} 2\n",
        "tideline_agent_rows_given_up{cause=\"quota\"} 6\n",
        "\ntideline_agent_flash_written_bytes_total ",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let (_, status) = ask(addr, "GET /status", &headers).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["account"]["pending"], 7);
    assert_eq!(status["epoch"], spool.state().borrow().epoch.to_string());
    assert!(status["sources"].is_array() && status["config"]["needs_restart"].is_array());
    task.abort();
}

#[tokio::test]
async fn the_socket_is_its_owners_and_there_is_one_agent_to_a_folder() {
    let (folder, board) = (tempfile::tempdir().unwrap(), Board::default());
    let data = folder.path();
    let syncer = Syncer { spool: spool(data, &board), board, wake: Wake::default() };
    let (auditor, _questions) = Auditor::new(syncer.spool.clone(), syncer.board.clone());
    let task = serve::socket(
        serve::bind_socket(data).await.unwrap(),
        syncer.clone(),
        auditor.clone(),
        Default::default(),
        Default::default(),
        Default::default(),
    );
    let mode = std::fs::metadata(serve::socket_path(data)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = serve::bind_socket(data).await.unwrap_err();
    assert!(second.to_string().contains("another agent runs on"), "{second}");
    assert!(serve::ask_status(data).await.is_ok(), "the first is not disturbed");
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    // What a killed agent left behind hinders nobody.
    assert!(serve::socket_path(data).exists());
    let task = serve::socket(
        serve::bind_socket(data).await.unwrap(),
        syncer,
        auditor,
        Default::default(),
        Default::default(),
        Default::default(),
    );
    assert!(serve::ask_status(data).await.is_ok());
    task.abort();
}
