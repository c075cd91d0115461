//! What the original's dashboard does: plans, technicians, types of assets, places of stock, meters and their resets. Each
//! is told by its name, and doing it twice changes nothing.

use crate::asset::Asset;
use crate::asset_type::AssetType;
use crate::company::{Company, ONLY, space_of};
use crate::meter::{AssetMeter, meter_key};
use crate::reading::{AHEAD_MAX, READINGS, reading_id};
use crate::record::{Record, create_numbered, replace_changed, unknown};
use crate::register::{READING_ID, Register, SOURCE, engine_meter};
use crate::stock::StockLocation;
use crate::technician::{Availability, Technician, TechnicianStatus};
use crate::threshold::ThresholdAction;
use crate::wire::{Moment, Word, refused, rule};
use meterd_control::{Applied, Author, Control, Environment, Store, Stored};
use meterd_engine::{Batch, Engine, OnConflict, Verdict};
use meterd_fault::{Fault, Rule};
use meterd_http::fields::{decimal_rule, time_rule};
use meterd_http::{ExactNumber, submit_fault};
use meterd_model::{Decimal, MeasurementId, OrganizationId, RESET, Timestamp};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;

/// Longest unit, in characters.
const UNIT_MAX: usize = 32;

/// Where readings come from that the API did not take.
const DASHBOARD: &str = "dashboard";

/// One of a company's two data sets.
#[derive(Clone, Copy, Debug)]
pub struct DataSet {
    pub company: OrganizationId,
    pub environment: Environment,
}

impl DataSet {
    pub(crate) fn space(self) -> OrganizationId {
        space_of(self.company, self.environment)
    }
}

/// A technician, told by both names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTechnician {
    pub first_name: String,
    pub last_name: String,
    /// Another number for each of those with the same names.
    pub namesake: Option<u32>,
    /// `Active` unless told otherwise.
    pub status: Option<String>,
    /// `Available` unless told otherwise.
    pub availability_status: Option<String>,
    pub vehicle_type: Option<String>,
    #[serde(default)]
    pub transport_modes: Vec<String>,
}

impl NewTechnician {
    fn read(self) -> Result<Technician, Fault> {
        Ok(Technician {
            technician_id: 0,
            first_name: nonblank("first_name", &self.first_name)?,
            last_name: nonblank("last_name", &self.last_name)?,
            status: word("status", self.status, TechnicianStatus::Active)?,
            availability_status: word(
                "availability_status",
                self.availability_status,
                Availability::Available,
            )?,
            vehicle_type: self.vehicle_type,
            transport_modes: self.transport_modes,
            namesake: self.namesake,
        })
    }

    /// What is wrong with it, before anything is written.
    pub fn check(&self) -> Result<(), Fault> {
        self.clone().read().map(|_| ())
    }
}

/// Something that is told by its name alone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
}

/// What one data set is to have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetUp {
    pub technician: Vec<NewTechnician>,
    pub asset_type: Vec<Named>,
    pub stock_location: Vec<Named>,
    pub meter: Vec<NewMeter>,
    pub reset: Vec<NewReset>,
}

impl SetUp {
    /// What is wrong with it, before anything is written.
    pub fn check(&self) -> Result<(), Fault> {
        for technician in &self.technician {
            technician.check()?;
        }
        for named in self.asset_type.iter().chain(&self.stock_location) {
            nonblank("name", &named.name)?;
        }
        for meter in &self.meter {
            meter.check()?;
        }
        for reset in &self.reset {
            reset.check()?;
        }
        Ok(())
    }

    /// Makes what is not there; `show` hears of each thing and what became of it. Waits for the disk.
    pub fn apply(
        &self,
        control: &Control,
        engine: &Engine,
        set: DataSet,
        author: &Author,
        show: &mut dyn FnMut(&str, Applied),
    ) -> Result<(), Fault> {
        for new in &self.technician {
            let namesake = new.namesake.map(|number| format!(" {number}"));
            let namesake = namesake.unwrap_or_default();
            let name = format!("technician {} {}{namesake}", new.first_name, new.last_name);
            let (_, applied) = apply_technician(control, set, new.clone(), author)?;
            show(&name, applied);
        }
        for Named { name } in &self.asset_type {
            let (_, applied) = apply_asset_type(control, set, name, author)?;
            show(&format!("asset type {name}"), applied);
        }
        for Named { name } in &self.stock_location {
            let (_, applied) = apply_stock_location(control, set, name, author)?;
            show(&format!("stock location {name}"), applied);
        }
        for meter in &self.meter {
            let (_, applied) = apply_meter(control, set, meter, author)?;
            show(&format!("meter {} of {}", meter.name, meter.asset), applied);
        }
        for reset in &self.reset {
            let applied = apply_reset(control, engine, set, reset, author)?;
            let NewReset {
                asset, meter, at, ..
            } = reset;
            show(&format!("reset of {meter} of {asset} at {at}"), applied);
        }
        Ok(())
    }
}

/// A meter of an asset, told by the asset's tag and its own name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMeter {
    /// The asset's tag.
    pub asset: String,
    pub name: String,
    /// 1 to 32 characters. Stays as it is.
    pub unit: String,
    /// What the first reading may not be below; 0 unless told otherwise.
    pub initial_reading: Option<Amount>,
    pub threshold_value: Option<Amount>,
    /// `alert` unless told otherwise, or `create_job`.
    pub threshold_action: Option<String>,
}

/// That a meter began a new count, as one that was replaced does. Told by meter and time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewReset {
    /// The asset's tag.
    pub asset: String,
    /// The meter's name.
    pub meter: String,
    /// RFC 3339; the fraction is dropped.
    pub at: String,
    /// What the new count begins with.
    pub base: Amount,
}

/// A number that is not negative. In a file, one with a fraction stands in quotes: no digit of it is lost.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    Integer(i64),
    Text(String),
}

impl Amount {
    fn read(&self, member: &str) -> Result<ExactNumber, Fault> {
        let number = match self {
            Self::Integer(integer) => Decimal::from(*integer),
            Self::Text(text) => text
                .parse()
                .map_err(|error| refused(member, decimal_rule(error)))?,
        };
        if number.is_negative() {
            let (min, max) = (Some("0".to_owned()), None);
            return Err(refused(member, Rule::Range { min, max }));
        }
        Ok(ExactNumber(number))
    }
}

impl NewMeter {
    /// Asset and engine meter are not known yet.
    fn read(&self) -> Result<AssetMeter, Fault> {
        let unit = nonblank("unit", &self.unit)?;
        if unit.chars().count() > UNIT_MAX {
            let (min, max) = (1, UNIT_MAX as u64);
            return Err(refused("unit", Rule::Length { min, max }));
        }
        let amount = |member, amount: &Option<Amount>| {
            let amount = amount.as_ref();
            amount.map(|amount| amount.read(member)).transpose()
        };
        let initial_reading = amount("initial_reading", &self.initial_reading)?;
        Ok(AssetMeter {
            meter_id: 0,
            asset_id: 0,
            meter_name: nonblank("name", &self.name)?,
            unit,
            initial_reading: initial_reading.unwrap_or(ExactNumber(Decimal::ZERO)),
            threshold_value: amount("threshold_value", &self.threshold_value)?,
            threshold_action: word(
                "threshold_action",
                self.threshold_action.clone(),
                ThresholdAction::Alert,
            )?,
            engine_meter: Uuid::nil(),
            crossing: None,
        })
    }

    /// What is wrong with it, before anything is written.
    pub fn check(&self) -> Result<(), Fault> {
        self.read().map(|_| ())
    }
}

impl NewReset {
    fn read(&self) -> Result<(Timestamp, Decimal), Fault> {
        let at = Timestamp::parse(&self.at).map_err(|error| refused("at", time_rule(error)))?;
        Ok((Moment::of(at).time(), self.base.read("base")?.0))
    }

    /// What is wrong with it, before anything is written.
    pub fn check(&self) -> Result<(), Fault> {
        self.read().map(|_| ())
    }
}

/// Sets the plan of a company. Only `Enterprise`, in any case, which every company is on from the start, has the API.
pub fn apply_plan(
    control: &Control,
    company: OrganizationId,
    plan: &str,
    author: &Author,
) -> Result<Applied, Fault> {
    let (key, value) = ONLY;
    let wanted = Company {
        plan: nonblank("plan", plan)?,
    };
    control.store().write(author, |writes| {
        let Some(current) = writes.find_by_key::<Company>(company, key, value)? else {
            writes.create(company, wanted)?;
            return Ok(Applied::Created);
        };
        if current.document == wanted {
            return Ok(Applied::Unchanged);
        }
        writes.update::<Company>(company, current.id, None, |_| Ok(wanted))?;
        Ok(Applied::Updated)
    })
}

/// Returns the technician's id.
pub fn apply_technician(
    control: &Control,
    set: DataSet,
    new: NewTechnician,
    author: &Author,
) -> Result<(u64, Applied), Fault> {
    let technician = new.read()?;
    let name = technician.name_key();
    apply(control, set, ("technician_name", &name), technician, author)
}

/// Returns the type's id.
pub fn apply_asset_type(
    control: &Control,
    set: DataSet,
    name: &str,
    author: &Author,
) -> Result<(u64, Applied), Fault> {
    let asset_type = AssetType {
        asset_type_id: 0,
        asset_type_name: nonblank("name", name)?,
    };
    let name = asset_type.asset_type_name.clone();
    apply(control, set, ("asset_type_name", &name), asset_type, author)
}

/// Returns the id of the place that stock is kept at.
pub fn apply_stock_location(
    control: &Control,
    set: DataSet,
    name: &str,
    author: &Author,
) -> Result<(u64, Applied), Fault> {
    let location = StockLocation {
        location_id: 0,
        location_name: nonblank("name", name)?,
    };
    let name = location.location_name.clone();
    apply(control, set, ("location_name", &name), location, author)
}

/// Returns the meter's id. The asset must be there.
pub fn apply_meter(
    control: &Control,
    set: DataSet,
    new: &NewMeter,
    author: &Author,
) -> Result<(u64, Applied), Fault> {
    let mut wanted = new.read()?;
    let space = set.space();
    control.store().write(author, |writes| {
        wanted.asset_id = tagged(writes.store(), space, &new.asset)?;
        let key = meter_key(wanted.asset_id, &wanted.meter_name);
        let Some(current) = writes.find_by_key::<AssetMeter>(space, "meter_name", &key)? else {
            let (asset, name, unit) = (wanted.asset_id, &wanted.meter_name, &wanted.unit);
            wanted.engine_meter = engine_meter(writes, space, asset, name, unit)?;
            let created = create_numbered(writes, space, wanted)?;
            return Ok((created.document.meter_id, Applied::Created));
        };
        let known = &current.document;
        if known.unit != wanted.unit {
            return Err(refused("unit", Rule::Immutable));
        }
        wanted.meter_id = known.meter_id;
        wanted.engine_meter = known.engine_meter;
        wanted.crossing.clone_from(&known.crossing);
        let stored = replace_changed(writes, &current, wanted)?;
        Ok((stored.document.meter_id, applied(&current, &stored)))
    })
}

/// Stores a reset. Later readings are compared with what it begins with, earlier ones as before. It cannot be taken back,
/// so it is not ahead of the clock, where it would hide all readings until then, nor above the reading after it.
pub fn apply_reset(
    control: &Control,
    engine: &Engine,
    set: DataSet,
    reset: &NewReset,
    author: &Author,
) -> Result<Applied, Fault> {
    let (at, base) = reset.read()?;
    let (space, store) = (set.space(), control.store());
    let meter = meter_named(store, space, &reset.asset, &reset.meter)?;
    let id = format!("reset-{}-{}", meter.document.meter_id, at.seconds());
    let id = MeasurementId::new(id).map_err(Fault::internal)?;
    let register = Register::new(engine, &meter)?;
    if at > author.at.saturating_add(AHEAD_MAX) {
        let rule = rule("future", "must not be more than 5 minutes ahead");
        return Err(refused("at", rule));
    }
    if let Some(after) = register.place(at)?.after.filter(|after| base > *after) {
        let (min, max) = (None, Some(after.to_string()));
        return Err(refused("base", Rule::Range { min, max }));
    }
    let (name, yes) = RESET;
    let measurement = register.measurement(id, at, base, &[(name, Some(yes.to_owned()))])?;
    let batch = Batch {
        organization: space,
        received: author.at,
        measurements: vec![measurement],
        on_conflict: OnConflict::Reject,
    };
    let ticket = engine.submit(batch).map_err(submit_fault)?;
    let receipt = ticket.wait().map_err(submit_fault)?;
    match receipt.verdicts.first() {
        Some(Verdict::Duplicate) => Ok(Applied::Unchanged),
        // Readings after it were accepted by what it says.
        Some(Verdict::Conflict) => Err(refused("base", Rule::Immutable)),
        _ => Ok(Applied::Created),
    }
}

/// Gives a meter the readings that were taken before it came here, each with its second, the earliest first. Returns how
/// many: none if the meter has a reading already. Waits for the disk.
pub fn import_readings(
    control: &Control,
    engine: &Engine,
    set: DataSet,
    (asset, meter): (&str, &str),
    readings: &[(Timestamp, Decimal)],
    author: &Author,
) -> Result<usize, Fault> {
    let (space, store) = (set.space(), control.store());
    let meter = meter_named(store, space, asset, meter)?;
    let register = Register::new(engine, &meter)?;
    if readings.is_empty() || register.last()?.is_some() {
        return Ok(0);
    }
    let first = meter.document.initial_reading.0;
    let values = std::iter::once(first).chain(readings.iter().map(|(_, value)| *value));
    if !values.is_sorted() || !readings.is_sorted_by(|a, b| a.0 < b.0) {
        let rule = rule("rising", "must rise, and begin at the initial reading");
        return Err(refused("readings", rule));
    }
    let mut measurements = Vec::with_capacity(readings.len());
    store.write(author, |writes| {
        for (at, value) in readings {
            let number = writes.next_number(space, READINGS)?;
            let taken = Moment::of(*at);
            let id = reading_id(&meter.document, taken, *value)?;
            measurements.push(register.measurement(
                id,
                taken.time(),
                *value,
                &[
                    (READING_ID, Some(number.to_string())),
                    (SOURCE, Some(DASHBOARD.to_owned())),
                ],
            )?);
        }
        Ok(())
    })?;
    let batch = Batch {
        organization: space,
        received: author.at,
        measurements,
        on_conflict: OnConflict::Reject,
    };
    let ticket = engine.submit(batch).map_err(submit_fault)?;
    ticket.wait().map_err(submit_fault)?;
    Ok(readings.len())
}

/// The id of the asset with this tag.
fn tagged(store: &Store, space: OrganizationId, tag: &str) -> Result<u64, Fault> {
    let asset = store.find_by_key::<Asset>(space, "asset_tag", tag)?;
    let asset = asset.ok_or_else(|| unknown::<Asset>("asset"))?;
    Ok(asset.document.asset_id)
}

fn meter_named(
    store: &Store,
    space: OrganizationId,
    asset: &str,
    name: &str,
) -> Result<Arc<Stored<AssetMeter>>, Fault> {
    let key = meter_key(tagged(store, space, asset)?, name);
    let meter = store.find_by_key::<AssetMeter>(space, "meter_name", &key)?;
    meter.ok_or_else(|| unknown::<AssetMeter>("meter"))
}

fn applied<D>(before: &Stored<D>, after: &Stored<D>) -> Applied {
    if before.version == after.version {
        Applied::Unchanged
    } else {
        Applied::Updated
    }
}

/// Makes the record, or what is there under the unique key equal to it.
fn apply<R: Record>(
    control: &Control,
    set: DataSet,
    (key, value): (&str, &str),
    mut wanted: R,
    author: &Author,
) -> Result<(u64, Applied), Fault> {
    let space = set.space();
    control.store().write(author, |writes| {
        let Some(current) = writes.find_by_key::<R>(space, key, value)? else {
            let created = create_numbered(writes, space, wanted)?;
            return Ok((created.document.number(), Applied::Created));
        };
        let number = current.document.number();
        wanted.set_number(number);
        let stored = replace_changed(writes, &current, wanted)?;
        Ok((number, applied(&current, &stored)))
    })
}

/// Trimmed, as the texts of requests are that are compared with it.
fn nonblank(member: &str, text: &str) -> Result<String, Fault> {
    let text = text.trim();
    if text.is_empty() {
        return Err(refused(member, Rule::Required));
    }
    Ok(text.to_owned())
}

fn word<W: Word>(member: &str, text: Option<String>, default: W) -> Result<W, Fault> {
    let Some(text) = text else {
        return Ok(default);
    };
    W::named(&text).ok_or_else(|| refused(member, W::rule()))
}
