//! `GET /v1/tail`: committed changes as they land, one JSON object a line, for as long as the client
//! stays.
//!
//! A stream reads the log from snapshots, so it shows whole commits only. Lines are made no faster than
//! the client takes them: what is behind stays in the log, not in memory.

use std::sync::Arc;

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
    answers::{TailLine, TailOp},
    problem::{Kind, Problem},
    read, tables,
};
use crate::{
    catalog::{Stage, Table},
    change::Seq,
    store::Reader,
};

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
    let table = query.table;
    if let Some(name) = &table {
        read::table(&api.handle.catalog.load(), name)?;
    }
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
    table: Option<String>,
    mut sent: Seq,
    chunks: mpsc::Sender<Chunk>,
    _permit: OwnedSemaphorePermit,
) {
    let mut closing = api.closing.clone();
    loop {
        // Both before the look at the store, so that no commit can slip between look and wait.
        let changed = api.handle.board.changed();
        let closed = *closing.borrow_and_update();
        let (sender, table) = (chunks.clone(), table.clone());
        let result = api
            .read(move |reader, _| send(reader, table.as_deref(), sent, &sender))
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
    table: Option<&str>,
    sent: Seq,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<Option<Seq>, Problem> {
    if reader.last_seq() <= sent {
        return Ok(Some(sent));
    }
    let mut bytes = Vec::new();
    let goes_on = lines(reader, table, sent, |line| {
        serde_json::to_writer(&mut bytes, &line).map_err(Problem::internal)?;
        bytes.push(b'\n');
        if bytes.len() < CHUNK_BYTES {
            return Ok(true);
        }
        Ok(chunks
            .blocking_send(Ok(std::mem::take(&mut bytes).into()))
            .is_ok())
    })?;
    if !goes_on || (!bytes.is_empty() && chunks.blocking_send(Ok(bytes.into())).is_err()) {
        return Ok(None);
    }
    Ok(Some(reader.last_seq()))
}

/// Hands over a table's lines behind `sent`, or every table's, until `take` wants no more; false if it didn't. What a rebuild makes
/// shows from its switch on, which has a line of its own.
///
/// # Errors
/// If the store fails, or `take` does.
pub fn lines(
    reader: &Reader,
    table: Option<&str>,
    sent: Seq,
    mut take: impl FnMut(TailLine) -> Result<bool, Problem>,
) -> Result<bool, Problem> {
    let catalog = reader.catalog().map_err(Problem::internal)?;
    let is_wanted = |of: &Table| table.is_none_or(|name| name == of.plain_name());
    let switched = |of: &&Arc<Table>| of.is_serving() && of.since() > sent.0 && is_wanted(of);
    let mut switches: Vec<&Arc<Table>> = catalog.tables().filter(switched).collect();
    switches.sort_by_key(|of| of.since());
    let mut switches = switches.into_iter().peekable();
    // The log's pieces are write sets: the first may begin before what was asked for. Behind it lower seqs
    // are changes that a rule made late, which are as new as the others.
    let mut begun = false;
    for change in reader.log(sent.next()).map_err(Problem::internal)? {
        let change = change.map_err(Problem::internal)?;
        begun |= change.seq > sent;
        let of = catalog.table(change.table);
        if !begun || !is_wanted(of) || is_of_rebuild(of, change.seq) {
            continue;
        }
        while let Some(of) = switches.next_if(|of| of.since() < change.seq.0) {
            if !take(switch_line(of))? {
                return Ok(false);
            }
        }
        if !take(read::tail_line(&catalog, &change)?)? {
            return Ok(false);
        }
    }
    for of in switches {
        if !take(switch_line(of))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a change is one that a rebuild made of a table that didn't serve yet, or never has.
fn is_of_rebuild(table: &Table, seq: Seq) -> bool {
    match table.stage {
        Stage::Serving { since } => seq.0 <= since,
        Stage::Rebuilding => true,
        // A table that served has its number behind its name; one that never did more than that.
        Stage::Dropped | Stage::Replaced { .. } => table.name.matches(':').count() > 1,
    }
}

fn switch_line(table: &Table) -> TailLine {
    TailLine {
        seq: table.since(),
        table: table.name.clone(),
        op: TailOp::Rebuilt,
        key: None,
        before: None,
        after: None,
        ts: None,
    }
}
