//! What a file system's notifications mean to those who watch a directory and read its files.

use notify::event::{AccessKind, AccessMode, EventKind};

/// Whether a file was only opened or read. Whoever reads the files that it watches does that itself, and would wake
/// itself for ever.
pub(crate) fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
