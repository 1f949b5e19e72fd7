//! The server over real connections on a port of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use super::*;

struct Pages;

impl Site for Pages {
    fn page(&self, path: &str) -> Option<Page> {
        let page = |good, body: &str| Some(Page { good, kind: TEXT, body: body.into() });
        match path {
            "/good" => page(true, "all is well\n"),
            "/bad" => page(false, "not yet\n"),
            _ => None,
        }
    }
}

/// A free port; nobody else of this process takes it before it is listened at.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn ask(address: SocketAddr, question: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(question).unwrap();
    let mut text = Vec::new();
    // A connection that is refused in the middle of a question may end with a reset.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn pages_are_served_and_what_is_none_says_what_there_is() {
    let address = free();
    let _http = start(address, Arc::new(Pages)).unwrap();
    let get = |path: &str| ask(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    let good = get("/good?x=1");
    assert!(good.starts_with("HTTP/1.1 200 OK\r\n") && good.ends_with("\r\n\r\nall is well\n"), "{good}");
    assert!(good.contains("content-type: text/plain; charset=utf-8\r\n"), "{good}");
    assert!(get("/bad").starts_with("HTTP/1.1 503 "));
    let none = get("/");
    assert!(none.starts_with("HTTP/1.1 404 ") && none.contains("/metrics, /healthz"), "{none}");
    let head = ask(address, b"HEAD /good HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.contains("content-length: 12\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    let post = ask(address, b"POST /good HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"), "{post}");
}

#[test]
fn what_is_no_request_or_too_long_a_one_is_refused() {
    let address = free();
    let _http = start(address, Arc::new(Pages)).unwrap();
    assert!(ask(address, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let long = format!("GET /good HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(2 * REQUEST));
    let said = ask(address, long.as_bytes());
    assert!(!said.contains("200 OK"), "{said}");
}

#[test]
fn those_who_say_nothing_take_all_places_only_while_they_stay() {
    let address = free();
    let _http = start(address, Arc::new(Pages)).unwrap();
    let silent: Vec<_> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut late = TcpStream::connect(address).unwrap();
    late.write_all(b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    late.set_nonblocking(true).unwrap();
    assert_eq!(late.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "all places are taken");
    late.set_nonblocking(false).unwrap();
    drop(silent);
    let mut text = String::new();
    late.read_to_string(&mut text).unwrap();
    assert!(text.contains("all is well"), "{text}");
}

#[test]
fn an_address_in_use_is_an_error_and_the_port_is_free_again_when_the_server_goes() {
    let address = free();
    let http = start(address, Arc::new(Pages)).unwrap();
    assert_eq!(start(address, Arc::new(Pages)).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert!(serve(&Settings { listen: address }, Arc::new(Pages)).is_none());
    drop(http);
    let begun = std::time::Instant::now();
    while start(address, Arc::new(Pages)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the port stays taken");
        std::thread::sleep(Duration::from_millis(5));
    }
}
