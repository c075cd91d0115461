//! Pages of lists: `limit` and `cursor` in, `items` and `next_cursor` out, the same everywhere.

use meterd_control::Cursor;
use meterd_fault::{Format, Rule};
use meterd_http::Checked;
use meterd_http::fields::Fields;
use serde::Serialize;

/// Items on a page unless the request says otherwise.
const LIMIT_DEFAULT: i64 = 100;
/// Most items on a page.
pub(crate) const LIMIT_MAX: i64 = 1000;

/// One page of anything.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_cursor: Option<String>,
}

/// Which page of a control-plane list.
#[derive(Debug)]
pub(crate) struct PageQuery {
    pub(crate) limit: usize,
    pub(crate) cursor: Option<Cursor>,
}

impl Checked for PageQuery {
    fn check(fields: &mut Fields<'_>) -> Option<Self> {
        let limit = limit(fields);
        let cursor = cursor(fields, |text| Cursor::parse(text).ok());
        Some(Self { limit, cursor })
    }
}

pub(crate) fn limit(fields: &mut Fields<'_>) -> usize {
    let limit = fields.integer("limit", 1, LIMIT_MAX);
    usize::try_from(limit.unwrap_or(LIMIT_DEFAULT)).unwrap_or(1)
}

/// The cursor as `parse` reads it; one that cannot be read is a problem.
pub(crate) fn cursor<C>(
    fields: &mut Fields<'_>,
    parse: impl FnOnce(&str) -> Option<C>,
) -> Option<C> {
    let text = fields.string("cursor")?;
    let cursor = parse(&text);
    if cursor.is_none() {
        fields.refuse(
            "cursor",
            Rule::Format {
                format: Format::Cursor,
            },
        );
    }
    cursor
}
