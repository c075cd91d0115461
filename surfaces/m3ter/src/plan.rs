//! Meters compiled for ingest: what each field is called in the engine, and the calculations ready to run.
//!
//! Plans are made when a meter is first named and kept until something changes that they are made of.

use crate::app::App;
use crate::calculation::{Source, derived_sources, parse_derived};
use crate::custom_fields::{CustomFields, Owner};
use crate::meter::{Category, Meter};
use crate::organization_config::OrganizationConfig;
use crate::product::Product;
use crate::settings::RequiredFields;
use crate::singleton::current;
use crate::wire::{CustomValue, CustomValues};
use meterd_control::{Store, Stored};
use meterd_fault::{Fault, Rule};
use meterd_formula::{Calculation, Value};
use meterd_http::fields::parse_uuid;
use meterd_model::{FieldName, MeterId, OrganizationId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A meter as measurements are checked against it.
#[derive(Debug)]
pub(crate) struct MeterPlan {
    pub(crate) id: MeterId,
    /// Its data fields. The place of one is the place of its value in the rows of the calculations, behind which come
    /// the times and the custom fields.
    pub(crate) fields: Vec<FieldPlan>,
    pub(crate) derived: Vec<DerivedPlan>,
    /// The values behind the times.
    pub(crate) custom: Vec<CustomSource>,
    /// Of the calculations of a row.
    pub(crate) operations: usize,
}

/// Where a calculation gets the value of a custom field from.
#[derive(Debug)]
pub(crate) enum CustomSource {
    Fixed(CustomValue),
    /// The account's own value, or else this one.
    OfAccount {
        name: String,
        default: CustomValue,
    },
}

impl CustomSource {
    pub(crate) fn value<'a>(&'a self, account: Option<&'a CustomValues>) -> Value<'a> {
        let value = match self {
            Self::Fixed(value) => value,
            Self::OfAccount { name, default } => {
                account.and_then(|own| own.get(name)).unwrap_or(default)
            }
        };
        match value {
            CustomValue::Text(text) => Value::Text(text),
            CustomValue::Number(number) => Value::Number(*number),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FieldPlan {
    pub(crate) code: String,
    pub(crate) category: Category,
    pub(crate) name: FieldName,
    pub(crate) is_required: bool,
}

#[derive(Debug)]
pub(crate) struct DerivedPlan {
    pub(crate) code: String,
    pub(crate) name: FieldName,
    /// Why it cannot be computed any more, if a name that it needs is gone.
    pub(crate) calculation: Result<Calculation, Rule>,
}

impl MeterPlan {
    fn new(store: &Store, meter: &Stored<Meter>, required: RequiredFields) -> Result<Self, Fault> {
        let document = &meter.document;
        let organization = meter.organization;
        let custom_fields: CustomFields = current(store, organization)?;
        let config: OrganizationConfig = current(store, organization)?;
        let product = match document.product_id.as_deref().and_then(parse_uuid) {
            Some(id) => store.find::<Product>(organization, id)?,
            None => None,
        };
        let mut fields = Vec::with_capacity(document.data_fields.len());
        for field in &document.data_fields {
            fields.push(FieldPlan {
                code: field.code.clone(),
                category: field.category,
                name: field_name(&field.code)?,
                is_required: required.requires(field.category),
            });
        }
        let sources = derived_sources(&document.data_fields, &custom_fields);
        let mut derived = Vec::with_capacity(document.derived_fields.len());
        for field in &document.derived_fields {
            derived.push(DerivedPlan {
                code: field.code.clone(),
                name: field_name(&field.code)?,
                calculation: parse_derived(field, &sources),
            });
        }
        let mut custom = Vec::new();
        for source in sources {
            let Source::Custom {
                owner,
                name,
                default,
            } = source
            else {
                continue;
            };
            let own = match owner {
                Owner::Account => {
                    custom.push(CustomSource::OfAccount {
                        name: name.to_owned(),
                        default: default.clone(),
                    });
                    continue;
                }
                Owner::Organization => config.custom_fields.get(name),
                Owner::Meter => document.custom_fields.get(name),
                Owner::Product => product
                    .as_ref()
                    .and_then(|product| product.document.custom_fields.get(name)),
                // What is billed has no values of its own before there are bills.
                _ => None,
            };
            custom.push(CustomSource::Fixed(own.unwrap_or(default).clone()));
        }
        let calculations = derived
            .iter()
            .filter_map(|field| field.calculation.as_ref().ok());
        let operations = calculations.map(Calculation::operations).sum();
        Ok(Self {
            id: MeterId(meter.id),
            fields,
            derived,
            custom,
            operations,
        })
    }
}

/// What the engine calls a field: its code where the engine takes it, else a name made of the code's hash. No code has
/// the `-` of such a name, so that no two fields are called the same.
pub(crate) fn field_name(code: &str) -> Result<FieldName, Fault> {
    if !code.contains(['-', '.'])
        && let Ok(name) = FieldName::new(code)
    {
        return Ok(name);
    }
    let hash = blake3::hash(code.as_bytes());
    let half = hash.as_bytes().first_chunk::<16>().copied();
    let hash = u128::from_be_bytes(half.unwrap_or_default());
    FieldName::new(format!("x-{hash:032x}")).map_err(Fault::internal)
}

/// The plans of all organizations.
#[derive(Debug, Default)]
pub(crate) struct Plans(Mutex<HashMap<OrganizationId, OwnPlans>>);

#[derive(Debug, Default)]
struct OwnPlans {
    /// Of what they were made of.
    revision: Revision,
    by_code: HashMap<String, Arc<MeterPlan>>,
}

/// Of meters, custom fields, products and the organization's configuration.
type Revision = [u64; 4];

impl Plans {
    /// The plan of the meter with this code, if there is one.
    pub(crate) fn find(
        &self,
        app: &App,
        organization: OrganizationId,
        code: &str,
    ) -> Result<Option<Arc<MeterPlan>>, Fault> {
        let store = app.control.store();
        // Before the meter is read: what is made of an older one is not kept under a newer number.
        let revision = [
            store.revision::<Meter>(organization),
            store.revision::<CustomFields>(organization),
            store.revision::<Product>(organization),
            store.revision::<OrganizationConfig>(organization),
        ];
        if let Some(plan) = self.known(organization, revision, code) {
            return Ok(Some(plan));
        }
        let Some(meter) = store.find_by_key::<Meter>(organization, "code", code)? else {
            return Ok(None);
        };
        let plan = Arc::new(MeterPlan::new(store, &meter, app.settings.required_fields)?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(organization).or_default();
        if own.revision == revision {
            own.by_code.insert(code.to_owned(), Arc::clone(&plan));
        }
        Ok(Some(plan))
    }

    fn known(
        &self,
        organization: OrganizationId,
        revision: Revision,
        code: &str,
    ) -> Option<Arc<MeterPlan>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(organization).or_default();
        if own.revision != revision {
            *own = OwnPlans {
                revision,
                by_code: HashMap::new(),
            };
        }
        own.by_code.get(code).map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own() {
        let long = "a".repeat(80);
        let other = format!("{}b", "a".repeat(79));
        let codes = [
            "bytes", "Bytes", "_bytes", "$bytes", "b$", "größe", "größE", &long, &other, "x",
        ];
        let names: std::collections::HashSet<_> =
            codes.iter().map(|code| field_name(code).unwrap()).collect();
        assert_eq!(names.len(), codes.len());
        assert_eq!(field_name("bytes_1").unwrap().as_str(), "bytes_1");
        let made = field_name("größe").unwrap();
        assert!(made.as_str().starts_with("x-"), "{made}");
        assert_eq!(field_name("größe").unwrap(), made);
    }
}
