//! Measurements against the meters and accounts of their organization, row by row and in order (5.3).
//!
//! Nothing here refuses the request: a row that cannot be stored becomes a failed row with its reasons.

use super::rows::{Amount, Given, Row};
use crate::account::{Account, Holder, fold_code};
use crate::app::App;
use crate::failure::{FailedRow, Failure, FailureType};
use crate::plan::{DerivedPlan, FieldPlan, MeterPlan};
use crate::wire::CustomValues;
use meterd_control::{List, Store};
use meterd_fault::{Fault, quote};
use meterd_formula::Value;
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, OrganizationId, Timestamp,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Operations of calculations that a thread that serves connections evaluates for one request: some milliseconds.
const OPERATIONS_MAX: usize = 100_000;

/// What is known of an account that rows name.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Here(Holder),
    /// There is none; one will be made.
    Missing(String),
    /// There is none, but this one, which a person would take for the same.
    Near(String),
    /// There is none, nor room for one.
    NoRoom,
}

/// What the rows of a request are, of which some may have to wait for their account.
#[derive(Debug, Default)]
pub(super) struct Sorted<'b> {
    /// For each row: what it names, if it fits its meter.
    named: Vec<Option<Named>>,
    failed: Vec<FailedRow<'b>>,
    /// By place.
    plans: Vec<Option<Arc<MeterPlan>>>,
    accounts: Vec<Known>,
}

/// The places of a row's meter and account.
#[derive(Clone, Copy, Debug)]
struct Named {
    meter: usize,
    account: usize,
}

/// Rows ready to be stored, beside what is to be told of them if they are not.
#[derive(Debug, Default)]
pub(super) struct Ready<'r, 'b> {
    pub(super) measurements: Vec<Measurement>,
    /// For each measurement.
    pub(super) told: Vec<Told<'r, 'b>>,
    pub(super) failed: Vec<FailedRow<'b>>,
}

#[derive(Debug)]
pub(super) struct Told<'r, 'b> {
    pub(super) row: &'r Row<'b>,
    pub(super) account: Uuid,
    /// Of derived fields; the row is stored all the same.
    pub(super) failures: Vec<Failure>,
}

/// Sorts rows out, and notes in them which fields of their meters they have.
pub(super) fn sort<'b>(
    app: &App,
    organization: OrganizationId,
    rows: &mut [Row<'b>],
) -> Result<Sorted<'b>, Fault> {
    let mut sorted = Sorted {
        named: Vec::with_capacity(rows.len()),
        ..Sorted::default()
    };
    let (mut meters, mut accounts) = (Codes::default(), Codes::default());
    // What rows name that fail; for each of them the place.
    let (mut others, mut other_places) = (Codes::default(), Vec::new());
    for row in rows {
        let meter = meters.place(&row.meter);
        if meter == sorted.plans.len() {
            let plan = app.plans.find(app, organization, &row.meter)?;
            sorted.plans.push(plan);
        }
        let fits = match sorted.plans.get(meter) {
            Some(Some(plan)) => fit(plan, &mut row.fields),
            _ => {
                let message = format!("there is no meter with the code '{}'", quote(&row.meter));
                Err(vec![failure(FailureType::UndefinedMeter, message, None)])
            }
        };
        sorted.named.push(match fits {
            // Only a row that fits makes an account.
            Ok(()) => Some(Named {
                meter,
                account: accounts.place(&row.account),
            }),
            Err(failures) => {
                other_places.push(others.place(&row.account));
                sorted.failed.push(failed_row(row, None, failures));
                None
            }
        });
    }
    let others = (app.holders).find(app.control.store(), organization, &others.in_order)?;
    for (failed, place) in sorted.failed.iter_mut().zip(other_places) {
        let holder = others.get(place).and_then(Option::as_ref);
        failed.account = holder.map(|holder| holder.account.id);
    }
    sorted.accounts = known(app, organization, &accounts.in_order)?;
    Ok(sorted)
}

impl<'b> Sorted<'b> {
    /// Codes of accounts to be made, in the order of the rows.
    pub(super) fn missing(&self) -> Vec<String> {
        let missing = self.accounts.iter().filter_map(|known| match known {
            Known::Missing(code) => Some(code.clone()),
            Known::Here(_) | Known::Near(_) | Known::NoRoom => None,
        });
        missing.collect()
    }

    /// Whether the calculations of the rows take so long that nobody may wait for the thread meanwhile.
    pub(super) fn is_costly(&self) -> bool {
        let plans = self.named.iter().flatten();
        let plans = plans.filter_map(|named| self.plans.get(named.meter)?.as_ref());
        plans.map(|plan| plan.operations).sum::<usize>() > OPERATIONS_MAX
    }

    /// Makes measurements of the rows. `found` is what became of the missing accounts, in their order; `id_base` what
    /// the ids of rows without one are made of, new for each request.
    pub(super) fn settle<'r>(
        mut self,
        rows: &'r [Row<'b>],
        found: Vec<Known>,
        id_base: Uuid,
    ) -> Result<Ready<'r, 'b>, Fault> {
        let missing = self.accounts.iter_mut();
        let missing = missing.filter(|known| matches!(known, Known::Missing(_)));
        for (known, found) in missing.zip(found) {
            *known = found;
        }
        let mut ready = Ready {
            measurements: Vec::with_capacity(rows.len()),
            told: Vec::with_capacity(rows.len()),
            failed: self.failed,
        };
        for ((row, named), number) in rows.iter().zip(self.named).zip(0_u128..) {
            let Some(named) = named else { continue };
            let plan = self.plans.get(named.meter).and_then(Option::as_ref);
            match (plan, self.accounts.get(named.account)) {
                (Some(plan), Some(Known::Here(holder))) => {
                    let id = match &row.uid {
                        Some(uid) => uid.clone(),
                        // The lowest bits are random, so that what comes out is as good an id as the base.
                        None => id_of(Uuid::from_u128(id_base.as_u128() ^ number))?,
                    };
                    let mut measurement = measurement(plan, row, holder, id);
                    let failures = derive(plan, row, holder, &mut measurement);
                    ready.measurements.push(measurement.in_order());
                    ready.told.push(Told {
                        row,
                        account: holder.account.id,
                        failures,
                    });
                }
                (_, Some(Known::Near(other))) => {
                    let failures = vec![near_code(other)];
                    ready.failed.push(failed_row(row, None, failures));
                }
                (_, Some(Known::NoRoom)) => {
                    let failures = vec![no_room(&row.account)];
                    ready.failed.push(failed_row(row, None, failures));
                }
                // Every missing account was found or made.
                _ => {}
            }
        }
        Ok(ready)
    }
}

pub(super) fn failed_row<'b>(
    row: &Row<'b>,
    account: Option<Uuid>,
    failures: Vec<Failure>,
) -> FailedRow<'b> {
    FailedRow {
        failures,
        uid: row.uid.as_ref().map(ToString::to_string),
        account,
        text: Cow::Borrowed(row.text),
    }
}

/// What a code stands for in an organization. Asked in one go, so that an account that is made meanwhile is never taken
/// for one that is near itself.
pub(super) fn look_up(
    store: &Store,
    organization: OrganizationId,
    code: &str,
) -> Result<Known, Fault> {
    let folded = fold_code(code);
    let alike = List {
        filters: &[("foldedCode", &folded)],
        ..List::default()
    };
    let alike = store.list::<Account>(organization, &alike)?.items;
    let own = alike.iter().find(|account| account.document.code == code);
    Ok(match (own, alike.first()) {
        (Some(own), _) => Known::Here(Holder::new(Arc::clone(own))?),
        (None, Some(near)) => Known::Near(near.document.code.clone()),
        (None, None) => Known::Missing(code.to_owned()),
    })
}

/// What the codes of a request stand for.
fn known(
    app: &App,
    organization: OrganizationId,
    codes: &[Cow<'_, str>],
) -> Result<Vec<Known>, Fault> {
    let store = app.control.store();
    let holders = app.holders.find(store, organization, codes)?;
    let mut missing: HashMap<String, String> = HashMap::new();
    let mut accounts = Vec::with_capacity(codes.len());
    for (code, holder) in codes.iter().zip(holders) {
        let mut known = match holder {
            Some(holder) => Known::Here(holder),
            None => look_up(store, organization, code)?,
        };
        if let Known::Missing(code) = &known {
            // Of two codes of this request that are near each other only the first makes an account.
            match missing.get(&fold_code(code)) {
                Some(first) => known = Known::Near(first.clone()),
                None => {
                    missing.insert(fold_code(code), code.clone());
                }
            }
        }
        accounts.push(known);
    }
    Ok(accounts)
}

/// The codes that rows name, each with its place among them.
#[derive(Debug, Default)]
struct Codes<'b> {
    in_order: Vec<Cow<'b, str>>,
    places: HashMap<Cow<'b, str>, usize>,
    /// Of what the row before named, as most do.
    last: usize,
}

impl<'b> Codes<'b> {
    #[expect(clippy::ptr_arg, reason = "a borrowed code is kept as one")]
    fn place(&mut self, code: &Cow<'b, str>) -> usize {
        if self.in_order.get(self.last) != Some(code) {
            let next = self.in_order.len();
            self.last = *self.places.entry(code.clone()).or_insert(next);
            if self.last == next {
                self.in_order.push(code.clone());
            }
        }
        self.last
    }
}

/// Finds which field of the meter each of the given ones is. Fields that the meter does not have are passed over, and
/// one in the wrong category counts as absent.
fn fit(plan: &MeterPlan, given: &mut [Given<'_>]) -> Result<(), Vec<Failure>> {
    // One bit for each field of the meter, of which there are at most 15.
    let (mut seen, mut doubled, mut present) = (0_u32, 0_u32, 0_u32);
    for given in given {
        let mut known = plan.fields.iter().enumerate();
        let Some((place, field)) = known.find(|(_, field)| field.code == given.code) else {
            continue;
        };
        let bit = 1 << place;
        doubled |= seen & bit;
        seen |= bit;
        if given.category == field.category {
            present |= bit;
            given.place = Some(place);
        }
    }
    let mut failures = Vec::new();
    for (place, field) in plan.fields.iter().enumerate() {
        let bit = 1 << place;
        if doubled & bit != 0 {
            let reason = "is given in more than one category";
            failures.push(unfit(FailureType::DuplicateField, field, reason));
        } else if doubled == 0 && field.is_required && present & bit == 0 {
            failures.push(unfit(FailureType::MissingField, field, "is missing"));
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures)
    }
}

fn unfit(kind: FailureType, field: &FieldPlan, reason: &str) -> Failure {
    let code = &field.code;
    failure(
        kind,
        format!("the field '{code}' {reason}"),
        Some(code.clone()),
    )
}

fn id_of(uuid: Uuid) -> Result<MeasurementId, Fault> {
    let mut text = Uuid::encode_buffer();
    MeasurementId::new(uuid.hyphenated().encode_lower(&mut text)).map_err(Fault::internal)
}

/// A row that fits its meter, its derived fields aside.
fn measurement(plan: &MeterPlan, row: &Row<'_>, holder: &Holder, id: MeasurementId) -> Measurement {
    let numbers = row
        .fields
        .iter()
        .filter(|given| given.category.is_numeric());
    let numbers = numbers.count();
    let mut measurement = Measurement {
        id,
        meter: plan.id,
        subject: holder.subject.clone(),
        time: row.time,
        end_time: row.end_time,
        values: Vec::with_capacity(numbers + plan.derived.len()),
        attributes: Vec::with_capacity(row.fields.len() - numbers),
    };
    for given in &row.fields {
        if let Some(field) = given.place.and_then(|place| plan.fields.get(place)) {
            put(&mut measurement, &field.name, given.value.clone());
        }
    }
    measurement
}

fn put(measurement: &mut Measurement, name: &FieldName, amount: Amount) {
    match amount {
        Amount::Number(number) => measurement.values.push((name.clone(), number)),
        Amount::Text(text) => measurement.attributes.push((name.clone(), text)),
    }
}

/// Computes the derived fields; of those that cannot be, says why.
fn derive(
    plan: &MeterPlan,
    row: &Row<'_>,
    holder: &Holder,
    measurement: &mut Measurement,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    if plan.derived.is_empty() {
        return failures;
    }
    let mut values = Vec::with_capacity(plan.fields.len() + 2 + plan.custom.len());
    values.resize(plan.fields.len(), Value::Null);
    for given in &row.fields {
        if let Some(value) = given.place.and_then(|place| values.get_mut(place)) {
            *value = match &given.value {
                Amount::Number(number) => Value::Number(*number),
                Amount::Text(text) => Value::Text(text.as_str()),
            };
        }
    }
    values.push(milliseconds(row.time));
    values.push(row.end_time.map_or(Value::Null, milliseconds));
    let own: &CustomValues = &holder.account.document.custom_fields;
    values.extend(plan.custom.iter().map(|source| source.value(Some(own))));
    for derived in &plan.derived {
        match compute(derived, &values) {
            Ok(amount) => put(measurement, &derived.name, amount),
            Err(reason) => {
                let message = format!(
                    "the field '{}' cannot be calculated: {reason}",
                    derived.code
                );
                let code = Some(derived.code.clone());
                failures.push(failure(FailureType::CalculationError, message, code));
            }
        }
    }
    failures
}

fn compute<'a>(derived: &'a DerivedPlan, row: &[Value<'a>]) -> Result<Amount, String> {
    let calculation = derived.calculation.as_ref().map_err(ToString::to_string)?;
    match calculation
        .evaluate(row)
        .map_err(|error| error.to_string())?
    {
        Value::Number(number) => Ok(Amount::Number(number)),
        Value::Text(text) => AttributeValue::new(text)
            .map(Amount::Text)
            .map_err(|error| format!("the text {error}")),
        Value::Null => Err("the result is null".to_owned()),
        // The check of the calculation has refused it.
        Value::Boolean(_) => Err("the result is neither a number nor a text".to_owned()),
    }
}

/// Since 1970.
fn milliseconds(time: Timestamp) -> Value<'static> {
    Value::Number(Decimal::from(time.micros() / 1_000))
}

fn near_code(other: &str) -> Failure {
    let message = format!(
        "there is no account with this code, but '{}', which differs only in case or blanks",
        quote(other)
    );
    failure(FailureType::InvalidAccountCode, message, None)
}

fn no_room(code: &str) -> Failure {
    let message = format!(
        "there is no account with the code '{}', nor room in the organization's configuration to make one",
        quote(code)
    );
    failure(FailureType::InvalidAccountCode, message, None)
}

pub(super) fn failure(kind: FailureType, message: String, field: Option<String>) -> Failure {
    Failure {
        kind,
        message,
        field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterd_control::{Author, Control, Documents, Settings};

    #[test]
    fn an_account_is_itself_before_it_is_near_another() {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            documents: Documents::new().with::<Account>(),
            ..Settings::default()
        };
        let control = Control::open(directory.path().join("control.sqlite"), settings).unwrap();
        let store = control.store();
        let organization = OrganizationId(Uuid::from_u128(1));
        for code in ["Acme", "acme"] {
            let account = Account::skeleton(code.to_owned(), "a@example.com".to_owned());
            let author = Author::system(Timestamp::MIN);
            store.create(organization, account, &author).unwrap();
        }
        let found = |code| look_up(store, organization, code).unwrap();
        for code in ["Acme", "acme"] {
            assert!(
                matches!(found(code), Known::Here(holder) if holder.account.document.code == code)
            );
        }
        assert!(matches!(found("ACME "), Known::Near(code) if code == "acme"));
        assert!(matches!(found("other"), Known::Missing(code) if code == "other"));
    }
}
