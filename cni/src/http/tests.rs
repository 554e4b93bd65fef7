use super::*;

/// A reader that gives one byte at a time, the worst the network can do.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}

/// Reads in one piece and byte by byte; both must agree.
fn read(text: &[u8]) -> Result<Response, Error> {
    let whole = read_response(text);
    let drip = read_response(Drip(text));
    assert_eq!(format!("{whole:?}"), format!("{drip:?}"));
    whole
}

fn body(text: &str) -> (u16, String) {
    let response = read(text.as_bytes()).unwrap();
    (response.status, String::from_utf8(response.body).unwrap())
}

#[test]
fn length_chunks_and_end_of_connection() {
    assert_eq!(
        body("HTTP/1.1 200 OK\r\ncontent-LENGTH: 4\r\n\r\nbodyrest"),
        (200, "body".into())
    );
    assert_eq!(
        body("HTTP/1.1 500 X\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\n\r\n"),
        (500, "abc0123456789".into())
    );
    assert_eq!(body("HTTP/1.0 200 OK\r\n\r\nto the end"), (200, "to the end".into()));
    assert_eq!(body("HTTP/1.1 204 No Content\r\n\r\n"), (204, String::new()));
    assert_eq!(
        body("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (200, String::new())
    );
    assert_eq!(
        body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        (200, "x".into())
    );
}

#[test]
fn every_cut_is_an_error_and_never_a_shorter_answer() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        assert!(read(text.as_bytes()).is_ok());
        for end in 1..text.len() {
            assert!(
                matches!(read(&text.as_bytes()[..end]), Err(Error::Truncated)),
                "{:?}",
                &text[..end]
            );
        }
    }
    assert!(matches!(read(b""), Err(Error::Closed)));
}

#[test]
fn bad_answers() {
    for text in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    ] {
        assert!(matches!(read(text.as_bytes()), Err(Error::Malformed(_))), "{text:?}");
    }
    let endless = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".repeat(10_000)].concat();
    assert!(matches!(read_response(endless.as_slice()), Err(Error::Malformed(_))));
}

#[test]
fn a_body_has_a_limit_whatever_announces_it() {
    let large = "x".repeat(MAX_BODY_BYTES + 1);
    for head in [
        "Content-Length: 1048577",
        "Content-Length: 99999999999999999999999",
        "Connection: close",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{large}");
        assert!(matches!(read_response(text.as_bytes()), Err(Error::TooLarge)), "{head}");
    }
    for chunks in [
        "100001\r\n",
        "ffffffffffffffff\r\n",
        &format!("100000\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", &large[1..]),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert!(
            matches!(read_response(text.as_bytes()), Err(Error::TooLarge)),
            "{}",
            &chunks[..8]
        );
    }
    let full = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n{}",
        &large[1..]
    );
    assert_eq!(read_response(full.as_bytes()).unwrap().body.len(), MAX_BODY_BYTES);
}

#[test]
fn request_bytes() {
    let text = String::from_utf8(request("POST", "/v1/x", Some(b"{}"))).unwrap();
    assert!(text.starts_with("POST /v1/x HTTP/1.1\r\nHost: localhost\r\n"), "{text}");
    assert!(
        text.ends_with("Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
        "{text}"
    );
    assert!(request("GET", "/v1/x", None).ends_with(b"Connection: close\r\n\r\n"));
    assert_eq!(query_text("cart-0.a_b~"), "cart-0.a_b~");
    assert_eq!(query_text("a&b=ä \r\n"), "a%26b%3D%C3%A4%20%0D%0A");
}
