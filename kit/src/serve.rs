//! One accept loop for every socket of a process: TCP or unix, with or without TLS.
//!
//! A client that says nothing costs a connection for a few seconds and no more, a flood of clients is refused at a limit
//! with an answer that says so, a request that panics is one 500. On stop, nobody comes in any more, and whoever came in before
//! is served.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::shutdown::panic_text;

/// How long a client that has just connected may take for its request once the server stops.
const FIRST: Duration = Duration::from_secs(1);

/// What a server allows its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; one more is refused.
    pub connections: usize,
    /// How long a client may take for a TLS handshake.
    pub handshake: Duration,
    /// How long a client may take for the head of a request, counted from the opening of the connection or the end of the
    /// request before: the longest a silent connection lives.
    pub header: Duration,
    /// How long requests may go on after the stop signal.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// A server to be.
#[derive(Clone)]
pub struct Server {
    router: axum::Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: Limits,
}

/// Listens on all addresses of both families, or of IPv4 where the machine has no IPv6. Port 0 is any free one.
pub async fn bind(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // To take what is left of a port that somebody has would hide it.
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            tracing::debug!(%error, port, "no IPv6, listening on IPv4 only");
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// A socket that clients connect to, and that ends without turning away whom the kernel let in before.
pub trait Listener: axum::serve::Listener {
    /// Lets nobody in any more; gives those who wait to be accepted.
    fn close(self) -> io::Result<Vec<Self::Io>>;
}

impl Listener for UnixListener {
    fn close(self) -> io::Result<Vec<UnixStream>> {
        // From now on a client is refused, and knows that nobody read what it has to say.
        rustix::net::shutdown(&self, rustix::net::Shutdown::Read)?;
        let listener = self.into_std()?;
        Ok(waiting(|| {
            let (io, _) = listener.accept()?;
            io.set_nonblocking(true)?;
            UnixStream::from_std(io)
        }))
    }
}

impl Listener for TcpListener {
    fn close(self) -> io::Result<Vec<TcpStream>> {
        // To shut such a socket down resets whoever waits, and who comes in between is reset when it is closed.
        let listener = self.into_std()?;
        Ok(waiting(|| {
            let (io, _) = listener.accept()?;
            io.set_nonblocking(true)?;
            TcpStream::from_std(io)
        }))
    }
}

/// Everybody who waits to be accepted, by a socket that does not block.
fn waiting<Io>(accept: impl Fn() -> io::Result<Io>) -> Vec<Io> {
    let mut all = Vec::new();
    loop {
        match accept() {
            Ok(io) => all.push(io),
            // That one has gone.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                // A socket that was shut down says the latter.
                if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::InvalidInput) {
                    tracing::warn!(%error, "who still waited to be let in at the stop is turned away");
                }
                return all;
            }
        }
    }
}

/// Serves `router` on `listener` until `stop`, with default [`Limits`] and without TLS.
pub async fn serve<L: Listener>(listener: L, router: axum::Router, stop: CancellationToken) {
    Server::new(router).run(listener, stop).await;
}

impl Server {
    /// Plain HTTP with default limits.
    pub fn new(router: axum::Router) -> Self {
        Self {
            router,
            tls: None,
            limits: Limits::default(),
        }
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// With TLS, see [`Certificates::server_config`](crate::tls::Certificates::server_config).
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Serves until `stop`, then until those who came in before are served or the drain time is over.
    pub async fn run<L: Listener>(self, mut listener: L, stop: CancellationToken) {
        let connections = Connections {
            slots: Arc::new(Semaphore::new(self.limits.connections)),
            open: TaskTracker::new(),
            drop_all: CancellationToken::new(),
            server: self,
            stop,
        };
        let mut overloaded = false;
        while let Some((io, _)) = connections.stop.run_until_cancelled(listener.accept()).await {
            connections.take(io, &mut overloaded);
        }
        match listener.close() {
            Ok(waiting) => waiting.into_iter().for_each(|io| connections.take(io, &mut overloaded)),
            Err(error) => tracing::warn!(%error, "who waited to be let in at the stop is turned away"),
        }
        connections.end().await;
    }

    async fn connection<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: Io, stop: CancellationToken) {
        let Some(tls) = self.tls.clone() else {
            return self.http(io, stop).await;
        };
        let handshake = TlsAcceptor::from(tls).accept(io);
        match tokio::time::timeout(self.limits.handshake, handshake).await {
            Ok(Ok(io)) => self.http(io, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn http<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: Io, stop: CancellationToken) {
        let router = self.router;
        let asked = CancellationToken::new();
        let (asking, stopping) = (asked.clone(), stop.clone());
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            asking.cancel();
            let (router, stopping) = (router.clone(), stopping.clone());
            async move {
                let mut answer = answer(router, request.map(Body::new)).await?;
                if stopping.is_cancelled() {
                    let headers = answer.headers_mut();
                    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.header);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                // What was sent before lies in the socket, and hyper ends a connection on which it has read nothing.
                tokio::select! {
                    biased;
                    _ = connection.as_mut() => return,
                    _ = tokio::time::timeout(FIRST, asked.cancelled()) => {}
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Says why in plain HTTP. The text fits any socket buffer, so this does not wait for a client that does not read.
    fn refuse<Io: AsyncWrite + Unpin>(&self, mut io: Io) {
        const TEXT: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n";
        if self.tls.is_none() {
            // The client may be gone already, which is as well.
            let _ = io.write_all(TEXT).now_or_never();
        }
    }
}

/// The connections of a server.
struct Connections {
    server: Server,
    slots: Arc<Semaphore>,
    open: TaskTracker,
    stop: CancellationToken,
    drop_all: CancellationToken,
}

impl Connections {
    /// Serves one more, or refuses it.
    fn take<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, io: Io, overloaded: &mut bool) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let limit = self.server.limits.connections;
            if !std::mem::replace(overloaded, true) {
                tracing::warn!(limit, "too many connections, refusing more");
            }
            return self.server.refuse(io);
        };
        *overloaded = false;
        let (server, stop, drop_all) = (self.server.clone(), self.stop.clone(), self.drop_all.clone());
        self.open.spawn(async move {
            drop_all.run_until_cancelled(server.connection(io, stop)).await;
            drop(slot);
        });
    }

    /// Waits until all are served, or cuts them off.
    async fn end(self) {
        let drain = self.server.limits.drain;
        self.open.close();
        if tokio::time::timeout(drain, self.open.wait()).await.is_err() {
            tracing::warn!(left = self.open.len(), after = ?drain, "requests still open, dropping them");
            self.drop_all.cancel();
        }
    }
}

/// Runs the router. A panic in it is a 500 for this request.
async fn answer(router: axum::Router, request: Request) -> Result<Response, Infallible> {
    match std::panic::AssertUnwindSafe(router.oneshot(request))
        .catch_unwind()
        .await
    {
        Ok(answer) => answer,
        Err(panic) => {
            tracing::error!(panic = panic_text(panic.as_ref()), "request handler panicked");
            Ok((
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error, see the log of this process\n",
            )
                .into_response())
        }
    }
}

#[cfg(test)]
mod tests;
