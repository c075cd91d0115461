//! What the original's dashboard does: plans, technicians, types of assets, places of stock. Each is told by its name, and doing it
//! twice changes nothing.

use crate::asset_type::AssetType;
use crate::company::{Company, ONLY, space_of};
use crate::record::{Record, create_numbered, replace_changed};
use crate::stock::StockLocation;
use crate::technician::{Availability, Technician, TechnicianStatus};
use crate::wire::Word;
use meterd_control::{Author, Control, Environment};
use meterd_fault::{Fault, Problem, Rule};
use meterd_model::OrganizationId;
use serde::Deserialize;

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

/// What became of something that was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Created,
    Updated,
    Unchanged,
}

/// A technician, told by both names together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTechnician {
    pub first_name: String,
    pub last_name: String,
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
            first_name: nonblank("first_name", self.first_name)?,
            last_name: nonblank("last_name", self.last_name)?,
            status: word("status", self.status, TechnicianStatus::Active)?,
            availability_status: word(
                "availability_status",
                self.availability_status,
                Availability::Available,
            )?,
            vehicle_type: self.vehicle_type,
            transport_modes: self.transport_modes,
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
}

impl SetUp {
    /// What is wrong with it, before anything is written.
    pub fn check(&self) -> Result<(), Fault> {
        for technician in &self.technician {
            technician.check()?;
        }
        for named in self.asset_type.iter().chain(&self.stock_location) {
            nonblank("name", named.name.clone())?;
        }
        Ok(())
    }

    /// Makes what is not there; `show` hears of each thing and what became of it.
    pub fn apply(
        &self,
        control: &Control,
        set: DataSet,
        author: &Author,
        show: &mut dyn FnMut(&str, Applied),
    ) -> Result<(), Fault> {
        for new in &self.technician {
            let name = format!("technician {} {}", new.first_name, new.last_name);
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
        Ok(())
    }
}

/// Sets the plan of a company. Only `Enterprise`, which every company is on from the start, has the API.
pub fn apply_plan(
    control: &Control,
    company: OrganizationId,
    plan: &str,
    author: &Author,
) -> Result<Applied, Fault> {
    let (key, value) = ONLY;
    let wanted = Company {
        plan: nonblank("plan", plan.to_owned())?,
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
    let name = technician.full_name();
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
        asset_type_name: nonblank("name", name.to_owned())?,
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
        location_name: nonblank("name", name.to_owned())?,
    };
    let name = location.location_name.clone();
    apply(control, set, ("location_name", &name), location, author)
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
        let applied = if stored.version == current.version {
            Applied::Unchanged
        } else {
            Applied::Updated
        };
        Ok((number, applied))
    })
}

fn nonblank(member: &str, text: String) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(refused(member, Rule::Required));
    }
    Ok(text)
}

fn word<W: Word>(member: &str, text: Option<String>, default: W) -> Result<W, Fault> {
    let Some(text) = text else {
        return Ok(default);
    };
    W::named(&text).ok_or_else(|| {
        let words = W::WORDS.iter().map(|(word, _)| (*word).into());
        let allowed = words.collect();
        refused(member, Rule::OneOf { allowed })
    })
}

fn refused(member: &str, rule: Rule) -> Fault {
    Fault::invalid(Problem::body(format!("/{member}"), rule))
}
