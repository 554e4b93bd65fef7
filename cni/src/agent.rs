//! The node's agent as seen from the plugin: one request, one connection, one deadline.
//!
//! There is no health request ahead of the real one: failing to connect says the same and costs nothing when all is well.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use spiderpool_wire::{
    IpamAddArgs, IpamAddResponse, IpamBatchDelArgs, IpamDelArgs, IpamGcArgs, WorkloadEndpointStatus, error_text, path,
};
use thiserror::Error;

use crate::{
    deadline::Deadline,
    http::{self, Response},
    socket::Socket,
};

/// What went wrong with a request.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody listens, or nobody who has room for one more connection.
    #[error("unhealthy spiderpool-agent backend: cannot connect to {}", .socket.display())]
    Unreachable {
        /// Socket of the agent.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The agent went away while it had the request.
    #[error("unhealthy spiderpool-agent backend: the agent at {} went away before it answered", .socket.display())]
    WentAway {
        /// Socket of the agent.
        socket: PathBuf,
        /// Why.
        #[source]
        source: http::Error,
    },
    /// The agent did not answer in time.
    #[error("the agent did not answer within {} s", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// The answer is no HTTP, or too much of it.
    #[error("the agent's answer cannot be used")]
    BadAnswer(#[source] http::Error),
    /// The answer's body is not the JSON it should be.
    #[error("the agent's answer cannot be used: its body is not the expected JSON")]
    BadBody(#[source] serde_json::Error),
    /// The agent refused, and said why.
    #[error("{text}")]
    Refused {
        /// Status code.
        status: u16,
        /// The agent's reason.
        text: String,
    },
    /// The request cannot be written as JSON.
    #[error("cannot write the request as JSON")]
    Encode(#[source] serde_json::Error),
}

impl Error {
    /// Whether the agent could not be talked to, as opposed to what it said.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::WentAway { .. } | Self::NoAnswer(_)
        )
    }

    /// Whether the request itself is at fault, so that asking again is in vain.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status: 400..500, .. } | Self::Encode(_))
    }
}

/// A way to the agent.
#[derive(Clone, Debug)]
pub struct Agent {
    socket: PathBuf,
    deadline: Deadline,
}

impl Agent {
    /// The agent that listens on the socket; all requests end by the deadline.
    pub fn new(socket: PathBuf, deadline: Deadline) -> Self {
        Self { socket, deadline }
    }

    /// Asks for the addresses of a NIC.
    pub fn add(&self, args: &IpamAddArgs) -> Result<IpamAddResponse, Error> {
        decode(&self.send("POST", path::IP, Some(args))?)
    }

    /// Gives back what a sandbox holds.
    pub fn release(&self, args: &IpamDelArgs) -> Result<(), Error> {
        self.send("DELETE", path::IP, Some(args)).map(drop)
    }

    /// Gives back what an ADD got and cannot use.
    pub fn give_up(&self, args: &IpamBatchDelArgs) -> Result<(), Error> {
        self.send("DELETE", path::IPS, Some(args)).map(drop)
    }

    /// Gives back what was set up for the network and is not in the list.
    pub fn collect(&self, args: &IpamGcArgs) -> Result<(), Error> {
        self.send("POST", path::GC, Some(args)).map(drop)
    }

    /// What the agent has on record for a pod; `None` when nothing.
    pub fn endpoint(&self, namespace: &str, name: &str) -> Result<Option<WorkloadEndpointStatus>, Error> {
        let target = format!(
            "{}?{}={}&{}={}",
            path::WORKLOAD_ENDPOINT,
            path::QUERY_POD_NAMESPACE,
            http::query_text(namespace),
            path::QUERY_POD_NAME,
            http::query_text(name)
        );
        match self.send::<()>("GET", &target, None) {
            Ok(response) => decode(&response).map(Some),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks whether the agent can serve.
    pub fn health(&self) -> Result<(), Error> {
        self.send::<()>("GET", path::HEALTHY, None).map(drop)
    }

    fn send<T: Serialize>(&self, method: &str, target: &str, body: Option<&T>) -> Result<Response, Error> {
        let body = body.map(serde_json::to_vec).transpose().map_err(Error::Encode)?;
        let mut socket = Socket::connect(&self.socket, self.deadline).map_err(|source| Error::Unreachable {
            socket: self.socket.clone(),
            source,
        })?;
        let written = socket.write_all(&http::request(method, target, body.as_deref()));
        // A server that refuses a request early closes its side, so that writing fails although an answer with the reason
        // is there to be read.
        let response = match (http::read_response(&mut socket), written) {
            (Ok(response), _) => response,
            (Err(http::Error::Closed | http::Error::Io(_)), Err(error)) => {
                return Err(self.fault(http::Error::Io(error)));
            }
            (Err(error), _) => return Err(self.fault(error)),
        };
        if response.status == 200 {
            return Ok(response);
        }
        let text = match error_text(&response.body) {
            text if text.is_empty() => format!("status {} without a reason", response.status),
            text => text,
        };
        Err(Error::Refused {
            status: response.status,
            text,
        })
    }

    fn fault(&self, error: http::Error) -> Error {
        match error {
            http::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Error::NoAnswer(self.deadline.given()),
            http::Error::Io(_) | http::Error::Closed | http::Error::Truncated => Error::WentAway {
                socket: self.socket.clone(),
                source: error,
            },
            http::Error::TooLarge | http::Error::Malformed(_) => Error::BadAnswer(error),
        }
    }
}

fn decode<T: DeserializeOwned>(response: &Response) -> Result<T, Error> {
    serde_json::from_slice(&response.body).map_err(Error::BadBody)
}
