//! `POST /v1/changes`: a request's changes, whole or not at all.
//!
//! The answer comes after the commit is durable. A request that can't be decoded to its last line is
//! refused with that line, and nothing of it reaches the engine.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::{
    Api,
    answers::Accepted,
    blocking,
    problem::{Kind, Problem},
};
use crate::{
    change::{Idempotency, Receipt, Refused, SourceBatch},
    decode::{self, BadLine},
    store,
};

/// The source that posted changes come from.
const SOURCE: &str = "http";
/// An idempotency key longer than this is refused: it is kept for a day.
const KEY_BYTES_MAX: usize = 255;
/// Of a body that is too large as many times the limit are read and thrown away, so that its sender
/// comes to read the answer.
const PASSED_OVER: usize = 4;
/// Room made for a body before it is there.
const BODY_BYTES_FIRST: usize = 1 << 20;
/// How often a request that waits looks whether the disk is full.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn post(
    State(api): State<Api>,
    request: Request,
) -> Result<Json<Accepted>, Problem> {
    let refused = api.refused.clone();
    let answer = take(api, request).await;
    if answer.is_err() {
        refused.fetch_add(1, Ordering::Relaxed);
    }
    answer.map(Json)
}

async fn take(api: Api, request: Request) -> Result<Accepted, Problem> {
    if let Some(reason) = &api.handle.board.load().stopping {
        return Err(stopping(reason));
    }
    if api.handle.store.room().full_since().is_some() {
        return Err(Problem::new(
            Kind::DiskFull,
            format!("{}: nothing of this request was taken", store::FULL),
        ));
    }
    // Before the body is read: bodies that wait would be memory without a limit.
    let permit = api.writers.clone().try_acquire_owned().map_err(|_| {
        Problem::new(
            Kind::TooManyWriters,
            format!(
                "limits.requests_max = {} requests are being written: try again in a second",
                api.limits.requests_max
            ),
        )
    })?;
    let key = idempotency_key(request.headers())?;
    let body = read_body(&api, request).await?;
    let (done, receipt) = oneshot::channel();
    let handle = api.handle.clone();
    let limits = api.limits.clone();
    let handed_over = blocking(move || {
        // Held until the batch is with the engine, whose queue is bounded itself.
        let _permit = permit;
        let changes = decode::decode_ndjson(&body, &handle.catalog, &limits).map_err(bad_line)?;
        let batch = SourceBatch {
            source: Arc::from(SOURCE),
            changes,
            bad: Vec::new(),
            positions: Vec::new(),
            input_bytes: body.len(),
            idempotency: key.map(|key| Idempotency {
                key,
                body_hash: Sha256::digest(&body).into(),
            }),
            done: Some(Box::new(move |result| {
                // A client that has gone needs no answer.
                let _ = done.send(result);
            })),
        };
        handle.submit(batch).map_err(refusal)
    });
    let durable = async {
        handed_over.await?;
        let receipt: Result<Receipt, Refused> = receipt
            .await
            .map_err(|_| stopping("the engine has ended"))?;
        receipt.map_err(refusal)
    };
    let receipt = tokio::select! {
        receipt = durable => receipt?,
        problem = full_for_too_long(&api) => return Err(problem),
    };
    Ok(Accepted {
        seq: receipt.seq.0,
        changes: receipt.changes,
        repeated: receipt.repeated,
    })
}

/// Resolves once the disk has been full for so long that a client shouldn't wait for it.
async fn full_for_too_long(api: &Api) -> Problem {
    let most = Duration::from_millis(api.limits.request_ms_max);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let full = api.handle.store.room().full_since();
        if full.is_some_and(|since| since.elapsed() >= most) {
            return Problem::new(
                Kind::DiskFull,
                "disk full: this request has been taken in and waits for room; if the host ends before, nothing of it is \
                 stored. Send it again later: with an Idempotency-Key it counts once",
            );
        }
    }
}

async fn read_body(api: &Api, request: Request) -> Result<Bytes, Problem> {
    let max = api.limits.request_bytes_max;
    let too_large = || {
        Problem::new(
            Kind::BodyTooLarge,
            format!(
                "the body is larger than limits.request_bytes_max = {max} bytes: send it in several requests"
            ),
        )
    };
    let headers = request.headers();
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let readable = max.saturating_mul(PASSED_OVER);
    if announced > readable || (announced > max && headers.contains_key(header::EXPECT)) {
        // A client that asks first hasn't begun to send.
        return Err(too_large());
    }
    let timeout = Duration::from_millis(api.limits.request_ms_max);
    let reading = async {
        let mut stream = request.into_body().into_data_stream();
        let mut body = BytesMut::with_capacity(announced.min(BODY_BYTES_FIRST));
        // Of a body that is announced to be too large nothing is kept.
        let keeps = announced <= max;
        let mut seen = 0usize;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::new(Kind::BadRequest, format!("the body broke off: {error}"))
            })?;
            seen = seen.saturating_add(chunk.len());
            if keeps && seen <= max {
                body.extend_from_slice(&chunk);
            } else {
                // Most clients read the answer only once they have sent all.
                body = BytesMut::new();
                if seen > readable {
                    break;
                }
            }
        }
        if seen > max || !keeps {
            Err(too_large())
        } else {
            Ok(body.freeze())
        }
    };
    tokio::time::timeout(timeout, reading)
        .await
        .unwrap_or_else(|_| {
            Err(Problem::new(
                Kind::Timeout,
                format!(
                    "the body didn't arrive within limits.request_ms_max = {} ms",
                    api.limits.request_ms_max
                ),
            ))
        })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let wrong = |what: &str| Problem::new(Kind::BadRequest, format!("Idempotency-Key {what}"));
    let key = value
        .to_str()
        .map_err(|_| wrong("must be printable ASCII"))?
        .trim();
    // The header's draft standard makes it a quoted string; many clients send it bare.
    let key = key
        .strip_prefix('"')
        .and_then(|key| key.strip_suffix('"'))
        .unwrap_or(key);
    if key.is_empty() {
        return Err(wrong("is empty"));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(wrong(&format!(
            "has {} bytes; {KEY_BYTES_MAX} are the most",
            key.len()
        )));
    }
    Ok(Some(key.to_owned()))
}

fn bad_line(bad: BadLine) -> Problem {
    let kind = if bad.reason.malformed {
        Kind::MalformedChange
    } else {
        Kind::RefusedChange
    };
    Problem::at_line(kind, bad.line, bad.reason)
}

fn refusal(refused: Refused) -> Problem {
    match refused {
        Refused::Stopped(reason) => stopping(&reason),
        Refused::KeyReused => Problem::new(Kind::KeyReused, refused.to_string()),
    }
}

fn stopping(reason: &str) -> Problem {
    Problem::new(
        Kind::Stopping,
        format!(
            "the host is stopping ({reason}): send it again once the host is back; with an Idempotency-Key that is safe"
        ),
    )
}
