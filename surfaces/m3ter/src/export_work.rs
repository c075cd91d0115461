//! Making the file of an export job (4.12).

use crate::app::App;
use crate::export_job::{ExportJob, ExportRequest, ExportStatus, FileFormat, SourceType};
use crate::export_usage;
use crate::operational::each_entity;
use crate::writer::Raised;
use meterd_control::{Author, FileWriter, NewFile};
use meterd_fault::Fault;
use meterd_http::LongWork;
use meterd_model::{OrganizationId, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// How long the file is kept; it can be downloaded for a shorter time.
const KEPT: Duration = Duration::from_hours(7 * 24);
/// Bytes that are gathered before they are written.
const PIECE_BYTES: usize = 64 * 1024;

/// Makes the file of one job. What goes wrong ends the job, with an event that says so.
pub(crate) async fn run(
    app: &App,
    organization: OrganizationId,
    id: Uuid,
    now: fn() -> Timestamp,
) -> Result<(), Fault> {
    let started = now();
    let made = app
        .blocking(move |app| {
            let job = app.control.store().get::<ExportJob>(organization, id)?;
            write_file(app, organization, &job.document, started)
        })
        .await;
    let ended = now();
    match made {
        Ok(file) => {
            app.blocking(move |app| {
                app.write(organization, &Author::system(ended), |writer| {
                    let succeeded = |job: &mut ExportJob| {
                        job.status = ExportStatus::Succeeded;
                        job.request = None;
                        job.file = Some(file);
                    };
                    writer.update(id, succeeded).map(drop)
                })
            })
            .await
        }
        Err(fault) => {
            tracing::warn!(
                %organization,
                job = %id,
                "export failed: {}",
                fault.log_context().unwrap_or("no context")
            );
            fail(app, organization, id, &fault.kind.phrase(), ended).await
        }
    }
}

/// Ends a job, with an event that says why.
pub(crate) async fn fail(
    app: &App,
    organization: OrganizationId,
    id: Uuid,
    reason: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    let event = Raised {
        name: "dataexport.job.failure".to_owned(),
        payload: json!({"jobId": id, "reason": reason}),
        account: None,
    };
    app.blocking(move |app| {
        app.write(organization, &Author::system(now), |writer| {
            writer.raise(&event)?;
            let failed = |job: &mut ExportJob| {
                job.status = ExportStatus::Failed;
                job.request = None;
            };
            writer.update(id, failed).map(drop)
        })
    })
    .await
}

fn write_file(
    app: &App,
    organization: OrganizationId,
    job: &ExportJob,
    now: Timestamp,
) -> Result<Uuid, Fault> {
    let request = job.request.as_ref();
    let request = request.ok_or_else(|| Fault::internal("an export was begun that is done"))?;
    let (extension, media_type) = match request.export_file_format {
        FileFormat::Csv => ("csv", "text/csv; charset=utf-8"),
        FileFormat::Jsonl => ("jsonl", "application/x-ndjson"),
    };
    let source = match job.source_type {
        SourceType::Usage => "usage",
        SourceType::Operational => "operational",
    };
    let new = NewFile {
        organization,
        purpose: "m3ter-export",
        name: format!("{source}.{extension}"),
        media_type: media_type.to_owned(),
        expires_at: now.saturating_add(KEPT),
        purpose_bytes_max: None,
    };
    let mut sheet = Sheet {
        file: app.control.files().create(new, now)?,
        bytes: Vec::with_capacity(2 * PIECE_BYTES),
    };
    match job.source_type {
        SourceType::Usage => export_usage::write(app, organization, request, now, &mut sheet)?,
        SourceType::Operational => write_operational(app, organization, request, &mut sheet)?,
    }
    sheet.flush()?;
    Ok(sheet.file.finish()?.id)
}

/// A file of rows on its way.
#[derive(Debug)]
pub(crate) struct Sheet {
    file: FileWriter,
    bytes: Vec<u8>,
}

impl Sheet {
    /// One line, whose end is added.
    pub(crate) fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.bytes.extend_from_slice(line);
        self.end_line()
    }

    /// One row of CSV (RFC 4180).
    pub(crate) fn cells<'c>(
        &mut self,
        cells: impl IntoIterator<Item = &'c str>,
    ) -> Result<(), Fault> {
        for (index, cell) in cells.into_iter().enumerate() {
            if index > 0 {
                self.bytes.push(b',');
            }
            push_cell(&mut self.bytes, cell);
        }
        self.end_line()
    }

    fn end_line(&mut self) -> Result<(), Fault> {
        self.bytes.push(b'\n');
        if self.bytes.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.file.write(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

fn push_cell(line: &mut Vec<u8>, cell: &str) {
    if !cell.contains(['"', ',', '\n', '\r']) {
        line.extend_from_slice(cell.as_bytes());
        return;
    }
    line.push(b'"');
    line.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
    line.push(b'"');
}

/// All entities of the types that changed since the start. Each row begins with its type. What is written once the job
/// has begun carries no earlier time than that, so that an export from there on misses nothing of it.
fn write_operational(
    app: &App,
    organization: OrganizationId,
    request: &ExportRequest,
    sheet: &mut Sheet,
) -> Result<(), Fault> {
    const TYPE: &str = "operationalDataType";
    let since = request.start_date.as_deref();
    let since = since.and_then(|since| Timestamp::parse(since).ok());
    let each = |visit: &mut dyn FnMut(&Value) -> Result<(), Fault>| {
        for kind in &request.operational_data_types {
            let Some(entity) = kind.entity() else {
                continue;
            };
            each_entity(app, organization, entity, &mut |entity| {
                if since.is_some_and(|since| entity.modified_at() < since) {
                    return Ok(());
                }
                let mut dto = entity.dto();
                if let Some(members) = dto.as_object_mut() {
                    members.insert(TYPE.to_owned(), kind.word().into());
                }
                visit(&dto)
            })?;
        }
        Ok(())
    };
    if request.export_file_format == FileFormat::Jsonl {
        return each(&mut |dto| sheet.line(dto.to_string().as_bytes()));
    }
    // The columns are all members that any row has; so the rows are looked at twice rather than kept.
    let mut columns = vec![TYPE.to_owned()];
    each(&mut |dto| {
        for name in dto
            .as_object()
            .into_iter()
            .flat_map(|members| members.keys())
        {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        Ok(())
    })?;
    sheet.cells(columns.iter().map(String::as_str))?;
    each(&mut |dto| {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| match dto.get(column) {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
            })
            .collect();
        sheet.cells(cells.iter().map(String::as_str))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let cell = |text| {
            let mut line = Vec::new();
            push_cell(&mut line, text);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(cell("plain text"), "plain text");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"hi\"\n"), "\"say \"\"hi\"\"\n\"");
    }
}
