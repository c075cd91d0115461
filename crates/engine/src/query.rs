//! Questions about the measurements of one meter.
//!
//! A query takes a snapshot under a short lock: the chunks of the meter in memory, its segments, and which rows count
//! no more. Then it works without any lock. The snapshot falls into pieces, which one or several threads scan: each
//! selects the rows of a piece and numbers their groups, then lets each aggregation run over the selection. At the end
//! the threads' results are joined and their texts sorted. What a whole segment comes to is kept for the next query.

mod accumulate;
mod answers;
mod consumption;
mod groups;
mod numbers;
mod plan;
mod scan;
mod view;
mod windows;

use crate::segment::SegmentError;
use crate::settings::Settings;
use crate::state::Organization;
pub(crate) use answers::Answers;
use consumption::{question_before, settle};
use groups::Ranks;
use meterd_model::{DecimalSum, FieldName, MeterId, Subject, Timestamp, Window, Zone};
use parking_lot::RwLock;
use plan::Plan;
pub(crate) use plan::{TextFilter, column, is_retired};
use scan::{Tally, scan};
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};

/// One question. A row of the answer stands for one window and one combination of group values; it exists only
/// where at least one measurement matches.
#[derive(Clone, Debug)]
pub struct Query {
    pub meter: MeterId,
    /// Measurements whose `time` is in `[from, to)`; an empty range has no rows.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Whose calendar the windows follow.
    pub zone: Zone,
    /// `None`: the whole range is one window.
    pub window: Option<Window>,
    pub group_by: Vec<GroupKey>,
    pub filter: Filter,
    pub aggregations: Vec<Aggregation>,
    /// Before the default order, which is by `from` and then by the groups from left to right.
    pub order_by: Vec<Order>,
    pub offset: usize,
    pub limit: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupKey {
    Subject,
    /// Measurements without the attribute form a group of their own, `None`.
    Attribute(FieldName),
}

/// Which measurements match: all that is said here must hold. An empty list matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    pub subjects: Option<Vec<Subject>>,
    /// The attribute has one of the texts. A measurement without the attribute does not match.
    pub attributes: Vec<(FieldName, Vec<String>)>,
}

impl Filter {
    pub(crate) fn matches_nothing(&self) -> bool {
        self.subjects.as_ref().is_some_and(Vec::is_empty)
            || self.attributes.iter().any(|(_, texts)| texts.is_empty())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aggregation {
    pub function: Function,
    /// Which field; see [`Function`] for what `None` means.
    pub field: Option<FieldName>,
}

/// What to work out for each row. Only measurements that carry the field take part; where none does, the answer is
/// `None`, but 0 for `Count` and `Unique`.
///
/// All but `Count` and `Unique` need a value field; an attribute has no sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Sum,
    Min,
    Max,
    /// Without field: measurements. With a field, a value or an attribute: those that carry it.
    Count,
    /// Rounded half to even at the 18th digit after the point.
    Mean,
    /// The value with the greatest time; of several, the one stored last.
    Latest,
    /// The value with the smallest time; of several, the one stored first.
    Earliest,
    /// How many distinct values, exactly: of a value field, of an attribute, or, without field, of the subject. Where
    /// a measurement carries a name as both, `Unique` takes the value.
    Unique,
    /// By how much a register rose: over each subject's measurements that match, by time and then in the order they were
    /// stored, the differences to the one before, which may lie before the range. Each counts where the later
    /// measurement does, so that windows add up to the whole; a lower reading counts negatively. One that carries
    /// [`meterd_model::RESET`] begins a new count and adds nothing.
    Consumption,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub by: OrderKey,
    pub descending: bool,
}

/// What to order by. `None` comes before everything else, texts go by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderKey {
    From,
    /// By index into `group_by`.
    Group(usize),
    /// By index into `aggregations`.
    Value(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryAnswer {
    pub rows: Vec<Row>,
    /// Whether rows follow after `offset + limit`.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The window, clipped to the query's range.
    pub from: Timestamp,
    pub to: Timestamp,
    /// In the order of `group_by`.
    pub group: Vec<Option<String>>,
    /// In the order of `aggregations`.
    pub values: Vec<Option<Number>>,
}

/// A value of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Number {
    Count(u64),
    Decimal(DecimalSum),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("the query needs {limit}")]
    TooExpensive { limit: QueryLimit },
    #[error("the query was cancelled")]
    Cancelled,
    /// Something on disk cannot be read. For the log, not for clients.
    #[error("{0}")]
    Unreadable(String),
    /// The aggregation at this index needs a field.
    #[error("aggregation {aggregation} needs a field")]
    FieldMissing { aggregation: usize },
    /// The order at this index names a group or value that the query does not have.
    #[error("order {order} names nothing of the query")]
    OrderUnknown { order: usize },
}

impl From<SegmentError> for QueryError {
    fn from(error: SegmentError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// The bound that a query went past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryLimit {
    #[error("more than {0} measurements")]
    Rows(u64),
    #[error("more than {0} groups")]
    Groups(usize),
    #[error("more than {0} distinct values")]
    Unique(usize),
    #[error("more than {0} distinct texts")]
    Texts(usize),
}

/// Lets another thread end a query.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn cancel(&self) {
        self.0.store(true, AtomicOrdering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(AtomicOrdering::Relaxed)
    }
}

impl Query {
    /// Whether the parts of the query fit each other.
    pub fn check(&self) -> Result<(), QueryError> {
        for (index, aggregation) in self.aggregations.iter().enumerate() {
            let optional = matches!(aggregation.function, Function::Count | Function::Unique);
            if aggregation.field.is_none() && !optional {
                return Err(QueryError::FieldMissing { aggregation: index });
            }
        }
        for (index, order) in self.order_by.iter().enumerate() {
            let known = match order.by {
                OrderKey::From => true,
                OrderKey::Group(group) => group < self.group_by.len(),
                OrderKey::Value(value) => value < self.aggregations.len(),
            };
            if !known {
                return Err(QueryError::OrderUnknown { order: index });
            }
        }
        Ok(())
    }
}

pub(crate) fn run(
    organization: &RwLock<Organization>,
    query: &Query,
    settings: &Settings,
    answers: &Answers,
    cancel: &Cancel,
) -> Result<QueryAnswer, QueryError> {
    query.check()?;
    let before = question_before(query);
    let (plan, plan_before) = {
        // One snapshot of both.
        let organization = organization.read();
        let plan_before = before
            .as_ref()
            .map(|before| Plan::new(&organization, before));
        (Plan::new(&organization, query), plan_before)
    };
    let mut found = scan(&plan, query, settings, answers, cancel)?;
    if let (Some(before), Some(plan)) = (&before, &plan_before) {
        let before = scan(plan, before, settings, answers, cancel)?;
        settle(query, &mut found, &before);
    }
    let ranks = Ranks::new(&found.tally.groups, &found.texts, cancel)?;
    Ok(answer(query, &found.tally, &ranks))
}

pub(crate) fn check(cancel: &Cancel) -> Result<(), QueryError> {
    if cancel.is_cancelled() {
        Err(QueryError::Cancelled)
    } else {
        Ok(())
    }
}

fn too_expensive(limit: QueryLimit) -> QueryError {
    QueryError::TooExpensive { limit }
}

fn answer(query: &Query, tally: &Tally, ranks: &Ranks<'_>) -> QueryAnswer {
    let Tally { groups, columns } = tally;
    let sort_values: Vec<Vec<Option<Number>>> = query
        .order_by
        .iter()
        .map(|order| match order.by {
            OrderKey::Value(index) => columns.get(index).map_or_else(Vec::new, |column| {
                (0..groups.len()).map(|group| column.value(group)).collect()
            }),
            OrderKey::From | OrderKey::Group(_) => Vec::new(),
        })
        .collect();
    let compare = |a: &usize, b: &usize| {
        for (order, values) in query.order_by.iter().zip(&sort_values) {
            let ordering = match order.by {
                OrderKey::From => groups.start(*a).cmp(&groups.start(*b)),
                OrderKey::Group(index) => ranks
                    .of(groups, *a, index)
                    .cmp(&ranks.of(groups, *b, index)),
                OrderKey::Value(_) => values.get(*a).cmp(&values.get(*b)),
            };
            let ordering = if order.descending {
                ordering.reverse()
            } else {
                ordering
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        let texts = |group: usize| {
            (0..query.group_by.len()).map(move |index| ranks.of(groups, group, index))
        };
        (groups.start(*a).cmp(&groups.start(*b))).then_with(|| texts(*a).cmp(texts(*b)))
    };
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let end = query.offset.saturating_add(query.limit);
    if end < order.len() {
        // Only the rows up to the page's end need their order.
        order.select_nth_unstable_by(end, compare);
        order.truncate(end);
    }
    order.sort_unstable_by(compare);
    let rows = order.iter().skip(query.offset).map(|group| {
        let (from, to) = groups.window(*group);
        Row {
            from,
            to,
            group: (0..query.group_by.len())
                .map(|index| ranks.text(groups, *group, index).map(str::to_owned))
                .collect(),
            values: columns.iter().map(|column| column.value(*group)).collect(),
        }
    });
    QueryAnswer {
        rows: rows.collect(),
        more: end < groups.len(),
    }
}
