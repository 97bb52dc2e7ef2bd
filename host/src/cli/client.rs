//! The running daemon, asked over HTTP on the loopback interface.

use std::{io::Read, time::Duration};

use anyhow::{Context, anyhow};
use serde::{Serialize, de::DeserializeOwned};
use ureq::{Agent, Body, http::Response};

use super::Failure;
use crate::http::ProblemBody;

/// How long the daemon may take to answer that it is there.
const ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer larger than this is not the daemon's.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// A way to the daemon.
pub(super) struct Client {
    agent: Agent,
    base: String,
}

impl Client {
    /// A client for the daemon that listens on `address`.
    pub(super) fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            // Problem details are read from the body, so a status is no error of its own.
            .http_status_as_error(false)
            // A proxy could not reach the loopback interface.
            .proxy(None)
            .max_redirects(0)
            .build();
        Self {
            agent: config.new_agent(),
            base: format!("http://{address}"),
        }
    }

    /// The process id that answers at this address as a daemon; none if nothing does.
    pub(super) fn alive(&self) -> Option<u32> {
        let mut response = self
            .agent
            .get(format!("{}/healthz", self.base))
            .config()
            .timeout_global(Some(ALIVE_TIMEOUT))
            .build()
            .call()
            .ok()?;
        let answer: crate::http::Health = response.body_mut().read_json().ok()?;
        Some(answer.pid)
    }

    /// Asks for something.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        read(path, self.open(path, query)?)
    }

    /// Asks for a stream, to be read as it comes.
    pub(super) fn stream(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<impl Read + use<>, Failure> {
        let mut response = self.open(path, query)?;
        if !response.status().is_success() {
            return Err(refusal(path, &mut response));
        }
        Ok(response.into_body().into_reader())
    }

    /// Tells it to do something.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let response = self
            .agent
            .post(format!("{}{path}", self.base))
            .send_json(body)
            .with_context(|| format!("can't reach the daemon at {}", self.base))?;
        read(path, response)
    }

    fn open(&self, path: &str, query: &[(&str, String)]) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in query {
            request = request.query(name, value);
        }
        Ok(request
            .call()
            .with_context(|| format!("can't reach the daemon at {}", self.base))?)
    }
}

fn read<T: DeserializeOwned>(path: &str, mut response: Response<Body>) -> Result<T, Failure> {
    if !response.status().is_success() {
        return Err(refusal(path, &mut response));
    }
    Ok(response
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_json()
        .with_context(|| format!("can't read the daemon's answer to {path}"))?)
}

/// What the daemon says against a request.
fn refusal(path: &str, response: &mut Response<Body>) -> Failure {
    let status = response.status();
    match response.body_mut().read_json::<ProblemBody>() {
        Ok(problem) => Failure::Failed(anyhow!("{}", problem.detail)),
        Err(_) => Failure::Failed(anyhow!("the daemon answered {path} with {status}")),
    }
}

/// One segment of a path, with what may not stand in one escaped.
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
