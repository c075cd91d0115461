//! Companies: organizations with two data sets, live and test, and a plan.

use meterd_control::{Document, Environment, Store};
use meterd_fault::Fault;
use meterd_model::OrganizationId;
use serde::{Deserialize, Serialize};
use uuid::{Builder, Version};

/// The unique key of what there is one of.
pub(crate) const ONLY: (&str, &str) = ("only", "");
/// The plan that the API belongs to.
pub(crate) const ENTERPRISE: &str = "Enterprise";

/// What is known of a company besides its organization. One that has none is on the Enterprise plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Company {
    pub(crate) plan: String,
}

impl Document for Company {
    const KIND: &'static str = "fsm-navigator/company";
    const RESOURCE: meterd_fault::Resource = meterd_fault::Resource::Organization;

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        let (key, value) = ONLY;
        vec![(key, value.to_owned())]
    }
}

/// Where a company's data set is kept. The live one is the organization's own; the test one is under the same id as a
/// UUID of version 8, which is made for no organization. So nothing can be found in the wrong one.
pub(crate) fn space_of(company: OrganizationId, environment: Environment) -> OrganizationId {
    match environment {
        Environment::Live => company,
        Environment::Test => {
            let id = Builder::from_bytes(company.0.into_bytes());
            OrganizationId(id.with_version(Version::Custom).into_uuid())
        }
    }
}

/// Both data sets of every organization, whether or not it has something in them.
pub(crate) fn data_sets(store: &Store) -> Result<Vec<OrganizationId>, Fault> {
    let companies = store.every_organization()?;
    let sets = companies.iter().flat_map(|company| {
        let company = company.organization_id();
        [Environment::Live, Environment::Test].map(|environment| space_of(company, environment))
    });
    Ok(sets.collect())
}

/// Whether the company's plan has the API (1).
pub(crate) fn has_api(store: &Store, company: OrganizationId) -> Result<bool, Fault> {
    let (key, value) = ONLY;
    let found = store.find_by_key::<Company>(company, key, value)?;
    Ok(found.is_none_or(|stored| stored.document.plan.eq_ignore_ascii_case(ENTERPRISE)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn the_test_set_is_another_one() {
        let company = OrganizationId(Uuid::from_u128(0x0193_a5c2_7c1e_7d3a_9f10_3b6f_0f2f_9d11));
        assert_eq!(space_of(company, Environment::Live), company);
        let test = space_of(company, Environment::Test);
        assert_eq!(test.to_string(), "0193a5c2-7c1e-8d3a-9f10-3b6f0f2f9d11");
    }
}
