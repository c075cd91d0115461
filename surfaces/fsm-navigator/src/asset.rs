//! Assets: what is looked after (4.3).

use crate::access::{Access, AssetsRead, AssetsWrite};
use crate::app::App;
use crate::asset_type::AssetType;
use crate::envelope::One;
use crate::location::Location;
use crate::meter::{MeterView, meters_of};
use crate::page::{Filters, Search};
use crate::record::{At, Editable, Found, Listed, Look, Record, Shown, View, names};
use crate::status::{Stateful, Status, admit_status, read_status, statuses};
use crate::technician::Technician;
use crate::wire::{Moment, NAME_MAX, TEXT_MAX, Word, id, moment, optional, required, rule, text};
use axum::extract::State;
use meterd_control::{Admission, Document, Reference, Resource, Stored, Writes};
use meterd_engine::Cancel;
use meterd_fault::{Fault, Problem};
use meterd_http::fields::Fields;
use meterd_http::{Failure, Reply};
use meterd_model::{OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};

/// Most numbers that one asset passes over because their usual tags are taken.
const PASSED_OVER_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asset {
    pub(crate) asset_id: u64,
    pub(crate) asset_tag: String,
    pub(crate) asset_name: String,
    pub(crate) asset_type_id: Option<u64>,
    pub(crate) status: AssetStatus,
    pub(crate) condition: Option<String>,
    pub(crate) ownership_type: Option<String>,
    pub(crate) serial_number: Option<String>,
    pub(crate) manufacturer: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) location_id: Option<u64>,
    pub(crate) assigned_technician_id: Option<u64>,
    pub(crate) purchase_date: Option<Moment>,
    pub(crate) install_date: Option<Moment>,
    pub(crate) warranty_expiration: Option<Moment>,
    pub(crate) notes: Option<String>,
}

/// What is joined to an asset.
#[derive(Debug, Serialize)]
pub(crate) struct Joined {
    asset_type_name: Option<String>,
    location_name: Option<String>,
    /// The location's.
    customer_id: Option<u64>,
    /// Only where one asset is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    meters: Option<Vec<MeterView>>,
}

statuses! {
    AssetStatus {
        Active = "Active",
        Idle = "Idle",
        InMaintenance = "In Maintenance",
        PendingInstall = "Pending Install",
        InTransit = "In Transit",
        Lost = "Lost",
        NonCompliant = "Non-Compliant",
        Decommissioned = "Decommissioned",
        Retired = "Retired",
    }
    Active => Idle, InMaintenance, Decommissioned, Lost, InTransit, NonCompliant;
    Idle => Active, InMaintenance, Decommissioned, Retired, InTransit, PendingInstall;
    InMaintenance => Active, Idle, Decommissioned, Retired;
    PendingInstall => Active, Idle, InMaintenance, InTransit, Decommissioned;
    InTransit => Active, Idle, PendingInstall, InMaintenance, Lost;
    Lost => Active, Idle, Decommissioned, Retired;
    NonCompliant => Active, Idle, InMaintenance, Decommissioned, Retired;
    Decommissioned => ;
    Retired => ;
}

impl Document for Asset {
    const KIND: &'static str = "fsm-navigator/asset";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Asset;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![self.id_key(), ("asset_tag", self.asset_tag.clone())]
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        let mut keys = vec![("status", self.status.word().to_owned())];
        let ids = [
            ("asset_type_id", self.asset_type_id),
            ("location_id", self.location_id),
        ];
        let ids = ids.into_iter();
        keys.extend(ids.filter_map(|(name, id)| Some((name, id?.to_string()))));
        keys
    }
}

impl Resource for Asset {
    fn references(&self) -> Vec<Reference> {
        let kind = self.asset_type_id;
        let kind = kind.map(|id| names::<AssetType>("/asset_type_id", id));
        let location = self.location_id;
        let location = location.map(|id| names::<Location>("/location_id", id));
        let technician = self.assigned_technician_id;
        let technician = technician.map(|id| names::<Technician>("/assigned_technician_id", id));
        [kind, location, technician].into_iter().flatten().collect()
    }

    fn admit(&self, admission: &Admission<'_, Self>) -> Result<(), Fault> {
        admit_status(self, admission)
    }
}

impl Record for Asset {
    const ID: &'static str = "asset_id";

    fn number(&self) -> u64 {
        self.asset_id
    }

    /// Gives it the usual tag too, unless it has one.
    fn set_number(&mut self, number: u64) {
        self.asset_id = number;
        if self.asset_tag.is_empty() {
            self.asset_tag = usual_tag(number);
        }
    }

    /// Passes over numbers whose usual tags somebody gave to other assets. After too many of them it gets a tag of its own,
    /// so that nobody waits long for this write.
    fn take_number(&mut self, writes: &mut Writes<'_>, space: OrganizationId) -> Result<(), Fault> {
        let has_tag = !self.asset_tag.is_empty();
        for _ in 0..PASSED_OVER_MAX {
            self.set_number(writes.next_number(space, Self::KIND)?);
            let tag = &self.asset_tag;
            if has_tag || (writes.find_by_key::<Self>(space, "asset_tag", tag)?).is_none() {
                return Ok(());
            }
            self.asset_tag.clear();
        }
        let second = writes.author().at.seconds();
        self.asset_tag = format!("{}-{second}", usual_tag(self.asset_id));
        Ok(())
    }
}

impl Shown for Asset {
    type Read = AssetsRead;
    type View = View<Self, Joined>;
    const ONE: &'static str = "asset";

    fn view(stored: &Stored<Self>, look: &Look<'_>) -> Result<Self::View, Fault> {
        let joined = Joined::of(&stored.document, look)?;
        Ok(View::of(stored, stored.document.clone(), joined))
    }

    /// Takes no place, and does without meters that cannot be read: what was changed already is not told to have failed.
    fn view_alone(stored: &Stored<Self>, app: &App) -> Result<Self::View, Fault> {
        Self::view_with_meters(stored, app, &Cancel::new()).or_else(|fault| {
            tracing::warn!(
                organization = %stored.organization,
                asset = stored.document.asset_id,
                "the meters of an asset could not be shown: {}, {}",
                fault.kind,
                fault.log_context().unwrap_or("no context")
            );
            Self::view(stored, &app.look(stored.organization))
        })
    }
}

impl Joined {
    fn of(asset: &Asset, look: &Look<'_>) -> Result<Self, Fault> {
        let asset_type = look.find_some::<AssetType>(asset.asset_type_id)?;
        let location = look.find_some::<Location>(asset.location_id)?;
        let location = location.as_ref().map(|location| &location.document);
        Ok(Self {
            asset_type_name: asset_type.map(|t| t.document.asset_type_name.clone()),
            location_name: location.map(|location| location.location_name.clone()),
            customer_id: location.map(|location| location.customer_id),
            meters: None,
        })
    }
}

impl Listed for Asset {
    fn filters(fields: &mut Fields<'_>, _: &Look<'_>) -> Result<Filters<Self>, Fault> {
        let mut filters = Filters::<Self>::read(fields);
        let status = AssetStatus::read(fields, "status");
        filters.equal("status", status.map(Word::word));
        for name in ["asset_type_id", "location_id"] {
            filters.equal(name, id(fields, name));
        }
        filters.when(fields.string("condition"), |wanted, stored| {
            is_same(stored.document.condition.as_ref(), wanted)
        });
        filters.when(fields.string("ownership_type"), |wanted, stored| {
            is_same(stored.document.ownership_type.as_ref(), wanted)
        });
        filters.when(Search::read(fields), |search, stored| {
            let asset: &Self = &stored.document;
            search.is_in(&asset.asset_name)
                || search.is_in(&asset.asset_tag)
                || (asset.serial_number.as_ref()).is_some_and(|text| search.is_in(text))
        });
        Ok(filters)
    }
}

impl Editable for Asset {
    type Write = AssetsWrite;

    fn read(fields: &mut Fields<'_>, at: &At<'_, Self>) -> Option<Self> {
        let before = at.before;
        let asset_name = required(
            fields,
            "asset_name",
            before.map(|b| &b.asset_name),
            text(NAME_MAX),
        );
        let asset_tag = optional(
            fields,
            "asset_tag",
            before.map(|b| b.asset_tag.clone()),
            text(NAME_MAX),
        );
        let notes = optional(
            fields,
            "notes",
            before.and_then(|b| b.notes.clone()),
            text(TEXT_MAX),
        );
        let mut line = |name, of: fn(&Self) -> &Option<String>| {
            optional(
                fields,
                name,
                before.and_then(|b| of(b).clone()),
                text(NAME_MAX),
            )
        };
        let condition = line("condition", |b| &b.condition);
        let ownership_type = line("ownership_type", |b| &b.ownership_type);
        let serial_number = line("serial_number", |b| &b.serial_number);
        let manufacturer = line("manufacturer", |b| &b.manufacturer);
        let model = line("model", |b| &b.model);
        let mut named =
            |name, of: fn(&Self) -> Option<u64>| optional(fields, name, before.and_then(of), id);
        let asset_type_id = named("asset_type_id", |b| b.asset_type_id);
        let location_id = named("location_id", |b| b.location_id);
        let assigned_technician_id = named("assigned_technician_id", |b| b.assigned_technician_id);
        let mut time = |name, of: fn(&Self) -> Option<Moment>| {
            optional(fields, name, before.and_then(of), moment)
        };
        let purchase_date = time("purchase_date", |b| b.purchase_date);
        let install_date = time("install_date", |b| b.install_date);
        let warranty_expiration = time("warranty_expiration", |b| b.warranty_expiration);
        let mut asset = Self {
            asset_id: before.map_or(0, |b| b.asset_id),
            asset_tag: asset_tag.unwrap_or_default(),
            asset_name: asset_name?,
            asset_type_id,
            status: before.map_or(AssetStatus::Active, |b| b.status),
            condition,
            ownership_type,
            serial_number,
            manufacturer,
            model,
            location_id,
            assigned_technician_id,
            purchase_date,
            install_date,
            warranty_expiration,
            notes,
        };
        if before.is_some() {
            asset.set_number(asset.asset_id);
        }
        asset.read_status(fields, at);
        Some(asset)
    }
}

impl Asset {
    fn view_with_meters(
        stored: &Stored<Self>,
        app: &App,
        cancel: &Cancel,
    ) -> Result<<Self as Shown>::View, Fault> {
        let mut joined = Joined::of(&stored.document, &app.look(stored.organization))?;
        joined.meters = Some(meters_of(app, stored, cancel)?);
        Ok(View::of(stored, stored.document.clone(), joined))
    }

    /// A new asset is there or to be installed; another one changes as its status allows.
    fn read_status(&mut self, fields: &mut Fields<'_>, at: &At<'_, Self>) {
        let Some(status) = read_status::<Self>(fields) else {
            return;
        };
        let may_begin = matches!(status, AssetStatus::Active | AssetStatus::PendingInstall);
        if at.before.is_none() && !may_begin {
            let text = "must be Active or Pending Install for a new asset";
            fields.refuse("status", rule("first_status", text));
        } else {
            self.status = status;
        }
    }

    /// Whether anything can still be done with it: nothing leaves its last statuses (5.2).
    pub(crate) fn check_in_use(&self) -> Result<(), Fault> {
        if !self.status.is_terminal() {
            return Ok(());
        }
        let status = self.status.word();
        let text = format!("must not be that of an asset that is {status}");
        let rule = rule("asset_status", text);
        Err(Fault::invalid(Problem::query("id", rule)))
    }
}

impl Stateful for Asset {
    type Status = AssetStatus;
    const STATUS: [&'static str; 2] = ["status", "asset_status"];
    const REASON: &'static str = "reason";

    fn status(&self) -> AssetStatus {
        self.status
    }

    fn enter(&mut self, status: AssetStatus, _: Timestamp) {
        self.status = status;
    }
}

/// `GET /assets?id=`, with the asset's meters.
pub(crate) async fn retrieve_asset(
    State(app): State<App>,
    access: Access<AssetsRead>,
    Found(found): Found<Asset>,
) -> Result<Reply<One<<Asset as Shown>::View>>, Failure> {
    let view = access
        .query(&app, move |app, cancel| {
            Asset::view_with_meters(&found, app, cancel)
        })
        .await?;
    Ok(Reply::ok(One::of(&access.context, Asset::ONE, view)))
}

/// As the original's example has it: `AST-000123`.
fn usual_tag(number: u64) -> String {
    format!("AST-{number:06}")
}

fn is_same(text: Option<&String>, wanted: &str) -> bool {
    text.is_some_and(|text| text.to_lowercase() == wanted.trim().to_lowercase())
}
