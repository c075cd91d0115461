//! Exports that repeat: by an interval or a cron expression, in UTC (4.12).

use crate::access::{Access, Guarded};
use crate::app::App;
use crate::cron::Cron;
use crate::entity::{At, Entity, admit_few, entity_event, paths};
use crate::export_job::{ExportHead, ExportJob, ExportRequest, SourceType};
use crate::operational::zone_of;
use crate::period::TimePeriod;
use crate::wire::text;
use meterd_control::{Admission, Author, Changed, Document, Reference, Resource, Stored};
use meterd_fault::{Fault, Rule};
use meterd_http::fields::Fields;
use meterd_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const MARK: &str = "m3ter/export-schedule";
const MINUTE_MICROS: i64 = 60_000_000;
/// An export may repeat this often, and no more seldom than the second (4.12).
const EVERY_MINUTES_MIN: i64 = 15;
const EVERY_MINUTES_MAX: i64 = 3 * 24 * 60;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExportSchedule {
    pub(crate) name: String,
    pub(crate) code: String,
    pub(crate) source_type: SourceType,
    #[serde(flatten)]
    pub(crate) timing: Timing,
    /// Of usage only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_period: Option<TimePeriod>,
    #[serde(flatten)]
    pub(crate) request: ExportRequest,
}

/// When it repeats: by type and period, or by cron expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Timing {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schedule_type: Option<ScheduleType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) period: Option<i64>,
    /// Hours into the day, or minutes into the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cron_expression: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ScheduleType {
    Minute,
    Hour,
    Day,
}

impl ScheduleType {
    const WORDS: [(&'static str, Self); 3] = [
        ("MINUTE", Self::Minute),
        ("HOUR", Self::Hour),
        ("DAY", Self::Day),
    ];

    fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 24 * 60,
        }
    }

    /// What an offset counts, and the first that is too large.
    fn offset(self) -> (i64, i64) {
        match self {
            Self::Minute => (1, 0),
            Self::Hour => (1, 60),
            Self::Day => (60, 24),
        }
    }
}

impl Timing {
    fn read(fields: &mut Fields<'_>) -> Self {
        let cron_expression = fields.checked_string("cronExpression", text(1, 200));
        let schedule_type = fields.choice("scheduleType", &ScheduleType::WORDS);
        let period = fields.integer("period", 1, EVERY_MINUTES_MAX);
        let offset = fields.integer("offset", 1, 60);
        let refuse = |fields: &mut Fields<'_>, name: &str, text: String| {
            fields.refuse(
                name,
                Rule::Other {
                    code: "schedule",
                    text: text.into(),
                },
            );
        };
        if let Some(text) = cron_expression {
            if let Err(reason) = Cron::parse(&text) {
                refuse(fields, "cronExpression", reason);
            }
            return Self {
                schedule_type: None,
                period: None,
                offset: None,
                cron_expression: Some(text),
            };
        }
        let kind = schedule_type.unwrap_or(ScheduleType::Day);
        let period = period.unwrap_or(1);
        let every = kind.minutes().saturating_mul(period);
        if !(EVERY_MINUTES_MIN..=EVERY_MINUTES_MAX).contains(&every) {
            let text = "must make the export repeat every 15 minutes to 3 days".to_owned();
            refuse(fields, "period", text);
        }
        let (_, end) = kind.offset();
        if let Some(offset) = offset
            && offset >= end
        {
            let text = match kind {
                ScheduleType::Minute => "must be left out with scheduleType MINUTE".to_owned(),
                _ => format!("must be below {end}"),
            };
            refuse(fields, "offset", text);
        }
        Self {
            schedule_type: Some(kind),
            period: Some(period),
            offset,
            cron_expression: None,
        }
    }

    /// The last time at or before `now` at which an export is due, if it is after `since`.
    fn last_due(&self, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if let Some(text) = &self.cron_expression {
            return Cron::parse(text).ok()?.last_due(since, now);
        }
        let kind = self.schedule_type?;
        let every = kind.minutes().checked_mul(self.period?)? * MINUTE_MICROS;
        let offset = self.offset.unwrap_or(0) * kind.offset().0 * MINUTE_MICROS;
        let passed = (now.micros() - offset).rem_euclid(every.max(MINUTE_MICROS));
        let due = Timestamp::from_micros(now.micros() - passed)?;
        (since < due).then_some(due)
    }
}

impl Document for ExportSchedule {
    const KIND: &'static str = "m3ter/export_schedule";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ExportSchedule;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("code", self.code.clone())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let destinations = self.request.destination_ids.iter();
        destinations
            .map(|id| ("destinationId", id.clone()))
            .collect()
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for ExportSchedule {
    fn references(&self) -> Vec<Reference> {
        self.request.destinations()
    }

    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        admit_few(admission)
    }
}

impl Guarded for ExportSchedule {
    const WORD: &'static str = "dataexportschedule";
}

impl Entity for ExportSchedule {
    paths!("/dataexports/schedules");
    const MARK: Option<&'static str> = Some(MARK);

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let before = at.before.map(|stored| &stored.document);
        let head = ExportHead::read(fields, before.map(|before| (&before.name, &before.code)));
        let timing = Timing::read(fields);
        let (source_type, request) = ExportRequest::read(fields)?;
        let time_period = match source_type {
            SourceType::Usage => Some(fields.required_choice("timePeriod", &TimePeriod::WORDS)?),
            SourceType::Operational => None,
        };
        Some(Self {
            name: head.name,
            code: head.code,
            source_type,
            timing,
            time_period,
            request,
        })
    }

    fn permit(&self, access: &Access) -> Result<(), Fault> {
        self.request.permit(access, self.source_type)
    }

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }
}

/// Starts the export of a schedule that has come due since the last look; of several missed times one counts. The mark
/// moves with the job. Waits for the disk.
pub(crate) fn start_due(
    app: &App,
    stored: &Stored<ExportSchedule>,
    now: Timestamp,
) -> Result<(), Fault> {
    let organization = stored.organization;
    let mark_name = format!("{MARK}/{}", stored.id);
    let mark = app.control.store().mark(organization, &mark_name)?;
    let since = mark.and_then(Timestamp::from_micros);
    let since = since.unwrap_or(stored.created_at);
    let schedule = &stored.document;
    let Some(due) = schedule.timing.last_due(since, now) else {
        return Ok(());
    };
    let mut request = schedule.request.clone();
    if let Some(period) = schedule.time_period {
        let (start, end) = period.around(due, &zone_of(app, organization)?);
        request.start_date = Some(start.to_string());
        request.end_date = Some(end.to_string());
    }
    let job = ExportJob::new(
        schedule.source_type,
        request,
        Some(stored.id.to_string()),
        now,
    );
    app.write(organization, &Author::system(now), |writer| {
        // It may have been deleted meanwhile, with its mark.
        if !writer.holds::<ExportSchedule>(stored.id)? {
            return Ok(());
        }
        writer.create(job)?;
        writer.set_mark(&mark_name, due.micros())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_due_at_its_multiples() {
        let timing = |kind, period, offset| Timing {
            schedule_type: Some(kind),
            period: Some(period),
            offset,
            cron_expression: None,
        };
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let due = |timing: Timing, since, now| {
            let due = timing.last_due(at(since), at(now));
            due.map(|due| due.to_string())
        };
        let (morning, noon) = ("2026-03-01T08:10:00Z", "2026-03-01T12:05:00Z");
        assert_eq!(
            due(timing(ScheduleType::Minute, 30, None), morning, noon).as_deref(),
            Some("2026-03-01T12:00:00Z")
        );
        assert_eq!(
            due(timing(ScheduleType::Hour, 1, Some(15)), morning, noon).as_deref(),
            Some("2026-03-01T11:15:00Z")
        );
        assert_eq!(due(timing(ScheduleType::Day, 1, None), morning, noon), None);
        assert_eq!(
            due(timing(ScheduleType::Day, 1, Some(9)), morning, noon).as_deref(),
            Some("2026-03-01T09:00:00Z")
        );
    }
}
