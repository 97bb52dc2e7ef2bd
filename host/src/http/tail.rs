//! `GET /v1/tail`: committed changes as they land, one JSON object a line, for as long as the client
//! stays.
//!
//! A stream reads the log from snapshots, so it shows whole commits only. Lines are made no faster than
//! the client takes them: what is behind stays in the log, not in memory.

use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    Api,
    problem::{Kind, Problem},
    read, tables,
};
use crate::{catalog::TableId, change::Seq, store::Reader};

/// Lines go out in pieces of about this size.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TailQuery {
    table: Option<String>,
    since: Option<u64>,
}

type Chunk = Result<Bytes, std::io::Error>;

pub(super) async fn tail(
    State(api): State<Api>,
    query: Result<Query<TailQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let query = tables::parameters(query)?;
    let permit = api.tails.clone().try_acquire_owned().map_err(|_| {
        Problem::new(
            Kind::TooManyWriters,
            format!(
                "limits.requests_max = {} streams are open",
                api.limits.requests_max
            ),
        )
    })?;
    let table = match &query.table {
        None => None,
        Some(name) => Some(read::table(&api.handle.catalog.load(), name)?.id),
    };
    let since = query.since;
    let from = api.read(move |reader, _| begin(reader, since)).await?;
    let (chunks, receiver) = mpsc::channel(2);
    tokio::spawn(follow(api, table, from, chunks, permit));
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    Ok((
        [
            (header::CONTENT_TYPE, "application/x-ndjson"),
            (header::CACHE_CONTROL, "no-store"),
        ],
        Body::from_stream(stream),
    )
        .into_response())
}

/// The seq behind which a stream begins.
fn begin(reader: &Reader, since: Option<u64>) -> Result<Seq, Problem> {
    let last = reader.last_seq();
    let Some(since) = since.map(Seq) else {
        return Ok(last);
    };
    let first = reader.log_first_seq().map_err(Problem::internal)?;
    match first {
        Some(first) if since.0 != 0 && since.next() < first => Err(Problem::new(
            Kind::Conflict,
            format!(
                "the log begins with seq {first}: what came between {since} and that is no longer kept"
            ),
        )),
        _ => Ok(since.min(last)),
    }
}

/// Sends what is behind, then waits for the next commit, until the client or the host goes.
async fn follow(
    api: Api,
    table: Option<TableId>,
    mut sent: Seq,
    chunks: mpsc::Sender<Chunk>,
    _permit: OwnedSemaphorePermit,
) {
    let mut closing = api.closing.clone();
    loop {
        // Both before the look at the store, so that no commit can slip between look and wait.
        let changed = api.handle.board.changed();
        let closed = *closing.borrow_and_update();
        let sender = chunks.clone();
        let result = api
            .read(move |reader, _| send(reader, table, sent, &sender))
            .await;
        match result {
            Ok(Some(seq)) => sent = seq,
            Ok(None) => return,
            Err(problem) => {
                // The stream breaks off, which the client sees as an error.
                let _ = chunks
                    .send(Err(std::io::Error::other(problem.detail)))
                    .await;
                return;
            }
        }
        if closed {
            return;
        }
        tokio::select! {
            () = changed => {}
            _ = closing.changed() => {}
            () = chunks.closed() => return,
        }
    }
}

/// Sends the log behind `sent`; gives how far it goes, or none if the client has gone.
fn send(
    reader: &Reader,
    table: Option<TableId>,
    sent: Seq,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<Option<Seq>, Problem> {
    if reader.last_seq() <= sent {
        return Ok(Some(sent));
    }
    let catalog = reader.catalog().map_err(Problem::internal)?;
    let mut lines = Vec::new();
    // The log's pieces are write sets: the first may begin before what was asked for. Behind it lower seqs
    // are changes that a rule made late, which are as new as the others.
    let mut begun = false;
    for change in reader.log(sent.next()).map_err(Problem::internal)? {
        let change = change.map_err(Problem::internal)?;
        begun |= change.seq > sent;
        if !begun || table.is_some_and(|table| table != change.table) {
            continue;
        }
        let line = read::tail_line(&catalog, &change)?;
        serde_json::to_writer(&mut lines, &line).map_err(Problem::internal)?;
        lines.push(b'\n');
        if lines.len() >= CHUNK_BYTES
            && chunks
                .blocking_send(Ok(std::mem::take(&mut lines).into()))
                .is_err()
        {
            return Ok(None);
        }
    }
    if !lines.is_empty() && chunks.blocking_send(Ok(lines.into())).is_err() {
        return Ok(None);
    }
    Ok(Some(reader.last_seq()))
}
