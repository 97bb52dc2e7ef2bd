//! A whole body of JSON lines, taken or refused as one.

use super::{Decoder, Reason};
use crate::change::RawChange;

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} (byte {offset_bytes}): {reason}")]
pub struct BadLine {
    /// The line, from 1.
    pub line: u64,
    /// The offset of its first byte in the body.
    pub offset_bytes: u64,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Decodes every line of `body`, whose last line may lack its line end, with a decoder whose chunk is
/// empty.
///
/// # Errors
/// The first line that can't be taken, or the one after `changes_max` changes. The decoder's chunk is
/// empty then too.
pub fn decode_ndjson(
    decoder: &mut Decoder,
    body: &[u8],
    changes_max: usize,
) -> Result<Vec<RawChange>, BadLine> {
    let mut offset = 0;
    let body = body
        .strip_prefix(b"\xef\xbb\xbf")
        .inspect(|_| offset = 3)
        .unwrap_or(body);
    for (number, line) in body.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let mut taken = decoder.line(line);
        if taken.is_ok() && decoder.chunk_changes() > changes_max {
            taken = Err(Reason::Invalid(format!(
                "the request has more changes than limits.transaction_changes_max = {changes_max}"
            )));
        }
        if let Err(reason) = taken {
            drop(decoder.take_chunk());
            return Err(BadLine {
                line: number as u64 + 1,
                offset_bytes: offset,
                reason,
            });
        }
        offset += line.len() as u64;
    }
    Ok(decoder.take_chunk())
}
