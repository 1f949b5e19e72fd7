//! A small HTTP server for those who watch the running daemon. It knows no page: it asks a [`Site`]. Apart because nothing of the way of the data
//! may wait for whoever connects here: it has a thread of its own, on which pages are made one after the other.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

/// Connections at a time; further ones wait in the kernel until one of these ends.
const CONNECTIONS: usize = 16;
/// A connection serves one request and ends after so long, whatever it was doing: so those that wait do not wait long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A request and its headers take at most so many bytes; a longer one is answered with 431.
const REQUEST: usize = 8 << 10;
/// How long after an error of accept, such as no descriptor being left, the next is tried.
const AGAIN: Duration = Duration::from_millis(200);
/// Plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// JSON.
pub const JSON: &str = "application/json";

/// What `[http]` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
}

/// A finished page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Whether all is well: 200, else 503.
    pub good: bool,
    /// Its content type.
    pub kind: &'static str,
    /// What is on it.
    pub body: String,
}

/// What is served.
pub trait Site: Send + Sync {
    /// The page at this path; `None` if there is none. May take milliseconds, and waits for nothing outside this process.
    fn page(&self, path: &str) -> Option<Page>;
}

/// The server while the daemon runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Http {
    _stop: oneshot::Sender<()>,
}

/// Serves `site` from now on. Where that can't be (the address is in use, say) it is a warning, and the daemon runs on without.
pub fn serve(settings: &Settings, site: Arc<dyn Site>) -> Option<Http> {
    let address = settings.listen;
    match start(address, site) {
        Ok(http) => {
            tracing::info!(%address, "serving /metrics, /healthz, /readyz and /status");
            Some(http)
        }
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => "another program listens there: set http.listen to another port",
                io::ErrorKind::AddrNotAvailable => "this machine does not have that address: correct http.listen",
                io::ErrorKind::PermissionDenied => "a port below 1024 needs a right: set http.listen to a higher one",
                _ => "correct http.listen",
            };
            tracing::warn!(%address, %error, "neither metrics nor health are served; {remedy}, and restart");
            None
        }
    }
}

fn start(address: SocketAddr, site: Arc<dyn Site>) -> io::Result<Http> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    std::thread::Builder::new().name("http".into()).spawn(move || {
        runtime.block_on(async {
            match TcpListener::from_std(listener) {
                Ok(listener) => tokio::select! {
                    () = accept(&listener, &site) => {}
                    _ = stopped => {}
                },
                Err(error) => tracing::warn!(%address, %error, "neither metrics nor health are served"),
            }
        });
    })?;
    Ok(Http { _stop: stop })
}

async fn accept(listener: &TcpListener, site: &Arc<dyn Site>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Nobody closes it.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let site = Arc::clone(site);
        tokio::spawn(async move {
            // Whoever was too slow, or has gone, asks again.
            let _ = tokio::time::timeout(PATIENCE, attend(stream, site)).await;
            drop(place);
        });
    }
}

async fn attend(stream: TcpStream, site: Arc<dyn Site>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &*site);
        async { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(REQUEST).timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection for metrics or health");
    }
}

/// What is answered. Bodies of requests are not read.
fn answer(method: &Method, path: &str, site: &dyn Site) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Only GET and HEAD are answered.\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match site.page(path) {
        Some(Page { good: true, kind, body }) => respond(StatusCode::OK, kind, body),
        Some(Page { good: false, kind, body }) => respond(StatusCode::SERVICE_UNAVAILABLE, kind, body),
        None => respond(StatusCode::NOT_FOUND, TEXT, "There are /metrics, /healthz, /readyz and /status.\n".into()),
    }
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
