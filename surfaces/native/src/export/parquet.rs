//! Measurements as one flat Parquet file, with names and types of columns as segments have them.
//!
//! Rows are kept as columns until a row group is full.

use super::form::value_of;
use meterd_control::Meter;
use meterd_model::{FieldName, Measurement, Timestamp};
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use std::io::{self, Write};
use std::sync::Arc;

/// Rows of a row group.
const GROUP_ROWS_MAX: usize = 64 * 1024;
/// Cells of a row group, absent ones as well: each takes some dozen bytes beside what stands in it.
const GROUP_CELLS_MAX: usize = 512 * 1024;
/// Bytes of the texts and numbers of a row group.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Columns that each row has, whatever its meter.
const COLUMNS: usize = 5;

/// Writes to `W`, from the first byte to the last without going back.
pub(super) struct ParquetWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    meter: ByteArray,
    value_names: Vec<FieldName>,
    attribute_names: Vec<FieldName>,
    group_rows_max: usize,
    group: Group,
}

/// The rows at hand.
#[derive(Default)]
struct Group {
    rows: usize,
    content_bytes: usize,
    ids: Cells<ByteArray>,
    meters: Cells<ByteArray>,
    subjects: Cells<ByteArray>,
    times: Cells<i64>,
    end_times: Cells<i64>,
    values: Vec<Cells<FixedLenByteArray>>,
    attributes: Vec<Cells<ByteArray>>,
}

/// The cells of a column that are there, and for each row whether it has one.
struct Cells<T> {
    cells: Vec<T>,
    levels: Vec<i16>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self {
            cells: Vec::new(),
            levels: Vec::new(),
        }
    }
}

impl<T> Cells<T> {
    fn push(&mut self, cell: Option<T>) {
        self.levels.push(i16::from(cell.is_some()));
        self.cells.extend(cell);
    }
}

impl<W: Write + Send> ParquetWriter<W> {
    pub(super) fn new(meter: &Meter, to: W) -> io::Result<Self> {
        let value_names: Vec<_> = meter.definition.values.keys().cloned().collect();
        let attribute_names: Vec<_> = meter.definition.attributes.iter().cloned().collect();
        let columns = columns(&value_names, &attribute_names)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        Ok(Self {
            file: SerializedFileWriter::new(to, columns, Arc::new(properties))?,
            meter: meter.name.as_str().into(),
            group_rows_max: group_rows_max(value_names.len() + attribute_names.len()),
            group: Group::new(value_names.len(), attribute_names.len()),
            value_names,
            attribute_names,
        })
    }

    pub(super) fn write(&mut self, measurement: &Measurement) -> io::Result<()> {
        let group = &mut self.group;
        group.ids.push(Some(measurement.id.as_str().into()));
        group.meters.push(Some(self.meter.clone()));
        group
            .subjects
            .push(Some(measurement.subject.as_str().into()));
        group.times.push(Some(measurement.time.micros()));
        group
            .end_times
            .push(measurement.end_time.map(Timestamp::micros));
        group.content_bytes += measurement.id.as_str().len() + measurement.subject.as_str().len();
        for (name, cells) in self.value_names.iter().zip(&mut group.values) {
            let value = value_of(&measurement.values, name);
            let bytes = value.map(|value| value.units().to_be_bytes().to_vec());
            group.content_bytes += bytes.as_ref().map_or(0, Vec::len);
            cells.push(bytes.map(|bytes| ByteArray::from(bytes).into()));
        }
        for (name, cells) in self.attribute_names.iter().zip(&mut group.attributes) {
            let text = value_of(&measurement.attributes, name);
            group.content_bytes += text.map_or(0, |text| text.as_str().len());
            cells.push(text.map(|text| text.as_str().into()));
        }
        group.rows += 1;
        if group.rows >= self.group_rows_max || group.content_bytes >= GROUP_BYTES_MAX {
            self.end_group()?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.end_group()?;
        Ok(self.file.into_inner()?)
    }

    fn end_group(&mut self) -> Result<()> {
        if self.group.rows == 0 {
            return Ok(());
        }
        let empty = Group::new(self.value_names.len(), self.attribute_names.len());
        let group = std::mem::replace(&mut self.group, empty);
        let mut row_group = self.file.next_row_group()?;
        let to = &mut row_group;
        write_column::<ByteArrayType, _>(to, &group.ids)?;
        write_column::<ByteArrayType, _>(to, &group.meters)?;
        write_column::<ByteArrayType, _>(to, &group.subjects)?;
        write_column::<Int64Type, _>(to, &group.times)?;
        write_column::<Int64Type, _>(to, &group.end_times)?;
        for cells in &group.values {
            write_column::<FixedLenByteArrayType, _>(to, cells)?;
        }
        for cells in &group.attributes {
            write_column::<ByteArrayType, _>(to, cells)?;
        }
        row_group.close()?;
        Ok(())
    }
}

fn group_rows_max(fields: usize) -> usize {
    GROUP_ROWS_MAX.min(GROUP_CELLS_MAX / (COLUMNS + fields))
}

impl Group {
    fn new(values: usize, attributes: usize) -> Self {
        Self {
            values: std::iter::repeat_with(Cells::default)
                .take(values)
                .collect(),
            attributes: std::iter::repeat_with(Cells::default)
                .take(attributes)
                .collect(),
            ..Self::default()
        }
    }
}

fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    cells: &Cells<T::T>,
) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        (column.typed::<T>()).write_batch(&cells.cells, Some(&cells.levels), None)?;
        column.close()?;
    }
    Ok(())
}

/// All may be absent, so that every column has levels and is written the same way.
fn columns(values: &[FieldName], attributes: &[FieldName]) -> Result<TypePtr> {
    let text = |name: &str| column(name, Physical::BYTE_ARRAY, LogicalType::String);
    let time = |name: &str| {
        let micros = LogicalType::timestamp(true, TimeUnit::MICROS);
        column(name, Physical::INT64, micros)
    };
    let mut fields = vec![
        text("id")?,
        text("meter")?,
        text("subject")?,
        time("time")?,
        time("end_time")?,
    ];
    for name in values {
        let name = format!("value_{name}");
        let decimal = LogicalType::decimal(18, 38);
        fields.push(column(&name, Physical::FIXED_LEN_BYTE_ARRAY, decimal)?);
    }
    for name in attributes {
        fields.push(text(&format!("attribute_{name}"))?);
    }
    let schema = Type::group_type_builder("measurement").with_fields(fields);
    Ok(Arc::new(schema.build()?))
}

fn column(name: &str, physical: Physical, logical: LogicalType) -> Result<TypePtr> {
    let mut builder = Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(logical));
    if physical == Physical::FIXED_LEN_BYTE_ARRAY {
        builder = builder.with_length(16).with_precision(38).with_scale(18);
    }
    Ok(Arc::new(builder.build()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use meterd_model::{
        Decimal, FIELDS_MAX, MeasurementId, MeterDefinition, MeterId, MeterKind, MeterName,
        Subject, ValueField,
    };
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_row_group_of_a_wide_meter_has_fewer_rows() {
        let names = |word: &str| -> Vec<FieldName> {
            let names = (0..FIELDS_MAX).map(|n| FieldName::new(format!("{word}{n}")));
            names.collect::<Result<_, _>>().unwrap()
        };
        let unit = || ValueField { unit: "1".into() };
        let values: BTreeMap<_, _> = names("v").into_iter().map(|name| (name, unit())).collect();
        let meter = Meter {
            name: MeterName::new("wide").unwrap(),
            definition: MeterDefinition {
                kind: MeterKind::ALL[0],
                values,
                attributes: names("a").into_iter().collect::<BTreeSet<_>>(),
            },
            retention_days: None,
            managed_by: None,
        };
        let measurement = Measurement {
            id: MeasurementId::new("a").unwrap(),
            meter: MeterId(uuid::Uuid::nil()),
            subject: Subject::new("s").unwrap(),
            time: Timestamp::MIN,
            end_time: None,
            values: vec![(names("v").remove(0), Decimal::parse(b"1").unwrap())],
            attributes: Vec::new(),
        };
        let mut writer = ParquetWriter::new(&meter, Vec::new()).unwrap();
        let expected = GROUP_CELLS_MAX / (COLUMNS + 2 * FIELDS_MAX);
        for _ in 0..=expected {
            writer.write(&measurement).unwrap();
        }
        let file = axum::body::Bytes::from(writer.finish().unwrap());
        let reader = SerializedFileReader::new(file).unwrap();
        let mut rows = Vec::new();
        for group in reader.metadata().row_groups() {
            rows.push(group.num_rows());
        }
        assert_eq!(rows, [i64::try_from(expected).unwrap(), 1]);
        // With few fields it has as many as ever.
        assert_eq!(group_rows_max(2), GROUP_ROWS_MAX);
    }
}
