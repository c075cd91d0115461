//! Organizations: the tenants. They are resources of the server itself.

use crate::author::Author;
use crate::document::{Document, Stored};
use crate::store::{List, Page, SERVER, Store};
use meterd_fault::{Fault, Format, Problem, Resource, Rule};
use meterd_model::{OrganizationId, Zone};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Longest name of an organization, in characters.
pub const ORGANIZATION_NAME_MAX: usize = 64;
/// Longest display name, in characters.
pub const DISPLAY_NAME_MAX: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Slug: lower-case letters, digits and hyphens; unique on the server.
    pub name: String,
    pub display_name: String,
    /// IANA name.
    pub timezone: String,
}

impl Document for Organization {
    const KIND: &'static str = "organization";
    const RESOURCE: Resource = Resource::Organization;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.clone())]
    }
}

impl Organization {
    /// In UTC, displayed by its name.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            display_name: name.clone(),
            name,
            timezone: "UTC".to_owned(),
        }
    }

    /// Every broken rule, by member.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !is_slug(&self.name) {
            let rule = Rule::Other {
                code: "slug",
                text: "must have 1 to 64 lower-case letters, digits and hyphens, and start with a letter or digit"
                    .into(),
            };
            problems.push(Problem::body("/name", rule).with_value(&self.name));
        }
        let display_chars = self.display_name.chars().take(DISPLAY_NAME_MAX + 1).count();
        if display_chars == 0 || display_chars > DISPLAY_NAME_MAX {
            let rule = Rule::Length {
                min: 1,
                max: DISPLAY_NAME_MAX as u64,
            };
            problems.push(Problem::body("/display_name", rule));
        }
        if Zone::named(&self.timezone).is_err() {
            let rule = Rule::Format {
                format: Format::Timezone,
            };
            problems.push(Problem::body("/timezone", rule).with_value(&self.timezone));
        }
        problems
    }
}

impl Stored<Organization> {
    /// What this organization's resources name it by.
    pub fn organization_id(&self) -> OrganizationId {
        OrganizationId(self.id)
    }
}

impl Store {
    pub fn create_organization(
        &self,
        organization: Organization,
        author: &Author,
    ) -> Result<Arc<Stored<Organization>>, Fault> {
        check(&organization)?;
        self.create(SERVER, organization, author)
    }

    /// With a given id, for clients that have the id in their configuration.
    pub fn create_organization_as(
        &self,
        id: OrganizationId,
        organization: Organization,
        author: &Author,
    ) -> Result<Arc<Stored<Organization>>, Fault> {
        check(&organization)?;
        self.write(author, |writes| {
            writes.create_as(SERVER, id.0, organization)
        })
    }

    pub fn update_organization(
        &self,
        id: OrganizationId,
        expected: Option<u64>,
        organization: Organization,
        author: &Author,
    ) -> Result<Arc<Stored<Organization>>, Fault> {
        check(&organization)?;
        self.replace(SERVER, id.0, expected, organization, author)
    }

    pub fn organization(&self, id: OrganizationId) -> Result<Arc<Stored<Organization>>, Fault> {
        self.get(SERVER, id.0)
    }

    pub fn organization_by_name(&self, name: &str) -> Result<Arc<Stored<Organization>>, Fault> {
        self.get_by_key(SERVER, "name", name)
    }

    /// All there are, the newest first: for what goes over everything now and then.
    pub fn every_organization(&self) -> Result<Vec<Arc<Stored<Organization>>>, Fault> {
        let mut list = List::default();
        let mut all = Vec::new();
        loop {
            let page = self.list_organizations(&list)?;
            all.extend(page.items);
            match page.next {
                Some(next) => list.cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    pub fn list_organizations(&self, list: &List<'_>) -> Result<Page<Organization>, Fault> {
        self.list(SERVER, list)
    }
}

fn check(organization: &Organization) -> Result<(), Fault> {
    let problems = organization.problems();
    if problems.is_empty() {
        return Ok(());
    }
    Err(meterd_fault::Kind::Invalid { problems }.into())
}

fn is_slug(name: &str) -> bool {
    (1..=ORGANIZATION_NAME_MAX).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.parse::<Uuid>().is_err()
}
