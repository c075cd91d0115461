//! Lists in bodies whose items name channels or switches of a device by their ids.

use meterd_fault::Rule;
use meterd_http::fields::Fields;
use meterd_http::json::child;
use std::borrow::Cow;
use std::collections::HashSet;

/// Longer than any list of a device can be; each item that repeats another is told by itself.
pub(crate) const ITEMS_MAX: usize = 32;

/// Reads each item of a list that names one of `ids`, at most once; `read` gets its number, from 1.
pub(crate) fn each_of<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    ids: &[String],
    mut read: impl FnMut(u8, &mut Fields<'_>) -> Option<T>,
) -> Vec<T> {
    let items = fields.array(name, ITEMS_MAX).unwrap_or_default();
    let mut seen = HashSet::new();
    let mut patches = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let place = child(&format!("/{name}"), &index.to_string());
        let Some(mut item) = Fields::of_object(item, &place, fields.problems()) else {
            continue;
        };
        let Some(id) = item.required_string("id") else {
            continue;
        };
        match position(ids, &id) {
            None => item.refuse("id", one_of(ids)),
            Some(number) if !seen.insert(number) => item.refuse("id", Rule::Unique),
            Some(number) => patches.extend(read(number, &mut item)),
        }
    }
    patches
}

pub(crate) fn position(ids: &[String], id: &str) -> Option<u8> {
    let index = ids.iter().position(|known| known == id)?;
    u8::try_from(index + 1).ok()
}

pub(crate) fn one_of(ids: &[String]) -> Rule {
    if ids.is_empty() {
        return Rule::Other {
            code: "not_supported",
            text: "must name a part of the device, which has none of this kind".into(),
        };
    }
    let allowed = ids.iter().map(|id| Cow::Owned(id.clone()));
    Rule::OneOf {
        allowed: allowed.collect(),
    }
}
