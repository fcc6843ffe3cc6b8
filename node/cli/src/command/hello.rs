//! `dunlin hello`: a small HTTP server to try things with. Blocking, a thread a connection, no dependency.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::Done;
use crate::failure::Failure;

/// Longest wait for a request's head.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest request head.
const MAX_HEAD: u64 = 8 * 1024;
/// Connections at a time; more are closed at once.
const MAX_CLIENTS: usize = 256;

pub(super) fn run() -> Done {
    let address = std::env::var("DUNLIN_ADDRESS").ok().and_then(|a| a.parse::<IpAddr>().ok());
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let port = match std::env::var("PORT") {
        Ok(text) => text.parse::<u16>().map_err(|_| Failure::usage(format!("PORT={text} is no port"), "PORT=8080"))?,
        Err(_) => 8080,
    };
    let at = SocketAddr::new(address, port);
    let listener = TcpListener::bind(at).map_err(|e| Failure::failed(format!("cannot listen on {at}: {e}")))?;
    println!("listening on http://{at}");
    let body: Arc<str> = Arc::from(who_am_i());
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if clients.load(Ordering::Relaxed) >= MAX_CLIENTS {
            continue;
        }
        clients.fetch_add(1, Ordering::Relaxed);
        let (body, clients) = (Arc::clone(&body), Arc::clone(&clients));
        std::thread::spawn(move || {
            if let Err(error) = answer(stream, &body) {
                eprintln!("a request failed: {error}");
            }
            clients.fetch_sub(1, Ordering::Relaxed);
        });
    }
    Ok(ExitCode::SUCCESS)
}

fn who_am_i() -> String {
    let var = |name: &str| std::env::var(name).unwrap_or_else(|_| "-".to_owned());
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello".to_owned());
    format!(
        "{greeting}\nreplica {}/{}.{}\nnode {}\nallocation {}\nepoch {}\n",
        var("DUNLIN_STACK"),
        var("DUNLIN_SERVICE"),
        var("DUNLIN_REPLICA"),
        var("DUNLIN_NODE"),
        var("DUNLIN_ALLOC"),
        var("DUNLIN_EPOCH"),
    )
}

fn answer(stream: TcpStream, body: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?).take(MAX_HEAD);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 0 && !header.trim_end().is_empty() {
        header.clear();
    }
    let (status, text) = respond(&request, body);
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    )?;
    if !request.starts_with("HEAD ") {
        stream.write_all(text.as_bytes())?;
    }
    stream.flush()
}

fn respond<'a>(request: &str, body: &'a str) -> (&'static str, &'a str) {
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match (method, path.split('?').next().unwrap_or_default()) {
        ("GET" | "HEAD", "/health") => ("200 OK", "ok\n"),
        ("GET" | "HEAD", "/") => ("200 OK", body),
        ("GET" | "HEAD", _) => ("404 Not Found", "there is / and /health\n"),
        ("", _) => ("400 Bad Request", "no request\n"),
        _ => ("405 Method Not Allowed", "only GET and HEAD\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_like_a_server() {
        assert_eq!(respond("GET /health HTTP/1.1\r\n", "b").0, "200 OK");
        assert_eq!(respond("GET /?x=1 HTTP/1.1\r\n", "b"), ("200 OK", "b"));
        assert_eq!(respond("GET /none HTTP/1.1\r\n", "b").0, "404 Not Found");
        assert_eq!(respond("POST / HTTP/1.1\r\n", "b").0, "405 Method Not Allowed");
        assert_eq!(respond("", "b").0, "400 Bad Request");
    }
}
