//! As much of HTTP/1.1 as one request on one connection takes, over any reader.

use std::io::{self, Read};

use httparse::Status;
use spiderpool_wire::MAX_BODY_BYTES;
use thiserror::Error;

/// Largest head of an answer, and most headers in it.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

/// Largest line between chunks; a size and an extension nobody sends.
const MAX_CHUNK_LINE: usize = 1024;

/// An answer that could not be had.
#[derive(Debug, Error)]
pub enum Error {
    /// The connection ended before a single byte.
    #[error("the connection was closed before an answer")]
    Closed,
    /// The connection ended in the middle.
    #[error("the answer ends in the middle")]
    Truncated,
    /// More than a side may send.
    #[error("the answer is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// Not HTTP/1.1.
    #[error("the answer is not valid HTTP: {0}")]
    Malformed(&'static str),
    /// Reading failed.
    #[error("cannot read the answer")]
    Io(#[source] io::Error),
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Body, without transfer coding.
    pub body: Vec<u8>,
}

/// The bytes of a request that is the only one on its connection.
pub fn request(method: &str, target: &str, body: Option<&[u8]>) -> Vec<u8> {
    let agent = concat!("spiderpool-cni/", env!("CARGO_PKG_VERSION"));
    let mut bytes = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\nAccept: application/json\r\nConnection: close\r\n"
    )
    .into_bytes();
    if let Some(body) = body {
        bytes.extend(format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body.unwrap_or_default());
    bytes
}

/// Text as part of a query.
pub fn query_text(text: &str) -> String {
    let mut query = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            query.push(char::from(byte));
        } else {
            query.push_str(&format!("%{byte:02X}"));
        }
    }
    query
}

/// Reads one answer.
pub fn read_response(input: impl Read) -> Result<Response, Error> {
    let mut input = Input {
        input,
        buffer: Vec::new(),
    };
    loop {
        let head = input.head()?;
        if !(100..200).contains(&head.status) {
            return Ok(Response {
                status: head.status,
                body: input.body(&head)?,
            });
        }
    }
}

enum Length {
    Exactly(usize),
    Chunked,
    ToEnd,
}

struct Head {
    status: u16,
    length: Length,
}

struct Input<R> {
    input: R,
    buffer: Vec<u8>,
}

impl<R: Read> Input<R> {
    /// Reads more; false at the end.
    fn more(&mut self) -> Result<bool, Error> {
        let mut part = [0; 8192];
        loop {
            match self.input.read(&mut part) {
                Ok(read) => {
                    self.buffer.extend(part.iter().take(read));
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }

    fn head(&mut self) -> Result<Head, Error> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            match response.parse(&self.buffer) {
                Ok(Status::Complete(end)) => {
                    let status = response.code.ok_or(Error::Malformed("no status"))?;
                    let length = if matches!(status, 204 | 304) {
                        Length::Exactly(0)
                    } else {
                        length(response.headers)?
                    };
                    self.buffer.drain(..end);
                    return Ok(Head { status, length });
                }
                Ok(Status::Partial) if self.buffer.len() > MAX_HEAD_BYTES => {
                    return Err(Error::Malformed("endless head"));
                }
                Ok(Status::Partial) => {}
                Err(_) => return Err(Error::Malformed("bad head")),
            }
            if !self.more()? {
                return Err(if self.buffer.is_empty() {
                    Error::Closed
                } else {
                    Error::Truncated
                });
            }
        }
    }

    fn body(&mut self, head: &Head) -> Result<Vec<u8>, Error> {
        match head.length {
            Length::Exactly(length) => {
                self.need(length)?;
                self.buffer.truncate(length);
                Ok(std::mem::take(&mut self.buffer))
            }
            Length::ToEnd => {
                while self.buffer.len() <= MAX_BODY_BYTES {
                    if !self.more()? {
                        return Ok(std::mem::take(&mut self.buffer));
                    }
                }
                Err(Error::TooLarge)
            }
            Length::Chunked => {
                let mut body = Vec::new();
                loop {
                    let size = self.chunk_size()?;
                    if size == 0 {
                        return Ok(body); // trailers, if any, are of no use and the connection is not used again
                    }
                    if size > MAX_BODY_BYTES.saturating_sub(body.len()) {
                        return Err(Error::TooLarge);
                    }
                    self.need(size + 2)?;
                    body.extend(self.buffer.drain(..size));
                    if !self.buffer.starts_with(b"\r\n") {
                        return Err(Error::Malformed("bad chunk"));
                    }
                    self.buffer.drain(..2);
                }
            }
        }
    }

    fn need(&mut self, length: usize) -> Result<(), Error> {
        while self.buffer.len() < length {
            if !self.more()? {
                return Err(Error::Truncated);
            }
        }
        Ok(())
    }

    fn chunk_size(&mut self) -> Result<usize, Error> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(Status::Complete((end, size))) => {
                    self.buffer.drain(..end);
                    return usize::try_from(size).map_err(|_| Error::TooLarge);
                }
                Ok(Status::Partial) if self.buffer.len() > MAX_CHUNK_LINE => {
                    return Err(Error::Malformed("endless chunk size"));
                }
                Ok(Status::Partial) => {}
                Err(_) => return Err(Error::Malformed("bad chunk size")),
            }
            if !self.more()? {
                return Err(Error::Truncated);
            }
        }
    }
}

fn length(headers: &[httparse::Header<'_>]) -> Result<Length, Error> {
    let values = |name: &'static str| {
        headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    if let Some(coding) = values("transfer-encoding").next() {
        return if coding.value.eq_ignore_ascii_case(b"chunked") {
            Ok(Length::Chunked)
        } else {
            Err(Error::Malformed("unknown transfer coding"))
        };
    }
    let mut lengths = values("content-length");
    let Some(first) = lengths.next() else {
        return Ok(Length::ToEnd);
    };
    if lengths.any(|other| other.value != first.value) {
        return Err(Error::Malformed("two lengths"));
    }
    let digits = std::str::from_utf8(first.value).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Malformed("bad length"));
    }
    // only digits are left, so what does not fit is too large
    match digits.parse() {
        Ok(length) if length <= MAX_BODY_BYTES => Ok(Length::Exactly(length)),
        _ => Err(Error::TooLarge),
    }
}

#[cfg(test)]
mod tests;
