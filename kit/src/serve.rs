//! One accept loop for every socket of a process: TCP or unix, with or without TLS.
//!
//! A client that says nothing costs a connection for a few seconds and no more, a flood of clients is refused at a limit
//! with an answer that says so, a request that panics is one 500. On stop, no connection is taken any more and the requests
//! at hand come to their end.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use futures::FutureExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::shutdown::panic_text;

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

    /// Serves until `stop`, then until the requests at hand are done or the drain time is over.
    pub async fn run<L: Listener>(self, mut listener: L, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let connections = TaskTracker::new();
        let drop_all = CancellationToken::new();
        let mut overloaded = false;
        while let Some((io, _)) = stop.run_until_cancelled(listener.accept()).await {
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                if !std::mem::replace(&mut overloaded, true) {
                    tracing::warn!(limit = self.limits.connections, "too many connections, refusing more");
                }
                self.refuse(io).await;
                continue;
            };
            overloaded = false;
            let (server, stop, drop_all) = (self.clone(), stop.clone(), drop_all.clone());
            connections.spawn(async move {
                drop_all.run_until_cancelled(server.connection(io, stop)).await;
                drop(slot);
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(self.limits.drain, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(left = connections.len(), after = ?self.limits.drain, "requests still open, dropping them");
            drop_all.cancel();
        }
    }

    async fn connection<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: Io, stop: CancellationToken) {
        let Some(tls) = self.tls.clone() else {
            return self.http(io, stop).await;
        };
        let handshake = tokio::time::timeout(self.limits.handshake, TlsAcceptor::from(tls).accept(io));
        match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(io))) => self.http(io, stop).await,
            Some(Ok(Err(error))) => tracing::debug!(%error, "TLS handshake failed"),
            Some(Err(_)) => tracing::debug!("TLS handshake took too long"),
            None => {}
        }
    }

    async fn http<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, io: Io, stop: CancellationToken) {
        let router = self.router;
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            answer(router.clone(), request.map(Body::new))
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.header);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Says why in plain HTTP. The text fits any socket buffer, so this does not wait for a client that does not read.
    async fn refuse<Io: AsyncWrite + Unpin>(&self, mut io: Io) {
        const TEXT: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 21\r\n\r\ntoo many connections\n";
        if self.tls.is_none() {
            // The client may be gone already, which is as well.
            let _ = io.write_all(TEXT).now_or_never();
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
