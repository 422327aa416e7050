//! Requests to a server that says one thing.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::commands::address::Prefix;

/// Answers each connection so, and gives the heads of what was asked. An empty answer never comes.
async fn server(answer: &'static str) -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/api/", listener.local_addr().unwrap());
    let (heads, asked) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            heads.send(String::from_utf8(head).unwrap()).unwrap();
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

async fn bench_for(address: &str) -> Bench {
    let http_allow = vec![Prefix::parse(address).unwrap()];
    let jobs = Jobs { http_allow, ..Jobs::default() };
    let bench = Bench::with(tempfile::tempdir().unwrap(), jobs).await;
    bench.learn_time();
    bench
}

#[tokio::test]
async fn a_request_goes_to_what_is_allowed_and_its_answer_is_the_result() {
    let (address, mut asked) =
        server("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\ndone").await;
    let mut bench = bench_for(&address).await;
    let input = format!(r#"{{"url":"{address}valve?open=1","method":"post","headers":{{"x-who":"eve"}}}}"#);
    bench.give("http", &input).await;
    let (said, _) = bench.end().await;
    assert_eq!((said.state, said.error), (CommandState::Succeeded, None));
    let result: serde_json::Value = serde_json::from_slice(&said.result.unwrap()).unwrap();
    assert_eq!((&result["status"], &result["body"]), (&200.into(), &"done".into()));
    let head = asked.recv().await.unwrap();
    assert!(head.starts_with("POST /api/valve?open=1 HTTP/1.1\r\n") && head.contains("x-who: eve"), "{head}");
    for (more, code) in [
        (r#""headers":{"host":"x"}"#, errors::BAD_INPUT),
        (r#""headers":{"x":"a\nb"}"#, errors::BAD_INPUT),
        (r#""method":"connect""#, errors::BAD_INPUT),
    ] {
        bench.give("http", &format!(r#"{{"url":"{address}",{more}}}"#)).await;
        assert_eq!(bench.end().await.0.error.unwrap().code, code, "{more}");
    }
    bench.give("http", &format!(r#"{{"url":"{address}../other"}}"#)).await;
    assert_eq!(bench.end().await.0.error.unwrap().code, errors::NOT_ALLOWED);
    assert!(asked.try_recv().is_err(), "nothing was asked of what is not allowed");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_an_answer_that_does_not_come_is_not_waited_for() {
    let (address, mut asked) =
        server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    let mut bench = bench_for(&address).await;
    bench.give("http", &format!(r#"{{"url":"{address}"}}"#)).await;
    let error = bench.end().await.0.error.unwrap();
    assert_eq!(error.code, errors::FAILED);
    assert!(error.text.contains("302"), "{}", error.text);
    assert!(asked.recv().await.is_some());
    let (silent, mut asked) = server("").await;
    let mut bench = bench_for(&silent).await;
    bench.give("http", &format!(r#"{{"url":"{silent}","timeout_ms":200}}"#)).await;
    assert_eq!(bench.end().await.0.error.unwrap().code, errors::TIMEOUT);
    assert!(asked.recv().await.is_some());
    // Nobody is there any more: nothing was done, and it may be tried again.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut bench = bench_for(&format!("http://{free}/")).await;
    bench.give("http", &format!(r#"{{"url":"http://{free}/"}}"#)).await;
    assert_eq!(bench.end().await.0.error.unwrap().code, errors::UNAVAILABLE);
}
