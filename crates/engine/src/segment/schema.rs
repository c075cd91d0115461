//! Where a segment lies and which columns it has.

use crate::partition::{Month, Partition};
use meterd_model::{FieldName, MeterId, OrganizationId};
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::schema::types::{Type, TypePtr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// Version of what meterd means by a segment, beyond what makes it a Parquet file.
pub(super) const FORMAT_VERSION: &str = "1";

/// Keys of the file's metadata.
pub(super) const FORMAT_KEY: &str = "meterd.format";
pub(super) const ORGANIZATION_KEY: &str = "meterd.organization";
pub(super) const METER_KEY: &str = "meterd.meter";
pub(super) const MONTH_KEY: &str = "meterd.month";
/// Offset in the file of the checksums of its pages.
pub(super) const CHECKSUMS_KEY: &str = "meterd.checksums";

/// Columns that every segment has, by their place.
pub(super) const SUBJECT: usize = 0;
pub(super) const TIME: usize = 1;
pub(super) const END_TIME: usize = 2;
pub(super) const ID: usize = 3;
pub(super) const SEQUENCE: usize = 4;
pub(super) const RECEIVED: usize = 5;
pub(super) const CURRENT: usize = 6;
pub(super) const REPLACES: usize = 7;
pub(super) const REPLACES_PARTITION: usize = 8;
/// Then come the values, and after them the attributes.
pub(super) const FIRST_VALUE: usize = 9;

/// Bytes of a decimal.
pub(super) const DECIMAL_BYTES: usize = 16;

/// Names a segment below the engine's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentPath {
    pub(crate) organization: OrganizationId,
    pub(crate) partition: Partition,
    pub(crate) number: u64,
}

impl SegmentPath {
    /// As in `segments/organization=…/meter=…/month=2026-11/00000000000000000001.parquet`.
    pub(crate) fn relative(&self) -> PathBuf {
        let Partition { meter, month } = self.partition;
        PathBuf::from(format!(
            "segments/organization={}/meter={meter}/month={month}/{:020}.parquet",
            self.organization, self.number
        ))
    }

    /// Exact inverse of [`Self::relative`].
    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let mut names = path.to_str()?.split('/').skip(1);
        let organization = names.next()?.strip_prefix("organization=")?;
        let meter = names.next()?.strip_prefix("meter=")?;
        let month = names.next()?.strip_prefix("month=")?;
        let number = names.next()?.strip_suffix(".parquet")?;
        let parsed = Self {
            organization: OrganizationId(Uuid::parse_str(organization).ok()?),
            partition: Partition {
                meter: MeterId(Uuid::parse_str(meter).ok()?),
                month: Month::parse(month)?,
            },
            number: number.parse().ok()?,
        };
        // Uuids and numbers have more than one spelling that parses.
        (parsed.relative().to_str() == path.to_str()).then_some(parsed)
    }
}

/// How another partition is named in a file: `<meter>/2026-10`.
pub(super) fn partition_text(partition: Partition) -> String {
    format!("{}/{}", partition.meter, partition.month)
}

/// Exact inverse of [`partition_text`].
pub(super) fn parse_partition(text: &str) -> Option<Partition> {
    let (meter, month) = text.split_once('/')?;
    let partition = Partition {
        meter: MeterId(Uuid::parse_str(meter).ok()?),
        month: Month::parse(month)?,
    };
    (partition_text(partition) == text).then_some(partition)
}

/// The columns of a file with these fields.
pub(super) fn columns(values: &[FieldName], attributes: &[FieldName]) -> Result<TypePtr> {
    let text = || Some(LogicalType::String);
    let time = || Some(LogicalType::timestamp(true, TimeUnit::MICROS));
    let decimal = || Some(LogicalType::decimal(18, 38));
    let mut fields = vec![
        column("subject", Physical::BYTE_ARRAY, text(), true)?,
        column("time", Physical::INT64, time(), true)?,
        column("end_time", Physical::INT64, time(), true)?,
        column("id", Physical::BYTE_ARRAY, text(), false)?,
        column("sequence", Physical::INT64, None, false)?,
        column("received", Physical::INT64, time(), false)?,
        column("current", Physical::BOOLEAN, None, false)?,
        column("replaces", Physical::INT64, None, true)?,
        column("replaces_partition", Physical::BYTE_ARRAY, text(), true)?,
    ];
    for name in values {
        let name = format!("value_{name}");
        fields.push(column(
            &name,
            Physical::FIXED_LEN_BYTE_ARRAY,
            decimal(),
            true,
        )?);
    }
    for name in attributes {
        let name = format!("attribute_{name}");
        fields.push(column(&name, Physical::BYTE_ARRAY, text(), true)?);
    }
    let schema = Type::group_type_builder("measurement").with_fields(fields);
    Ok(Arc::new(schema.build()?))
}

/// The fields of a file by its columns: exact inverse of [`columns`].
pub(super) fn fields(schema: &Type) -> Result<(Vec<FieldName>, Vec<FieldName>)> {
    let unknown = || ParquetError::General("its columns are not those of a segment".into());
    let (mut values, mut attributes) = (Vec::new(), Vec::new());
    for field in schema.get_fields().iter().skip(FIRST_VALUE) {
        let name = |text: &str| FieldName::new(text).map_err(|_| unknown());
        if let Some(value) = field.name().strip_prefix("value_") {
            values.push(name(value)?);
        } else if let Some(attribute) = field.name().strip_prefix("attribute_") {
            attributes.push(name(attribute)?);
        }
    }
    let sorted = |names: &[FieldName]| names.is_sorted_by(|a, b| a < b);
    let same = columns(&values, &attributes)?.get_fields() == schema.get_fields();
    if !same || !sorted(&values) || !sorted(&attributes) {
        return Err(unknown());
    }
    Ok((values, attributes))
}

/// What the file says of itself.
pub(super) fn key_values(organization: OrganizationId, partition: Partition) -> Vec<KeyValue> {
    [
        (FORMAT_KEY, FORMAT_VERSION.to_owned()),
        (ORGANIZATION_KEY, organization.to_string()),
        (METER_KEY, partition.meter.to_string()),
        (MONTH_KEY, partition.month.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| KeyValue::new(key.to_owned(), value))
    .collect()
}

fn column(
    name: &str,
    physical: Physical,
    logical: Option<LogicalType>,
    nullable: bool,
) -> Result<TypePtr> {
    let repetition = if nullable {
        Repetition::OPTIONAL
    } else {
        Repetition::REQUIRED
    };
    let mut builder = Type::primitive_type_builder(name, physical)
        .with_repetition(repetition)
        .with_logical_type(logical);
    if physical == Physical::FIXED_LEN_BYTE_ARRAY {
        builder = builder.with_length(16).with_precision(38).with_scale(18);
    }
    Ok(Arc::new(builder.build()?))
}
