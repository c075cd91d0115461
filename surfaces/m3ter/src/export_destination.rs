//! Where exports would be delivered to: kept as configured; nothing is sent to clouds from here (4.12).

use crate::access::Guarded;
use crate::entity::{At, Entity, entity_event, paths};
use crate::export_job::ExportHead;
use crate::export_schedule::ExportSchedule;
use crate::wire::text;
use meterd_control::{Changed, Document, Resource, Use, used_by};
use meterd_fault::Rule;
use meterd_http::fields::Fields;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExportDestination {
    pub(crate) name: String,
    pub(crate) code: String,
    pub(crate) destination_type: String,
    pub(crate) bucket_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<String>,
    pub(crate) partition_order: String,
    /// Of S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iam_role_arn: Option<String>,
    /// Of Google Cloud Storage, as the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) project_number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pool_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service_account_email: Option<String>,
}

impl Document for ExportDestination {
    const KIND: &'static str = "m3ter/export_destination";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::ExportDestination;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("code", self.code.clone())]
    }

    fn event_data(changed: &Changed<'_, Self>) -> Value {
        entity_event(changed)
    }
}

impl Resource for ExportDestination {
    const USED_BY: &'static [Use] = &[used_by::<ExportSchedule>("destinationId")];
}

impl Guarded for ExportDestination {
    const WORD: &'static str = "dataexportdestination";
}

impl Entity for ExportDestination {
    paths!("/dataexports/destinations");
    const PAGE_MAX: i64 = 200;

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let before = at.before.map(|stored| &stored.document);
        let head = ExportHead::read(fields, before.map(|before| (&before.name, &before.code)));
        let given = fields.choice("destinationType", &[("S3", "S3"), ("GCS", "GCS")]);
        let bucket_name = fields.required_checked("bucketName", text(3, 63));
        let prefix = fields.checked_string("prefix", text(0, 1_024));
        let orders = [("TYPE_FIRST", "TYPE_FIRST"), ("TIME_FIRST", "TIME_FIRST")];
        let partition_order = fields.choice("partitionOrder", &orders);
        let project_number = fields.checked_string("projectNumber", text(1, 200));
        let pool_id = fields.checked_string("poolId", text(1, 200));
        let provider_id = fields.checked_string("providerId", text(1, 200));
        let service_account_email = fields.checked_string("serviceAccountEmail", text(1, 320));
        let iam_role_arn = fields.checked_string("iamRoleArn", text(1, 2_048));
        // The official client sends no type where the members tell it.
        let is_google = project_number.is_some() || pool_id.is_some();
        let destination_type = given.unwrap_or(if is_google { "GCS" } else { "S3" });
        if destination_type == "GCS" {
            for (name, value) in [
                ("projectNumber", &project_number),
                ("poolId", &pool_id),
                ("providerId", &provider_id),
            ] {
                if value.is_none() {
                    fields.refuse(name, Rule::Required);
                }
            }
        } else {
            match &iam_role_arn {
                None => fields.refuse("iamRoleArn", Rule::Required),
                Some(arn) if !is_role(arn) => fields.refuse(
                    "iamRoleArn",
                    Rule::Other {
                        code: "arn",
                        text: "must be like arn:aws:iam::123456789012:role/name".into(),
                    },
                ),
                Some(_) => {}
            }
        }
        Some(Self {
            name: head.name,
            code: head.code,
            destination_type: destination_type.to_owned(),
            bucket_name: bucket_name?,
            prefix,
            partition_order: partition_order.unwrap_or("TYPE_FIRST").to_owned(),
            iam_role_arn,
            project_number,
            pool_id,
            provider_id,
            service_account_email,
        })
    }

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }
}

/// `arn:aws:iam::DIGITS:role/…`
fn is_role(arn: &str) -> bool {
    let account = arn
        .strip_prefix("arn:aws:iam::")
        .and_then(|rest| rest.split_once(":role/"));
    account.is_some_and(|(account, _)| {
        !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit())
    })
}
