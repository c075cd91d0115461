//! What fuzz targets read, so that they need not know what is private.

use crate::ingest::rows::{read, read_row};
use meterd_model::Timestamp;

/// Reads any bytes as the body of `POST /measurements`. Each row that is accepted is the same row when it stands by
/// itself, as in a file.
///
/// # Panics
/// If that does not hold.
pub fn rows(body: &[u8]) {
    let latest = Timestamp::MAX;
    let Ok(rows) = read(body, latest) else {
        return;
    };
    for row in rows {
        let alone = read_row(row.text, latest);
        assert!(alone.is_ok_and(|alone| alone == row), "{}", row.text);
    }
}
