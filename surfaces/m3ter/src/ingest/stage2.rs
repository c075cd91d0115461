//! Measurements against the meters and accounts of their organization, row by row and in order (5.3).
//!
//! Nothing here refuses the request: a row that cannot be stored becomes a failed row with its reasons.

use super::rows::{Amount, Given, Row};
use crate::account::{Account, fold_code};
use crate::app::App;
use crate::failure::{FailedRow, Failure, FailureType};
use crate::plan::{DerivedPlan, MeterPlan};
use crate::wire::CustomValues;
use meterd_control::{List, Store, Stored};
use meterd_fault::{Fault, quote};
use meterd_formula::Value;
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterId, OrganizationId,
    Subject, Timestamp,
};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// A row that fits its meter. What is missing is its account, which may be yet to be made.
#[derive(Debug)]
struct Fitting<'b> {
    text: &'b str,
    uid: Option<String>,
    account: usize,
    /// Of derived fields; the row is stored all the same.
    failures: Vec<Failure>,
    id: MeasurementId,
    meter: MeterId,
    time: Timestamp,
    end_time: Option<Timestamp>,
    values: Vec<(FieldName, Decimal)>,
    attributes: Vec<(FieldName, AttributeValue)>,
}

/// What is known of an account that rows name.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Here(Subject, Arc<Stored<Account>>),
    /// There is none; one will be made.
    Missing(String),
    /// There is none, but this one, which a person would take for the same.
    Near(String),
}

/// The rows of a request, sorted out.
#[derive(Debug, Default)]
pub(super) struct Sorted<'b> {
    fitting: Vec<Fitting<'b>>,
    failed: Vec<FailedRow<'b>>,
    /// By the places that rows keep.
    accounts: Vec<Known>,
}

/// Rows ready to be stored, beside what is to be told of them if they are not.
#[derive(Debug, Default)]
pub(super) struct Ready<'b> {
    pub(super) measurements: Vec<Measurement>,
    /// For each measurement.
    pub(super) told: Vec<Told<'b>>,
    pub(super) failed: Vec<FailedRow<'b>>,
}

#[derive(Debug)]
pub(super) struct Told<'b> {
    pub(super) text: &'b str,
    /// None if the sender gave none.
    pub(super) uid: Option<String>,
    pub(super) account: Option<Uuid>,
    pub(super) failures: Vec<Failure>,
}

/// Sorts rows out. `id_base`: what the ids of rows without one are made of; new for each request.
pub(super) fn sort<'b>(
    app: &App,
    organization: OrganizationId,
    rows: Vec<Row<'b>>,
    id_base: Uuid,
) -> Result<Sorted<'b>, Fault> {
    let mut sorter = Sorter {
        app,
        organization,
        meters: HashMap::new(),
        last_meter: None,
        places: HashMap::new(),
        last_account: None,
        folded: HashMap::new(),
        sorted: Sorted {
            fitting: Vec::with_capacity(rows.len()),
            ..Sorted::default()
        },
    };
    for (index, row) in (0_u128..).zip(rows) {
        // The lowest bits are random, so that what comes out is as good an id as the base.
        let own_id = || Uuid::from_u128(id_base.as_u128() ^ index);
        sorter.sort_row(row, own_id)?;
    }
    Ok(sorter.sorted)
}

impl<'b> Sorted<'b> {
    /// Codes of accounts to be made, in the order of the rows.
    pub(super) fn missing(&self) -> Vec<String> {
        let missing = self.accounts.iter().filter_map(|known| match known {
            Known::Missing(code) => Some(code.clone()),
            Known::Here(..) | Known::Near(_) => None,
        });
        missing.collect()
    }

    /// Puts the accounts in: `found` is what became of those that were missing, in their order.
    pub(super) fn settle(mut self, found: Vec<Known>) -> Ready<'b> {
        let missing = self.accounts.iter_mut();
        let missing = missing.filter(|known| matches!(known, Known::Missing(_)));
        for (known, found) in missing.zip(found) {
            *known = found;
        }
        let mut ready = Ready {
            measurements: Vec::with_capacity(self.fitting.len()),
            told: Vec::with_capacity(self.fitting.len()),
            failed: self.failed,
        };
        for row in self.fitting {
            match self.accounts.get(row.account) {
                Some(Known::Here(subject, account)) => {
                    ready.told.push(Told {
                        text: row.text,
                        uid: row.uid,
                        account: Some(account.id),
                        failures: row.failures,
                    });
                    let measurement = Measurement {
                        id: row.id,
                        meter: row.meter,
                        subject: subject.clone(),
                        time: row.time,
                        end_time: row.end_time,
                        values: row.values,
                        attributes: row.attributes,
                    };
                    ready.measurements.push(measurement.in_order());
                }
                Some(Known::Near(other)) => ready.failed.push(FailedRow {
                    failures: vec![near_code(other)],
                    uid: row.uid,
                    account: None,
                    text: Cow::Borrowed(row.text),
                }),
                // Every missing account was found or made.
                Some(Known::Missing(_)) | None => {}
            }
        }
        ready
    }
}

/// What a code stands for in an organization.
pub(super) fn look_up(
    store: &Store,
    organization: OrganizationId,
    code: &str,
) -> Result<Known, Fault> {
    if let Some(account) = store.find_by_key::<Account>(organization, "code", code)? {
        return Ok(Known::Here(subject_of(&account)?, account));
    }
    let folded = fold_code(code);
    let near = List {
        filters: &[("foldedCode", &folded)],
        limit: 1,
        ..List::default()
    };
    let near = store.list::<Account>(organization, &near)?;
    Ok(match near.items.first() {
        Some(account) => Known::Near(account.document.code.clone()),
        None => Known::Missing(code.to_owned()),
    })
}

/// What an account's usage is stored under: its id, which stays when its code changes (1.2).
pub(super) fn subject_of(account: &Stored<Account>) -> Result<Subject, Fault> {
    let mut text = Uuid::encode_buffer();
    let text = account.id.hyphenated().encode_lower(&mut text);
    Subject::new(text).map_err(Fault::internal)
}

struct Sorter<'a, 'b> {
    app: &'a App,
    organization: OrganizationId,
    meters: HashMap<Cow<'b, str>, Option<Arc<MeterPlan>>>,
    /// What the row before named, as most do.
    last_meter: Option<(Cow<'b, str>, Option<Arc<MeterPlan>>)>,
    places: HashMap<Cow<'b, str>, usize>,
    last_account: Option<(Cow<'b, str>, usize)>,
    /// Of the missing: their folded codes.
    folded: HashMap<String, String>,
    sorted: Sorted<'b>,
}

impl<'b> Sorter<'_, 'b> {
    fn sort_row(&mut self, row: Row<'b>, own_id: impl FnOnce() -> Uuid) -> Result<(), Fault> {
        let Some(plan) = self.meter(&row.meter)? else {
            let message = format!("there is no meter with the code '{}'", quote(&row.meter));
            self.fail(
                &row,
                vec![failure(FailureType::UndefinedMeter, message, None)],
            );
            return Ok(());
        };
        let places = match fit(&plan, &row.fields) {
            Ok(places) => places,
            Err(failures) => {
                self.fail(&row, failures);
                return Ok(());
            }
        };
        let account = self.account(&row.account)?;
        if let Some(Known::Near(other)) = self.sorted.accounts.get(account) {
            let failures = vec![near_code(other)];
            self.fail(&row, failures);
            return Ok(());
        }
        let id = match &row.uid {
            Some(uid) => uid.clone(),
            None => MeasurementId::new(own_id().to_string()).map_err(Fault::internal)?,
        };
        let mut fitting = Fitting {
            text: row.text,
            uid: row.uid.as_ref().map(ToString::to_string),
            account,
            failures: Vec::new(),
            id,
            meter: plan.id,
            time: row.time,
            end_time: row.end_time,
            values: Vec::with_capacity(plan.fields.len() + plan.derived.len()),
            attributes: Vec::with_capacity(plan.fields.len() + plan.derived.len()),
        };
        if !plan.derived.is_empty() {
            let account = match self.sorted.accounts.get(account) {
                Some(Known::Here(_, account)) => Some(&account.document.custom_fields),
                // One that is yet to be made has no values of its own.
                _ => None,
            };
            derive(&plan, &row, &places, account, &mut fitting);
        }
        let mut fields = row.fields;
        for (field, place) in plan.fields.iter().zip(places) {
            let given = place.and_then(|place| fields.get_mut(place));
            // Each given field has one place.
            let Some(given) = given else { continue };
            let amount = std::mem::replace(&mut given.value, Amount::Number(Decimal::ZERO));
            fitting.put(&field.name, amount);
        }
        self.sorted.fitting.push(fitting);
        Ok(())
    }

    fn fail(&mut self, row: &Row<'b>, failures: Vec<Failure>) {
        self.sorted.failed.push(FailedRow {
            failures,
            uid: row.uid.as_ref().map(ToString::to_string),
            account: None,
            text: Cow::Borrowed(row.text),
        });
    }

    #[expect(clippy::ptr_arg, reason = "a borrowed code is kept as one")]
    fn meter(&mut self, code: &Cow<'b, str>) -> Result<Option<Arc<MeterPlan>>, Fault> {
        if let Some((last, plan)) = &self.last_meter
            && last == code
        {
            return Ok(plan.clone());
        }
        let plan = match self.meters.get(code) {
            Some(plan) => plan.clone(),
            None => {
                let plan = self.app.plans.find(self.app, self.organization, code)?;
                self.meters.insert(code.clone(), plan.clone());
                plan
            }
        };
        self.last_meter = Some((code.clone(), plan.clone()));
        Ok(plan)
    }

    /// The place of an account.
    #[expect(clippy::ptr_arg, reason = "a borrowed code is kept as one")]
    fn account(&mut self, code: &Cow<'b, str>) -> Result<usize, Fault> {
        if let Some((last, place)) = &self.last_account
            && last == code
        {
            return Ok(*place);
        }
        let place = match self.places.get(code) {
            Some(place) => *place,
            None => {
                let store = self.app.control.store();
                let mut known = look_up(store, self.organization, code)?;
                if let Known::Missing(code) = &known {
                    // Of two codes of this request that are near each other only the first makes an account.
                    match self.folded.get(&fold_code(code)) {
                        Some(first) => known = Known::Near(first.clone()),
                        None => {
                            self.folded.insert(fold_code(code), code.clone());
                        }
                    }
                }
                let place = self.sorted.accounts.len();
                self.sorted.accounts.push(known);
                self.places.insert(code.clone(), place);
                place
            }
        };
        self.last_account = Some((code.clone(), place));
        Ok(place)
    }
}

impl Fitting<'_> {
    fn put(&mut self, name: &FieldName, amount: Amount) {
        match amount {
            Amount::Number(number) => self.values.push((name.clone(), number)),
            Amount::Text(text) => self.attributes.push((name.clone(), text)),
        }
    }
}

/// Which of the given fields is which field of the meter. Fields that the meter does not have are dropped, and one in
/// the wrong category counts as absent.
fn fit(plan: &MeterPlan, given: &[Given<'_>]) -> Result<Vec<Option<usize>>, Vec<Failure>> {
    let mut places = vec![None; plan.fields.len()];
    let mut failures = Vec::new();
    // One bit for each field of the meter, of which there are at most 15.
    let (mut seen, mut doubled) = (0_u32, 0_u32);
    for (at, given) in given.iter().enumerate() {
        let known = plan.fields.iter().enumerate();
        let mut known = known.zip(places.iter_mut());
        let Some(((number, field), place)) = known.find(|((_, field), _)| field.code == given.code)
        else {
            continue;
        };
        let bit = 1 << number;
        if seen & bit == 0 {
            seen |= bit;
        } else if doubled & bit == 0 {
            doubled |= bit;
            let message = format!(
                "the field '{}' is given in more than one category",
                field.code
            );
            let code = Some(field.code.clone());
            failures.push(failure(FailureType::DuplicateField, message, code));
        }
        if given.category == field.category {
            *place = Some(at);
        }
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    for (field, place) in plan.fields.iter().zip(&places) {
        if field.is_required && place.is_none() {
            let message = format!("the field '{}' is missing", field.code);
            let code = Some(field.code.clone());
            failures.push(failure(FailureType::MissingField, message, code));
        }
    }
    if failures.is_empty() {
        Ok(places)
    } else {
        Err(failures)
    }
}

/// Computes the derived fields; of those that cannot be, notes why.
fn derive(
    plan: &MeterPlan,
    row: &Row<'_>,
    places: &[Option<usize>],
    account: Option<&CustomValues>,
    fitting: &mut Fitting<'_>,
) {
    let mut values = Vec::with_capacity(places.len() + 2 + plan.custom.len());
    for place in places {
        let given = place.and_then(|place| row.fields.get(place));
        values.push(match given.map(|given| &given.value) {
            Some(Amount::Number(number)) => Value::Number(*number),
            Some(Amount::Text(text)) => Value::Text(text.as_str()),
            None => Value::Null,
        });
    }
    values.push(milliseconds(row.time));
    values.push(row.end_time.map_or(Value::Null, milliseconds));
    values.extend(plan.custom.iter().map(|source| source.value(account)));
    for derived in &plan.derived {
        match compute(derived, &values) {
            Ok(amount) => fitting.put(&derived.name, amount),
            Err(reason) => {
                let message = format!(
                    "the field '{}' cannot be calculated: {reason}",
                    derived.code
                );
                let code = Some(derived.code.clone());
                let failure = failure(FailureType::CalculationError, message, code);
                fitting.failures.push(failure);
            }
        }
    }
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

pub(super) fn failure(kind: FailureType, message: String, field: Option<String>) -> Failure {
    Failure {
        kind,
        message,
        field,
    }
}
