use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

use super::*;

struct Running {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(router: axum::Router, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(Server::new(router).limits(limits).run(listener, stop.clone()));
    Running { address, stop, task }
}

impl Running {
    async fn send(&self, path: &str) -> TcpStream {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        io.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        io
    }

    async fn ask(&self, path: &str) -> String {
        text(self.send(path).await).await
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Everything until the peer closes.
async fn text(mut io: TcpStream) -> String {
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(10), io.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

#[tokio::test]
async fn a_panicking_request_is_one_500() {
    async fn boom() {
        panic!("no such luck");
    }
    let server = start(axum::Router::new().route("/boom", get(boom)), Limits::default()).await;
    assert!(server.ask("/boom").await.starts_with("HTTP/1.1 500 "));
    assert!(server.ask("/other").await.starts_with("HTTP/1.1 404 "));
    server.end().await;
}

#[tokio::test]
async fn connections_over_the_limit_hear_why_and_silent_ones_make_room() {
    let limits = Limits {
        connections: 3,
        header: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = start(axum::Router::new(), limits).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert!(
        text(TcpStream::connect(server.address).await.unwrap())
            .await
            .ends_with("too many connections\n")
    );
    for io in silent {
        text(io).await;
    }
    // A slot is free a moment after its connection is closed.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !server.ask("/").await.starts_with("HTTP/1.1 404 ") {
        assert!(tokio::time::Instant::now() < deadline);
    }
    server.end().await;
}

#[tokio::test]
async fn requests_at_hand_come_to_their_end_after_the_stop() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (entered_in, go_in) = (entered.clone(), go.clone());
    let slow = move || async move {
        entered_in.notify_one();
        go_in.notified().await;
        "done"
    };
    let server = start(axum::Router::new().route("/slow", get(slow)), Limits::default()).await;
    let io = server.send("/slow").await;
    entered.notified().await;
    server.stop.cancel();
    go.notify_one();
    assert!(text(io).await.ends_with("done"));
    server.end().await;
}

#[tokio::test]
async fn requests_that_do_not_end_are_dropped() {
    let limits = Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    };
    let entered = Arc::new(Notify::new());
    let entered_in = entered.clone();
    let stuck = move || async move {
        entered_in.notify_one();
        std::future::pending::<()>().await;
    };
    let server = start(axum::Router::new().route("/stuck", get(stuck)), limits).await;
    let io = server.send("/stuck").await;
    entered.notified().await;
    server.end().await;
    assert_eq!(text(io).await, "");
}

#[tokio::test]
async fn a_port_is_taken_for_both_families_and_only_once() {
    let listener = bind(0).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    if listener.local_addr().unwrap().is_ipv6() {
        TcpStream::connect(("::1", port)).await.unwrap();
    }
    assert_eq!(bind(port).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

/// Asks over a unix socket that the server has not looked at yet.
async fn ask_early(path: &std::path::Path) -> UnixStream {
    let mut io = UnixStream::connect(path).await.unwrap();
    io.write_all(b"GET /early HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    io
}

#[tokio::test]
async fn whoever_came_in_before_the_stop_is_answered_and_nobody_comes_in_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let stop = CancellationToken::new();
    let mut early = Vec::new();
    for _ in 0..50 {
        early.push(ask_early(&path).await);
    }
    stop.cancel();
    let router = axum::Router::new().route("/early", get(|| async { "done" }));
    let server = tokio::spawn(serve(listener, router, stop));
    for mut io in early {
        let mut text = String::new();
        let read = io.read_to_string(&mut text);
        tokio::time::timeout(Duration::from_secs(10), read)
            .await
            .unwrap()
            .unwrap();
        assert!(text.contains("connection: close") && text.ends_with("done"), "{text}");
    }
    let refused = UnixStream::connect(&path).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    tokio::time::timeout(Duration::from_secs(10), server)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn whoever_was_let_in_but_not_read_at_the_stop_is_answered() {
    let server = start(
        axum::Router::new().route("/early", get(|| async { "done" })),
        Limits::default(),
    )
    .await;
    let mut early = Vec::new();
    for _ in 0..20 {
        early.push(server.send("/early").await);
    }
    server.stop.cancel();
    for io in early {
        assert!(text(io).await.ends_with("done"));
    }
    server.end().await;
}
