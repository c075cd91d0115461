//! Rows of a Parquet file, such as `meterd export` and pandas write them.

use super::{Batches, Column, PARQUET, columns_of, row_of};
use crate::cli::ImportOptions;
use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use meterd_model::Timestamp;
use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::Decimal;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};
use std::borrow::Cow;
use std::fs::File;

const DAY_SECONDS: i64 = 86_400;

/// Reads page by page, so that memory is bounded by the pages of the columns and not by the file. `bar` counts rows.
pub(super) fn read(
    file: File,
    options: &ImportOptions,
    batches: &mut Batches<'_>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let reader = SerializedFileReader::new(file).context("read the file's footer")?;
    let metadata = reader.metadata().file_metadata();
    bar.set_length(u64::try_from(metadata.num_rows()).unwrap_or(0));
    let schema = metadata.schema();
    let names: Vec<&str> = schema
        .get_fields()
        .iter()
        .map(|field| field.name())
        .collect();
    let columns = columns_of(&names, &PARQUET, options)?;
    let (wanted, columns): (Vec<TypePtr>, Vec<Cell>) = (schema.get_fields().iter().cloned())
        .zip(columns)
        .filter(|(_, column)| !matches!(column, Column::Ignored))
        .map(|(field, column)| {
            let kind = Kind::of(&field)?;
            Ok((field, Cell { column, kind }))
        })
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter()
        .unzip();
    let projection = Type::group_type_builder(schema.name())
        .with_fields(wanted)
        .build()?;
    for (number, row) in (1..).zip(reader.get_row_iter(Some(projection))?) {
        let row = row.with_context(|| format!("read row {number}"))?;
        let mut cells = Vec::with_capacity(columns.len());
        for (cell, (name, field)) in columns.iter().zip(row.get_column_iter()) {
            let text = cell.kind.text(field);
            let text = text.with_context(|| format!("row {number}: column {name}"))?;
            cells.extend(text.map(|text| (Cow::Owned(text), &cell.column)));
        }
        batches.push(row_of(cells, options).to_string().as_bytes(), number)?;
        bar.inc(1);
    }
    Ok(())
}

struct Cell {
    column: Column,
    kind: Kind,
}

/// What has to be known of a column besides its values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Nanoseconds since 1970, which the library hands out as whole numbers.
    Nanoseconds,
}

impl Kind {
    fn of(field: &Type) -> anyhow::Result<Self> {
        let name = field.name();
        let is_repeated = field.get_basic_info().repetition() == Repetition::REPEATED;
        if !field.is_primitive() || is_repeated {
            bail!("the column {name:?} is a list or a structure, and not one value a row");
        }
        let is_nanoseconds = field.get_physical_type() == Physical::INT64
            && matches!(
                field.get_basic_info().logical_type_ref(),
                Some(LogicalType::Timestamp(timestamp)) if timestamp.unit == TimeUnit::NANOS
            );
        Ok(if is_nanoseconds {
            Self::Nanoseconds
        } else {
            Self::Plain
        })
    }

    /// As it stands in JSON and CSV; none for an absent cell.
    fn text(self, field: &Field) -> anyhow::Result<Option<String>> {
        Ok(Some(match field {
            Field::Null => return Ok(None),
            Field::Long(nanoseconds) if self == Self::Nanoseconds => {
                time(nanoseconds.div_euclid(1_000))?
            }
            Field::Str(text) => text.clone(),
            Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec())?,
            Field::Bool(value) => value.to_string(),
            Field::Byte(number) => number.to_string(),
            Field::Short(number) => number.to_string(),
            Field::Int(number) => number.to_string(),
            Field::Long(number) => number.to_string(),
            Field::UByte(number) => number.to_string(),
            Field::UShort(number) => number.to_string(),
            Field::UInt(number) => number.to_string(),
            Field::ULong(number) => number.to_string(),
            // The shortest digits that mean this number.
            Field::Float(number) => number.to_string(),
            Field::Double(number) => number.to_string(),
            Field::Decimal(decimal) => digits(decimal).context("a decimal of too many digits")?,
            Field::Date(days) => time(i64::from(*days) * DAY_SECONDS * 1_000_000)?,
            Field::TimestampMillis(millis) => time(millis.saturating_mul(1_000))?,
            Field::TimestampMicros(micros) => time(*micros)?,
            Field::Float16(_)
            | Field::TimeMillis(_)
            | Field::TimeMicros(_)
            | Field::Group(_)
            | Field::ListInternal(_)
            | Field::MapInternal(_) => bail!("its type cannot be imported"),
        }))
    }
}

fn time(micros: i64) -> anyhow::Result<String> {
    let time = Timestamp::from_micros(micros);
    Ok(time
        .context("a time before 1970 or after 9999")?
        .to_string())
}

/// All digits of a decimal; none if there are more than a number has here.
fn digits(decimal: &Decimal) -> Option<String> {
    let bytes = decimal.data();
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let mut units = if negative { -1_i128 } else { 0 };
    if bytes.len() > size_of::<i128>() {
        return None;
    }
    for byte in bytes {
        units = units << 8 | i128::from(*byte);
    }
    let scale = usize::try_from(decimal.scale())
        .ok()
        .filter(|scale| *scale <= 38)?;
    // At least one digit stands before the point.
    let digits = format!("{:0>width$}", units.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    let sign = if negative { "-" } else { "" };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::data_type::ByteArray;

    #[test]
    fn decimals_keep_their_digits() {
        let of = |units: i128, scale| {
            let bytes = ByteArray::from(units.to_be_bytes().to_vec());
            digits(&Decimal::from_bytes(bytes, 38, scale))
        };
        assert_eq!(of(-1, 18).as_deref(), Some("-0.000000000000000001"));
        assert_eq!(
            of(1_500_000_000_000_000_000, 18).as_deref(),
            Some("1.500000000000000000")
        );
        assert_eq!(of(i128::MIN, 0), Some(i128::MIN.to_string()));
        assert_eq!(of(0, 2).as_deref(), Some("0.00"));
        assert_eq!(
            digits(&Decimal::from_i32(-305, 9, 2)).as_deref(),
            Some("-3.05")
        );
        assert_eq!(
            digits(&Decimal::from_bytes(vec![0; 17].into(), 40, 2)),
            None
        );
    }
}
