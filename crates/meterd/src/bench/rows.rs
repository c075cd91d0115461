//! The measurements that every server is loaded with, in the words of each.

use super::options::{Format, Shape};
use meterd_model::Timestamp;
use std::io::Write as _;
use std::ops::Range;

/// 2026-01-01T00:00:00Z; rows follow each other by seven seconds and begin anew at the end of the days.
const FIRST_SECOND: i64 = 1_767_225_600;
const DAY_SECONDS: u64 = 86_400;
const REGIONS: [&str; 4] = ["eu-west", "us-east", "us-west", "ap-south"];

/// The name of a meter.
pub(crate) fn meter(shape: &Shape, number: u64) -> String {
    if shape.meters == 1 {
        return "bench".to_owned();
    }
    format!("bench-{number}")
}

/// The time so many days after the first row's.
pub(crate) fn day(days: u32) -> Timestamp {
    Timestamp::from_seconds(FIRST_SECOND + i64::from(days) * 86_400).unwrap_or(Timestamp::MIN)
}

/// The id of a row: 128 bits in hexadecimal digits.
pub(crate) fn id(row: u64) -> String {
    let id = u128::from(row).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    format!("{id:032x}")
}

/// The body with these rows. In JSON, a row is about 190 bytes: a 128-bit id, two values, one attribute.
pub(crate) fn body(shape: &Shape, format: Format, rows: Range<u64>) -> Vec<u8> {
    const ROW_BYTES: usize = 200;
    let count = usize::try_from(rows.end.saturating_sub(rows.start)).unwrap_or(0);
    let mut body = Vec::with_capacity(count.saturating_mul(ROW_BYTES));
    let is_json = matches!(format, Format::Native | Format::M3ter);
    if is_json {
        body.extend_from_slice(b"{\"measurements\":[");
    }
    let first = rows.start;
    for row in rows {
        if is_json && row != first {
            body.push(b',');
        }
        // Writing to a vector cannot fail.
        let _ = write_row(&mut body, shape, format, row);
    }
    if is_json {
        body.extend_from_slice(b"]}");
    }
    body
}

fn write_row(body: &mut Vec<u8>, shape: &Shape, format: Format, row: u64) -> std::io::Result<()> {
    let id = id(row);
    let meter = meter(shape, row % u64::from(shape.meters));
    let subject = row % u64::from(shape.subjects);
    let offset = row * 7 % (u64::from(shape.days) * DAY_SECONDS);
    let second = FIRST_SECOND + i64::try_from(offset).unwrap_or(0);
    let (requests, bytes, hundredths) = (row % 97, row % 100_003, row % 100);
    let region = usize::try_from(row % 4)
        .ok()
        .and_then(|index| REGIONS.get(index))
        .unwrap_or(&"");
    match format {
        Format::Native => {
            let time = Timestamp::from_seconds(second).unwrap_or(Timestamp::MIN);
            write!(
                body,
                "{{\"id\":\"{id}\",\"meter\":\"{meter}\",\"subject\":\"subject-{subject}\",\"time\":\"{time}\",\
                 \"values\":{{\"requests\":{requests},\"bytes\":{bytes}.{hundredths:02}}},\
                 \"attributes\":{{\"region\":\"{region}\"}}}}"
            )
        }
        Format::M3ter => {
            let time = Timestamp::from_seconds(second).unwrap_or(Timestamp::MIN);
            write!(
                body,
                "{{\"uid\":\"{id}\",\"meter\":\"{meter}\",\"account\":\"subject-{subject}\",\"ts\":\"{time}\",\
                 \"measure\":{{\"requests\":{requests},\"bytes\":{bytes}.{hundredths:02}}},\
                 \"where\":{{\"region\":\"{region}\"}}}}"
            )
        }
        // Microseconds as an integer: what every version reads, and cheaper to read than a date.
        Format::Clickhouse => writeln!(
            body,
            "{{\"id\":\"{id}\",\"meter\":\"{meter}\",\"subject\":\"subject-{subject}\",\"time\":{second}000000,\
             \"requests\":{requests},\"bytes\":{bytes}.{hundredths:02},\"region\":\"{region}\"}}"
        ),
        // There is no place for the id: a sample is known by its labels and its time.
        Format::Victoria => writeln!(
            body,
            "{meter},subject=subject-{subject},region={region} requests={requests},bytes={bytes}.{hundredths:02} \
             {second}000000000"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_words_the_same_row() {
        let shape = Shape {
            rows: 1,
            subjects: 10,
            meters: 1,
            days: 30,
        };
        let text = |format| String::from_utf8(body(&shape, format, 12..13)).unwrap();
        let id = "6a99b4b1f77dd1076b5904845b25627c";
        assert_eq!(
            text(Format::Native),
            format!(
                "{{\"measurements\":[{{\"id\":\"{id}\",\"meter\":\"bench\",\"subject\":\"subject-2\",\
                 \"time\":\"2026-01-01T00:01:24Z\",\"values\":{{\"requests\":12,\"bytes\":12.12}},\
                 \"attributes\":{{\"region\":\"eu-west\"}}}}]}}"
            )
        );
        assert_eq!(
            text(Format::M3ter),
            format!(
                "{{\"measurements\":[{{\"uid\":\"{id}\",\"meter\":\"bench\",\"account\":\"subject-2\",\
                 \"ts\":\"2026-01-01T00:01:24Z\",\"measure\":{{\"requests\":12,\"bytes\":12.12}},\
                 \"where\":{{\"region\":\"eu-west\"}}}}]}}"
            )
        );
        assert_eq!(
            text(Format::Clickhouse),
            format!(
                "{{\"id\":\"{id}\",\"meter\":\"bench\",\"subject\":\"subject-2\",\"time\":1767225684000000,\
                 \"requests\":12,\"bytes\":12.12,\"region\":\"eu-west\"}}\n"
            )
        );
        assert_eq!(
            text(Format::Victoria),
            "bench,subject=subject-2,region=eu-west requests=12,bytes=12.12 1767225684000000000\n"
        );
    }
}
