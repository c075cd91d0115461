//! Which devices a key sees, and what is known of each (specs/wattwatchers.md 3.1, 3.2).

use crate::access::Reader;
use crate::app::App;
use crate::device::{Device, DeviceView};
use crate::serial::Serial;
use axum::extract::State;
use meterd_control::{Author, List, Store, Stored};
use meterd_fault::Fault;
use meterd_http::{Failure, LongWork, Params, Reply};
use meterd_model::OrganizationId;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// `GET /devices`
pub(crate) async fn list_devices(
    State(app): State<App>,
    reader: Reader,
) -> Result<Reply<BTreeSet<Serial>>, Failure> {
    Ok(Reply::ok(reader.serials(&app)?))
}

/// `GET /devices/{id}`
pub(crate) async fn retrieve_device(
    State(app): State<App>,
    reader: Reader,
    params: Params,
) -> Result<Reply<DeviceView>, Failure> {
    let device = reader.device(&app, params.get("id"))?;
    Ok(Reply::ok(app.view(&device).await?))
}

/// The devices of an account, or those of them that name a key.
pub(crate) fn serials(
    store: &Store,
    account: OrganizationId,
    key: Option<Uuid>,
) -> Result<BTreeSet<Serial>, Fault> {
    let key = key.map(|key| key.to_string());
    let filters: Vec<_> = key.iter().map(|key| ("key", key.as_str())).collect();
    let mut list = List {
        filters: &filters,
        ..List::default()
    };
    let mut serials = BTreeSet::new();
    loop {
        let page = store.list::<Device>(account, &list)?;
        let found = page.items.iter();
        serials.extend(found.map(|device| device.document.serial.clone()));
        if page.next.is_none() {
            return Ok(serials);
        }
        list.cursor = page.next;
    }
}

impl App {
    /// A device as the API shows it.
    pub(crate) async fn view(&self, device: &Stored<Device>) -> Result<DeviceView, Fault> {
        let heard = (self.heard(device.organization, &device.document.serial)).await?;
        Ok(DeviceView::of(&device.document, &heard))
    }

    /// The device after a change, which is made to what is stored by then; one that changes nothing writes nothing.
    pub(crate) async fn change_device(
        &self,
        author: Author,
        seen: &Arc<Stored<Device>>,
        change: impl Fn(&mut Device) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Arc<Stored<Device>>, Fault> {
        self.write_device(author, seen, false, change).await
    }

    /// As [`Self::change_device`], of what the device itself tells, which goes on in an account that is full.
    pub(crate) async fn note_device(
        &self,
        author: Author,
        seen: &Arc<Stored<Device>>,
        change: impl Fn(&mut Device) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Arc<Stored<Device>>, Fault> {
        self.write_device(author, seen, true, change).await
    }

    async fn write_device(
        &self,
        author: Author,
        seen: &Arc<Stored<Device>>,
        though_full: bool,
        change: impl Fn(&mut Device) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Arc<Stored<Device>>, Fault> {
        let mut preview = seen.document.clone();
        change(&mut preview)?;
        if preview == seen.document {
            return Ok(Arc::clone(seen));
        }
        let (account, id) = (seen.organization, seen.id);
        self.blocking(move |app| {
            app.control.store().write(&author, |writes| {
                let change = |stored: &Stored<Device>| {
                    let mut device = stored.document.clone();
                    change(&mut device)?;
                    Ok(device)
                };
                if though_full {
                    writes.update_though_full(account, id, None, change)
                } else {
                    writes.update(account, id, None, change)
                }
            })
        })
        .await
    }
}
