//! How answers are wrapped (3.2): a superset of the two styles that the original documents.

use crate::page::{PageAsked, Pagination};
use meterd_http::{Context, Reply};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

/// One thing: as `data`, and under its own name.
#[derive(Debug)]
pub(crate) struct One<T, E = ()> {
    name: &'static str,
    value: T,
    beside: E,
    request_id: String,
}

/// Members that an answer has beside the one thing.
pub(crate) trait Beside {
    fn write<M: SerializeMap>(&self, members: &mut M) -> Result<(), M::Error>;
}

impl Beside for () {
    fn write<M: SerializeMap>(&self, _: &mut M) -> Result<(), M::Error> {
        Ok(())
    }
}

impl<T> One<T> {
    pub(crate) fn of(context: &Context, name: &'static str, value: T) -> Self {
        Self {
            name,
            value,
            beside: (),
            request_id: request_id(context.request_id),
        }
    }

    pub(crate) fn with<E>(self, beside: E) -> One<T, E> {
        One {
            name: self.name,
            value: self.value,
            beside,
            request_id: self.request_id,
        }
    }
}

impl<T: Serialize, E: Beside> Serialize for One<T, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("success", &true)?;
        members.serialize_entry("data", &self.value)?;
        members.serialize_entry(self.name, &self.value)?;
        self.beside.write(&mut members)?;
        members.serialize_entry("request_id", &self.request_id)?;
        members.end()
    }
}

/// A page of many.
#[derive(Debug, Serialize)]
pub(crate) struct Many<T> {
    success: bool,
    data: Vec<T>,
    pagination: Pagination,
    request_id: String,
}

impl<T: Serialize> Many<T> {
    pub(crate) fn reply(
        context: &Context,
        data: Vec<T>,
        page: PageAsked,
        total: usize,
    ) -> Reply<Self> {
        Reply::ok(Self {
            success: true,
            data,
            pagination: page.of(total),
            request_id: request_id(context.request_id),
        })
    }
}

/// The request's id as the original has them: twelve hexadecimal digits. They are the random end of the one in the log.
pub(crate) fn request_id(id: Uuid) -> String {
    const DIGITS: usize = 12;
    let hex = id.simple().to_string();
    let start = hex.len() - DIGITS;
    hex.get(start..).unwrap_or_default().to_owned()
}
