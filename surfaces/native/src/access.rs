//! What native keys may be, and the permissions that they can hold.

use crate::surface::SURFACE;
use meterd_control::{Environment, KeyRules};
use meterd_fault::Rule;
use meterd_http::Permission;

/// What native keys may be.
pub const KEYS: KeyRules = KeyRules {
    surface: SURFACE,
    serves_administrators: true,
    environments: &[Environment::Live],
    is_permission: is_known,
    permission_rule: || Rule::OneOf {
        allowed: grantable().into_iter().map(Into::into).collect(),
    },
    limits: Vec::new,
};

macro_rules! permissions {
    ($($name:ident = $text:literal),+ $(,)?) => {
        $(
            #[derive(Debug)]
            pub(crate) struct $name;

            impl Permission for $name {
                const NAME: &'static str = $text;
            }
        )+

        /// All permissions; a credential may also hold `resource:*` and `*`.
        pub(crate) const ALL: &[&str] = &[$($text),+];
    };
}

permissions! {
    MetersRead = "meters:read",
    MetersWrite = "meters:write",
    MeasurementsRead = "measurements:read",
    MeasurementsWrite = "measurements:write",
    EventsRead = "events:read",
    OrganizationsRead = "organizations:read",
    OrganizationsWrite = "organizations:write",
    CredentialsRead = "credentials:read",
    CredentialsWrite = "credentials:write",
    BackupsWrite = "backups:write",
}

/// Every permission that a credential can be given: each of [`ALL`], all of a resource, everything.
pub(crate) fn grantable() -> Vec<String> {
    let mut resources: Vec<_> = ALL
        .iter()
        .filter_map(|name| name.split_once(':'))
        .map(|(resource, _)| format!("{resource}:*"))
        .collect();
    resources.dedup();
    let mut names: Vec<_> = ALL.iter().map(ToString::to_string).collect();
    names.extend(resources);
    names.push("*".to_owned());
    names
}

/// Whether a credential can be given this permission: one of [`ALL`], all of a resource, or everything.
pub(crate) fn is_known(permission: &str) -> bool {
    permission == "*"
        || ALL.contains(&permission)
        || permission.strip_suffix('*').is_some_and(|resource| {
            resource.ends_with(':') && ALL.iter().any(|known| known.starts_with(resource))
        })
}
