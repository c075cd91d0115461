//! Transfers: an asset goes from one holder to another, a location or a technician (4.3).

use crate::access::{Access, AssetsTransfer};
use crate::app::App;
use crate::asset::Asset;
use crate::envelope::One;
use crate::location::Location;
use crate::record::{Found, Nothing, Record, View, create_numbered, names, replace_changed};
use crate::technician::Technician;
use crate::wire::{Moment, NAME_MAX, TEXT_MAX, id, moment, refused, rule, text};
use axum::extract::State;
use meterd_control::{Document, Reference, Resource};
use meterd_fault::{Fault, Rule};
use meterd_http::fields::{Fields, Form};
use meterd_http::{AnyJson, Failure, LongWork, Reply};
use serde::{Deserialize, Serialize};

const TO_LOCATION: &str = "to_location_id";
const TO_TECHNICIAN: &str = "to_technician_id";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transfer {
    transfer_id: u64,
    asset_id: u64,
    from_location_id: Option<u64>,
    from_technician_id: Option<u64>,
    to_location_id: Option<u64>,
    to_technician_id: Option<u64>,
    reason: Option<String>,
    notes: Option<String>,
    transfer_date: Moment,
}

impl Document for Transfer {
    const KIND: &'static str = "fsm-navigator/transfer";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Resource;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key()]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        vec![("asset_id", self.asset_id.to_string())]
    }
}

impl Resource for Transfer {
    fn references(&self) -> Vec<Reference> {
        let location = self.to_location_id;
        let location = location.map(|id| names::<Location>(format!("/{TO_LOCATION}"), id));
        let technician = self.to_technician_id;
        let technician = technician.map(|id| names::<Technician>(format!("/{TO_TECHNICIAN}"), id));
        location.into_iter().chain(technician).collect()
    }
}

impl Record for Transfer {
    const ID: &'static str = "transfer_id";

    fn number(&self) -> u64 {
        self.transfer_id
    }

    fn set_number(&mut self, number: u64) {
        self.transfer_id = number;
    }
}

impl Transfer {
    /// What the body asks for; from where is not known yet.
    fn read(fields: &mut Fields<'_>, now: Moment) -> Self {
        fields.alias(TO_LOCATION, "location_id");
        fields.alias(TO_TECHNICIAN, "technician_id");
        let [to_location, to_technician] =
            [TO_LOCATION, TO_TECHNICIAN].map(|name| !fields.is_blank(name));
        match (to_location, to_technician) {
            // One of them will do, and the first is told.
            (false, false) => fields.refuse(TO_LOCATION, Rule::Required),
            (true, true) => {
                let other = TO_TECHNICIAN.into();
                fields.refuse(TO_LOCATION, Rule::ExcludedBy { other });
            }
            _ => {}
        }
        Self {
            transfer_id: 0,
            asset_id: 0,
            from_location_id: None,
            from_technician_id: None,
            to_location_id: to_location.then(|| id(fields, TO_LOCATION)).flatten(),
            to_technician_id: to_technician.then(|| id(fields, TO_TECHNICIAN)).flatten(),
            reason: text(NAME_MAX)(fields, "reason"),
            notes: text(TEXT_MAX)(fields, "notes"),
            transfer_date: moment(fields, "transfer_date").unwrap_or(now),
        }
    }

    /// Gives the asset to its new holder, who must not have it already.
    fn perform(&mut self, asset: &mut Asset) -> Result<(), Fault> {
        let holders = [
            (TO_LOCATION, self.to_location_id, asset.location_id),
            (
                TO_TECHNICIAN,
                self.to_technician_id,
                asset.assigned_technician_id,
            ),
        ];
        for (member, to, from) in holders {
            if to.is_some() && to == from {
                let rule = rule("same_holder", "must not be where the asset is already");
                return Err(refused(member, rule));
            }
        }
        self.asset_id = asset.asset_id;
        self.from_location_id = std::mem::replace(&mut asset.location_id, self.to_location_id);
        self.from_technician_id =
            std::mem::replace(&mut asset.assigned_technician_id, self.to_technician_id);
        Ok(())
    }
}

/// `POST /assets?id=&sub=transfer`
pub(crate) async fn transfer_asset(
    State(app): State<App>,
    access: Access<AssetsTransfer>,
    Found(found): Found<Asset>,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<View<Transfer>>>, Failure> {
    let (space, author) = (access.space, access.author());
    let now = Moment::of(author.at);
    let mut transfer = body.read(Form::LENIENT, |fields| Some(Transfer::read(fields, now)))?;
    let stored = app
        .blocking(move |app| {
            app.control.store().write(&author, |writes| {
                let current = writes.get::<Asset>(space, found.id)?;
                let mut asset = current.document.clone();
                transfer.perform(&mut asset)?;
                // Who does not know where it is to go hears of that first.
                let stored = create_numbered(writes, space, transfer)?;
                asset.check_in_use()?;
                replace_changed(writes, &current, asset)?;
                Ok(stored)
            })
        })
        .await?;
    let view = View::of(&stored, stored.document.clone(), Nothing {});
    Ok(Reply::ok(One::of(&access.context, "transfer", view)))
}
