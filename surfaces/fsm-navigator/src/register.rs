//! Readings as the engine keeps them: one engine meter of kind register for each name and unit, of which every asset is
//! a subject. So the native API answers for a whole fleet at once.

use crate::meter::AssetMeter;
use crate::record::Look;
use crate::surface::SURFACE;
use meterd_control::{Meter, Stored, Writes};
use meterd_engine::{Cancel, Engine, Filter, ListCursor, ListOrder, Listed, Listing};
use meterd_fault::{Fault, Kind, Resource};
use meterd_http::query_fault;
use meterd_model::{
    AttributeValue, Decimal, FieldName, Measurement, MeasurementId, MeterDefinition, MeterId,
    MeterKind, MeterName, OrganizationId, RESET, Subject, TextError, Timestamp, ValueField,
};
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// The value field that holds a reading.
const READING: &str = "reading";
/// Attributes of a reading.
pub(crate) const READING_ID: &str = "reading_id";
pub(crate) const SOURCE: &str = "source";
pub(crate) const JOB_ID: &str = "job_id";
/// Times of this surface are whole seconds.
const SECOND: Duration = Duration::from_secs(1);
/// Letters of a meter's name that the engine meter's is made of; a number may follow.
const NAME_MAX: usize = 70;
/// Rows that are looked at together, if the first will not do.
const PAGE: usize = 1_000;

/// The readings of one meter.
#[derive(Clone, Debug)]
pub(crate) struct Register<'a> {
    engine: &'a Engine,
    space: OrganizationId,
    meter: MeterId,
    subject: Subject,
    cancel: Cancel,
}

/// A reading, a reset, or what somebody stored through another surface.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Decimal,
    pub(crate) listed: Listed,
}

/// What a meter is at, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    pub(crate) value: Decimal,
    pub(crate) time: Timestamp,
}

/// What a new reading stands between.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) before: Option<Decimal>,
    pub(crate) after: Option<Decimal>,
    /// What the meter is at, where that is later.
    pub(crate) later: Option<Current>,
}

impl Entry {
    fn of(listed: Listed) -> Option<Self> {
        let values = listed.measurement.values.iter();
        let value = values.clone().find(|(name, _)| name.as_str() == READING);
        let value = value.map(|(_, value)| *value)?;
        Some(Self { value, listed })
    }

    /// What the meter is at if nothing is later.
    pub(crate) fn current(&self) -> Current {
        Current {
            value: self.value,
            time: self.listed.measurement.time,
        }
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.listed.measurement.attributes.iter();
        let found = attributes.find(|(known, _)| known.as_str() == name);
        found.map(|(_, text)| text.as_str())
    }

    fn is_reset(&self) -> bool {
        let (reset, yes) = RESET;
        self.attribute(reset) == Some(yes)
    }

    fn cursor(&self) -> ListCursor {
        ListCursor {
            time: self.current().time,
            sequence: self.listed.sequence,
        }
    }
}

impl<'a> Register<'a> {
    pub(crate) fn new(engine: &'a Engine, meter: &Stored<AssetMeter>) -> Result<Self, Fault> {
        let subject = format!("asset-{}", meter.document.asset_id);
        Ok(Self {
            engine,
            space: meter.organization,
            meter: MeterId(meter.document.engine_meter),
            subject: Subject::new(subject).map_err(Fault::internal)?,
            cancel: Cancel::new(),
        })
    }

    /// The same, asked for somebody who may go away.
    pub(crate) fn until(self, cancel: &Cancel) -> Self {
        let cancel = cancel.clone();
        Self { cancel, ..self }
    }

    /// A measurement of the meter, with those of these attributes that have a text.
    pub(crate) fn measurement(
        &self,
        id: MeasurementId,
        time: Timestamp,
        value: Decimal,
        attributes: &[(&str, Option<String>)],
    ) -> Result<Measurement, Fault> {
        let attributes = attributes.iter().filter_map(|(name, text)| {
            let text = AttributeValue::new(text.as_ref()?);
            Some(field(name).and_then(|name| Ok((name, text?))))
        });
        Ok(Measurement {
            id,
            meter: self.meter,
            subject: self.subject.clone(),
            time,
            end_time: None,
            values: vec![(field(READING).map_err(Fault::internal)?, value)],
            attributes: attributes
                .collect::<Result<_, TextError>>()
                .map_err(Fault::internal)?,
        })
    }

    /// What is stored under an id and counts. `ResourceExists` if somebody stored something else under it.
    pub(crate) fn find(&self, id: &MeasurementId) -> Result<Option<Entry>, Fault> {
        let trace = (self.engine)
            .trace(self.space, id, 1, &self.cancel)
            .map_err(query_fault)?;
        let newest = trace.and_then(|mut trace| trace.versions.pop());
        let found = newest.and_then(|version| {
            Some(Listed {
                sequence: version.sequence,
                received: version.received,
                measurement: version.measurement?,
            })
        });
        let Some(found) = found else {
            return Ok(None);
        };
        let Measurement { meter, subject, .. } = &found.measurement;
        if (meter, subject) != (&self.meter, &self.subject) {
            return Err(Kind::ResourceExists {
                resource: Resource::Measurement,
                field: "id",
                value: id.to_string(),
            }
            .into());
        }
        Ok(Entry::of(found))
    }

    pub(crate) fn last(&self) -> Result<Option<Entry>, Fault> {
        self.first_of(self.listing())
    }

    /// The one before, by time and then by order of arrival.
    pub(crate) fn before(&self, entry: &Entry) -> Result<Option<Entry>, Fault> {
        self.first_of(Listing {
            after: Some(entry.cursor()),
            ..self.listing()
        })
    }

    /// What a reading of this second would stand between. A reset ends what it must not exceed.
    pub(crate) fn place(&self, second: Timestamp) -> Result<Place, Fault> {
        let next_second = second.saturating_add(SECOND);
        let last = self.last()?.map(|last| last.current());
        let later = last.filter(|last| last.time >= next_second);
        if later.is_none() {
            return Ok(Place {
                before: last.map(|last| last.value),
                after: None,
                later,
            });
        }
        let before = self.first_of(Listing {
            to: Some(next_second),
            ..self.listing()
        })?;
        let after = self.first_of(Listing {
            from: Some(next_second),
            order: ListOrder::OldestFirst,
            ..self.listing()
        })?;
        Ok(Place {
            before: before.map(|before| before.value),
            after: after
                .filter(|after| !after.is_reset())
                .map(|after| after.value),
            later,
        })
    }

    fn listing(&self) -> Listing {
        Listing {
            meter: Some(self.meter),
            filter: self.filter(),
            limit: 1,
            ..Listing::default()
        }
    }

    fn filter(&self) -> Filter {
        Filter {
            subjects: Some(vec![self.subject.clone()]),
            attributes: Vec::new(),
        }
    }

    /// The first of a listing that has a reading, which is nearly always the first.
    fn first_of(&self, mut listing: Listing) -> Result<Option<Entry>, Fault> {
        loop {
            let page = (self.engine)
                .list(self.space, &listing, &self.cancel)
                .map_err(query_fault)?;
            let found = page.measurements.into_iter().find_map(Entry::of);
            if found.is_some() || page.next.is_none() {
                return Ok(found);
            }
            listing.after = page.next;
            listing.limit = PAGE;
        }
    }
}

/// The engine meter for meters of this name and unit, which is made if there is none. Two meters of one asset never share
/// one.
pub(crate) fn engine_meter(
    writes: &mut Writes<'_>,
    space: OrganizationId,
    asset: u64,
    name: &str,
    unit: &str,
) -> Result<Uuid, Fault> {
    let definition = definition(unit).map_err(Fault::internal)?;
    let look = Look::of(writes.store(), space);
    let taken = look.every::<AssetMeter>(&[("asset_id", &asset.to_string())])?;
    let taken: BTreeSet<Uuid> = taken.iter().map(|m| m.document.engine_meter).collect();
    let base = engine_name(name);
    for number in 1_u32.. {
        let name = match number {
            1 => base.clone(),
            _ => format!("{base}_{number}"),
        };
        let Some(found) = writes.find_by_key::<Meter>(space, "name", &name)? else {
            let meter = Meter {
                name: MeterName::new(name).map_err(Fault::internal)?,
                definition,
                retention_days: None,
                managed_by: Some(SURFACE.to_owned()),
            };
            return Ok(writes.create(space, meter)?.id);
        };
        if found.document.definition != definition || taken.contains(&found.id) {
            continue;
        }
        if found.document.managed_by.is_none() {
            adopt_engine_meters(writes, space)?;
        }
        // What somebody else made may be deleted or defined anew.
        let found = writes.get::<Meter>(space, found.id)?;
        if found.document.managed_by.as_deref() == Some(SURFACE) {
            return Ok(found.id);
        }
    }
    Err(Fault::internal("all names of meters are taken"))
}

/// Says of the engine meters of assets that they are this surface's own: those that were made before meters said so do
/// not yet.
pub(crate) fn adopt_engine_meters(
    writes: &mut Writes<'_>,
    space: OrganizationId,
) -> Result<(), Fault> {
    let meters = Look::of(writes.store(), space).every::<AssetMeter>(&[])?;
    let used: BTreeSet<Uuid> = meters.iter().map(|m| m.document.engine_meter).collect();
    for id in used {
        let found = writes.store().find::<Meter>(space, id)?;
        if found.is_some_and(|found| found.document.managed_by.is_none()) {
            writes.update_though_full::<Meter>(space, id, None, |found| {
                Ok(Meter {
                    managed_by: Some(SURFACE.to_owned()),
                    ..found.document.clone()
                })
            })?;
        }
    }
    Ok(())
}

fn definition(unit: &str) -> Result<MeterDefinition, TextError> {
    let (reset, _) = RESET;
    let unit = unit.to_owned();
    let attributes = [READING_ID, SOURCE, JOB_ID, reset].map(field);
    Ok(MeterDefinition {
        kind: MeterKind::Register,
        values: [(field(READING)?, ValueField { unit })].into(),
        attributes: attributes.into_iter().collect::<Result<_, _>>()?,
    })
}

/// Lower case, and `_` for all that is no letter or digit.
fn engine_name(name: &str) -> String {
    let name = name.to_lowercase();
    let mut plain = String::from(if name.starts_with(|c: char| c.is_ascii_lowercase()) {
        ""
    } else {
        "meter_"
    });
    let plain_char = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    plain.extend(name.chars().map(plain_char).take(NAME_MAX));
    plain
}

fn field(name: &str) -> Result<FieldName, TextError> {
    FieldName::new(name)
}

#[cfg(test)]
mod tests {
    use super::engine_name;

    #[test]
    fn names_become_names_of_engine_meters() {
        for (name, expected) in [
            ("Engine Hours", "engine_hours"),
            ("kWh (total)", "kwh__total_"),
            ("2nd counter", "meter_2nd_counter"),
            ("Öl", "meter__l"),
        ] {
            assert_eq!(engine_name(name), expected);
        }
        assert!(engine_name(&"9".repeat(300)).len() <= 80);
    }
}
