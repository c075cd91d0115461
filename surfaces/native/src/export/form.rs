//! Measurements as lines of JSON, as CSV and as Parquet, each as `meterd import` takes it.

use super::parquet::ParquetWriter;
use super::{Format, Pieces};
use meterd_control::Meter;
use meterd_model::{FieldName, Measurement};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt::Display;
use std::io::{self, Write};

pub(super) enum Writer {
    Lines(Pieces, String),
    Csv(CsvWriter),
    Parquet(Box<ParquetWriter<Pieces>>),
}

impl Writer {
    pub(super) fn new(format: Format, meter: &Meter, pieces: Pieces) -> io::Result<Self> {
        Ok(match format {
            Format::Lines => Self::Lines(pieces, meter.name.to_string()),
            Format::Csv => Self::Csv(CsvWriter::new(meter, pieces)?),
            Format::Parquet => Self::Parquet(Box::new(ParquetWriter::new(meter, pieces)?)),
        })
    }

    pub(super) fn write(&mut self, measurement: &Measurement) -> io::Result<()> {
        match self {
            Self::Lines(pieces, meter) => {
                let line = Line { measurement, meter };
                let mut bytes = serde_json::to_vec(&line)?;
                bytes.push(b'\n');
                pieces.write_all(&bytes)
            }
            Self::Csv(writer) => writer.write(measurement),
            Self::Parquet(writer) => writer.write(measurement),
        }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Lines(mut pieces, _) => pieces.flush(),
            Self::Csv(mut writer) => writer.pieces.flush(),
            Self::Parquet(writer) => writer.finish()?.flush(),
        }
    }
}

/// A measurement as it can be sent.
struct Line<'a> {
    measurement: &'a Measurement,
    meter: &'a str,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sent = self.measurement;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", sent.id.as_str())?;
        map.serialize_entry("meter", self.meter)?;
        map.serialize_entry("subject", sent.subject.as_str())?;
        map.serialize_entry("time", &sent.time.to_string())?;
        if let Some(end_time) = sent.end_time {
            map.serialize_entry("end_time", &end_time.to_string())?;
        }
        map.serialize_entry("values", &Members(&sent.values))?;
        map.serialize_entry("attributes", &Members(&sent.attributes))?;
        map.end()
    }
}

/// Fields with their values as text, so that no digit is lost.
struct Members<'a, T>(&'a [(FieldName, T)]);

impl<T: Display> Serialize for Members<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let members = self.0.iter();
        serializer.collect_map(members.map(|(name, value)| (name.as_str(), value.to_string())))
    }
}

pub(super) struct CsvWriter {
    pieces: Pieces,
    meter: String,
    values: Vec<FieldName>,
    attributes: Vec<FieldName>,
    line: String,
}

impl CsvWriter {
    fn new(meter: &Meter, pieces: Pieces) -> io::Result<Self> {
        let mut writer = Self {
            pieces,
            meter: meter.name.to_string(),
            values: meter.definition.values.keys().cloned().collect(),
            attributes: meter.definition.attributes.iter().cloned().collect(),
            line: "id,meter,subject,time,end_time".to_owned(),
        };
        for name in &writer.values {
            writer.line.extend([",values.", name.as_str()]);
        }
        for name in &writer.attributes {
            writer.line.extend([",attributes.", name.as_str()]);
        }
        writer.end_line()?;
        Ok(writer)
    }

    fn write(&mut self, measurement: &Measurement) -> io::Result<()> {
        let line = &mut self.line;
        push_cell(line, measurement.id.as_str());
        line.push(',');
        push_cell(line, &self.meter);
        line.push(',');
        push_cell(line, measurement.subject.as_str());
        line.push(',');
        push_cell(line, &measurement.time.to_string());
        line.push(',');
        if let Some(end_time) = measurement.end_time {
            push_cell(line, &end_time.to_string());
        }
        for name in &self.values {
            line.push(',');
            if let Some(value) = value_of(&measurement.values, name) {
                push_cell(line, &value.to_string());
            }
        }
        for name in &self.attributes {
            line.push(',');
            if let Some(text) = value_of(&measurement.attributes, name) {
                push_cell(line, &quoted(text.as_str()));
            }
        }
        self.end_line()
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.push_str("\r\n");
        self.pieces.write_all(self.line.as_bytes())?;
        self.line.clear();
        Ok(())
    }
}

pub(super) fn value_of<'a, T>(fields: &'a [(FieldName, T)], name: &FieldName) -> Option<&'a T> {
    let place = fields.binary_search_by(|(known, _)| known.cmp(name)).ok()?;
    fields.get(place).map(|(_, value)| value)
}

/// An empty cell is no text, so the empty text is written as two quotes; and so that those are not taken for it, a text
/// that begins and ends with quotes gets another pair.
fn quoted(text: &str) -> String {
    let is_quoted = text.len() >= 2 && text.starts_with('"') && text.ends_with('"');
    if text.is_empty() || is_quoted {
        return format!("\"{text}\"");
    }
    text.to_owned()
}

/// RFC 4180, section 2.
fn push_cell(line: &mut String, text: &str) {
    if text.contains(['"', ',', '\r', '\n']) {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}
