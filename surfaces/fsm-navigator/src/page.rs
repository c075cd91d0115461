//! Pages by number, and what lists are narrowed by (3.4, 3.5).

use crate::record::{Look, Record};
use crate::wire::{Moment, time_bound};
use meterd_control::{Document, List, Stored};
use meterd_fault::{Fault, JsonType, Rule};
use meterd_http::fields::{Fields, Form};
use meterd_http::json::Json;
use serde::Serialize;
use std::sync::Arc;

/// Query strings: what is unknown or empty is as if it were not there.
pub(crate) const QUERY: Form = Form {
    refuses_unknown: false,
    joins_repeats: true,
    drops_empty: true,
};

const PER_PAGE_DEFAULT: i64 = 50;
/// More than that is not refused: so many come.
const PER_PAGE_MAX: i64 = 100;

/// Which page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageAsked {
    page: usize,
    per_page: usize,
}

#[derive(Debug, Serialize)]
pub(crate) struct Pagination {
    page: usize,
    per_page: usize,
    total: usize,
    total_pages: usize,
}

impl PageAsked {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        let page = counting(fields, "page").unwrap_or(1);
        let per_page = counting(fields, "per_page");
        let per_page = per_page.unwrap_or(PER_PAGE_DEFAULT).min(PER_PAGE_MAX);
        Self {
            page: usize::try_from(page).unwrap_or(1),
            per_page: usize::try_from(per_page).unwrap_or(1),
        }
    }

    pub(crate) fn of(self, total: usize) -> Pagination {
        Pagination {
            page: self.page,
            per_page: self.per_page,
            total,
            total_pages: total.div_ceil(self.per_page),
        }
    }

    /// The page of what is in memory already.
    pub(crate) fn cut<T>(self, all: impl Iterator<Item = T>) -> Vec<T> {
        all.skip(self.skip()).take(self.per_page).collect()
    }

    fn skip(self) -> usize {
        (self.page - 1).saturating_mul(self.per_page)
    }
}

/// A number from 1 on, in digits: neither `1.0` nor `1e1` is one here.
fn counting(fields: &mut Fields<'_>, name: &'static str) -> Option<i64> {
    if let Some(Json::String(text)) = fields.peek(name)
        && text.contains(['.', 'e', 'E'])
    {
        let expected = JsonType::Integer;
        fields.refuse(name, Rule::Type { expected });
        return None;
    }
    fields.integer(name, 1, i64::MAX)
}

/// Records of a page, and how many there are on all.
type Found<D> = (Vec<Arc<Stored<D>>>, usize);

/// Whether a list has something.
type Test<D> = Box<dyn Fn(&Stored<D>) -> bool>;

/// What a list is narrowed by; all must hold.
pub(crate) struct Filters<D> {
    equal: Vec<(&'static str, String)>,
    tests: Vec<Test<D>>,
}

impl<D: Document> Filters<D> {
    /// What every list can be narrowed by.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        let after = time_bound(fields, "created_after");
        let before = time_bound(fields, "created_before");
        let created = |stored: &Stored<D>| Moment::of(stored.created_at);
        let mut filters = Self::none();
        filters.when(after, move |after, stored| created(stored) > *after);
        filters.when(before, move |before, stored| created(stored) < *before);
        filters
    }

    pub(crate) fn none() -> Self {
        Self {
            equal: Vec::new(),
            tests: Vec::new(),
        }
    }

    /// The value stands under an index key; without a value nothing is asked.
    pub(crate) fn equal(&mut self, index: &'static str, value: Option<impl ToString>) {
        let value = value.map(|value| value.to_string());
        self.equal.extend(value.map(|value| (index, value)));
    }

    /// The test holds for the value; without a value nothing is asked.
    pub(crate) fn when<V: 'static>(
        &mut self,
        value: Option<V>,
        test: impl Fn(&V, &Stored<D>) -> bool + 'static,
    ) {
        if let Some(value) = value {
            self.tests
                .push(Box::new(move |stored| test(&value, stored)));
        }
    }

    /// The page, the newest first, and how many there are in all.
    pub(crate) fn page(&self, look: &Look<'_>, page: PageAsked) -> Result<Found<D>, Fault>
    where
        D: Record,
    {
        let equal: Vec<_> = (self.equal.iter())
            .map(|(index, value)| (*index, value.as_str()))
            .collect();
        if self.tests.is_empty() {
            let list = List {
                filters: &equal,
                skip: page.skip(),
                limit: page.per_page,
                ..List::default()
            };
            let items = look.store.list(look.space, &list)?.items;
            return Ok((items, look.store.count::<D>(look.space, &equal)?));
        }
        // Compared once they are gathered: nobody may wait for the store meanwhile.
        let mut all = look.every::<D>(&equal)?;
        all.retain(|stored| self.tests.iter().all(|test| test(stored)));
        let total = all.len();
        Ok((page.cut(all.into_iter().rev()), total))
    }
}

/// `search`, to be looked for in texts.
#[derive(Debug)]
pub(crate) struct Search {
    lower: String,
    digits: String,
}

impl Search {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let text = fields.string("search")?;
        let text = text.trim();
        (!text.is_empty()).then(|| Self {
            lower: text.to_lowercase(),
            digits: digits(text),
        })
    }

    /// Whether the text has it as a part, in any case.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.lower)
    }

    /// Whether the phone number has its digits as a part; what has letters is no number.
    pub(crate) fn is_in_phone(&self, phone: &str) -> bool {
        !self.digits.is_empty()
            && !self.lower.chars().any(char::is_alphabetic)
            && digits(phone).contains(&self.digits)
    }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}
