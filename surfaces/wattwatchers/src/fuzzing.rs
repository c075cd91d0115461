//! What fuzz targets read, so that they need not know what is private.

use crate::check::Terms;
use crate::ingest::Sent;
use crate::layout::Layout;
use crate::stream::Stream;
use axum::body::Bytes;
use meterd_http::fields::Problems;
use meterd_http::json::{Json, parse};
use meterd_model::Timestamp;

/// Reads any bytes as what devices send. The records of a body are the items of the array that it is.
///
/// # Panics
/// If that does not hold.
pub fn records(body: &[u8]) {
    for stream in [Stream::Long, Stream::Short, Stream::Modbus] {
        let sent = Sent::read(Bytes::copy_from_slice(body), stream);
        for text in sent.iter().flat_map(Sent::records) {
            let _ = terms(stream).read(text);
        }
        let mut problems = Problems::default();
        let whole = parse(body, "", &mut problems);
        let (Ok(sent), Ok(Json::Array(items)), true) = (sent, whole, problems.is_empty()) else {
            continue;
        };
        let one_by_one = sent.records().map(|text| parse(text, "", &mut problems));
        assert!(one_by_one.eq(items.into_iter().map(Ok)));
    }
}

/// Reads any text as a table. What is taken of it is JSON, if not a good record.
///
/// # Panics
/// If that does not hold.
pub fn table(text: &str) {
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let Some(layout) = lines.next().and_then(|names| Layout::of_header(&names)) else {
        return;
    };
    for row in lines.filter_map(|cells| layout.row(&cells).ok()) {
        let mut problems = Problems::default();
        let json = parse(row.record.as_bytes(), "", &mut problems);
        assert!(json.is_ok() && problems.is_empty(), "{}", row.record);
        let _ = terms(Stream::Long).read(row.record.as_bytes());
    }
}

fn terms(stream: Stream) -> Terms {
    Terms {
        stream,
        channels: 3,
        latest: Timestamp::MAX,
    }
}
