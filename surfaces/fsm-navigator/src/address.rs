//! The two styles in which the original names what a request is about: ids and sub-resources in the query, and in the
//! path. Routes are written in the second; this brings the first to it (3.1).

use meterd_http::fields::decode_percent;
use std::borrow::Cow;

/// What all paths begin with.
const BASE: &str = "/api/v1";
/// Stands for an id that is asked for without a value, or that a sub-resource lacks: a blank.
const NO_ID: &str = "%20";

/// How the query names what is below a resource.
struct Addressing {
    resource: &'static str,
    sub: Sub,
    /// A sub-resource whose items the query names, and by which parameter.
    item: Option<(&'static str, &'static str)>,
}

enum Sub {
    None,
    /// The parameter's value is the sub-resource.
    Named(&'static str),
    /// The parameter, set to 1, stands for the one sub-resource there is.
    Flag(&'static str),
}

const RESOURCES: [Addressing; 5] = [
    Addressing {
        resource: "assets",
        sub: Sub::Named("sub"),
        item: None,
    },
    Addressing {
        resource: "customers",
        sub: Sub::Flag("locations"),
        item: Some(("locations", "location_id")),
    },
    Addressing {
        resource: "inventory",
        sub: Sub::Named("sub"),
        item: Some(("locations", "location_id")),
    },
    Addressing {
        resource: "jobs",
        sub: Sub::None,
        item: None,
    },
    Addressing {
        resource: "technicians",
        sub: Sub::None,
        item: None,
    },
];

/// The path that says what path and query say together. What the path says itself counts. A sub-resource without an id
/// stays a query, `/inventory?sub=low-stock`, which no path of a client can be mistaken for.
pub(crate) fn canonical<'p>(path: &'p str, query: &str) -> Cow<'p, str> {
    if decode_percent(path).is_none() {
        return Cow::Owned(canonical(&literal(path), query).into_owned());
    }
    let Some(below) = path.strip_prefix(BASE).and_then(|p| p.strip_prefix('/')) else {
        return Cow::Borrowed(path);
    };
    let mut segments = below.split('/');
    let resource = segments.next().unwrap_or_default();
    let Some(known) = RESOURCES.iter().find(|known| known.resource == resource) else {
        return Cow::Borrowed(path);
    };
    let said = [segments.next(), segments.next(), segments.next()];
    if query.is_empty() || segments.next().is_some() {
        return Cow::Borrowed(path);
    }
    Cow::Owned(known.join(path, said, query))
}

impl Addressing {
    /// `path` says id, sub-resource and item, as far as it does; the query says the rest.
    fn join(&self, path: &str, [id, sub, item]: [Option<&str>; 3], query: &str) -> String {
        let mut joined = path.to_owned();
        let asked_sub = self.sub(query).filter(|_| sub.is_none());
        // What a flag stands for is always below an id.
        let lacks_id = asked_sub.is_some() && matches!(self.sub, Sub::Flag(_));
        let asked_id = parameter(query, "id").or(lacks_id.then_some(""));
        let asked_id = asked_id.filter(|_| id.is_none());
        if let Some(id) = asked_id {
            joined.push('/');
            joined.push_str(&segment(if id.is_empty() { NO_ID } else { id }));
        }
        if let Some(sub) = &asked_sub {
            let has_id = id.is_some() || asked_id.is_some();
            joined.push_str(if has_id { "/" } else { "?sub=" });
            joined.push_str(sub);
        }
        let sub = sub.or(asked_sub.as_deref());
        let name = self.item.filter(|(of, _)| Some(*of) == sub);
        let asked_item = name.and_then(|(_, name)| parameter(query, name));
        // An empty one is as if it were not there.
        if let Some(item) = asked_item.filter(|asked| item.is_none() && !asked.is_empty()) {
            joined.push('/');
            joined.push_str(&segment(item));
        }
        joined
    }

    fn sub(&self, query: &str) -> Option<String> {
        match self.sub {
            Sub::None => None,
            Sub::Named(name) => parameter(query, name)
                .filter(|sub| !sub.is_empty())
                .map(segment),
            Sub::Flag(name) => {
                let is_set = parameter(query, name).is_some_and(|value| value == "1");
                is_set.then(|| name.to_owned())
            }
        }
    }
}

/// The first value of a parameter, still encoded.
fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
        (known == name).then_some(value)
    })
}

/// A parameter's value as one segment of a path.
fn segment(value: &str) -> String {
    let segment = value.replace('/', "%2F").replace('+', "%20");
    match decode_percent(&segment) {
        Some(_) => segment,
        None => literal(&segment),
    }
}

/// What cannot be decoded stands for itself: the id of nothing, which is no broken request.
fn literal(text: &str) -> String {
    text.replace('%', "%25")
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn both_styles_name_the_same() {
        for (path, query, expected) in [
            ("/api/v1/jobs", "", "/api/v1/jobs"),
            ("/api/v1/jobs", "page=2", "/api/v1/jobs"),
            ("/api/v1/jobs", "page=2&id=42", "/api/v1/jobs/42"),
            ("/api/v1/jobs", "id=42&sub=x", "/api/v1/jobs/42"),
            ("/api/v1/jobs/7", "id=42", "/api/v1/jobs/7"),
            ("/api/v1/jobs", "id=1/2+3", "/api/v1/jobs/1%2F2%203"),
            ("/api/v1/jobs", "id=", "/api/v1/jobs/%20"),
            ("/api/v1/jobs", "id=%zz", "/api/v1/jobs/%25zz"),
            ("/api/v1/jobs/%ff", "", "/api/v1/jobs/%25ff"),
            (
                "/api/v1/assets",
                "sub=service&id=7",
                "/api/v1/assets/7/service",
            ),
            (
                "/api/v1/assets/7",
                "sub=service",
                "/api/v1/assets/7/service",
            ),
            ("/api/v1/assets", "sub=&id=7", "/api/v1/assets/7"),
            ("/api/v1/assets", "location_id=3", "/api/v1/assets"),
            (
                "/api/v1/assets",
                "sub=service",
                "/api/v1/assets?sub=service",
            ),
            (
                "/api/v1/customers",
                "id=5&locations=1",
                "/api/v1/customers/5/locations",
            ),
            (
                "/api/v1/customers",
                "id=5&locations=0",
                "/api/v1/customers/5",
            ),
            (
                "/api/v1/customers",
                "id=5&locations=1&location_id=6",
                "/api/v1/customers/5/locations/6",
            ),
            (
                "/api/v1/customers",
                "id=5&locations=1&location_id=",
                "/api/v1/customers/5/locations",
            ),
            (
                "/api/v1/inventory",
                "sub=locations&location_id=",
                "/api/v1/inventory?sub=locations",
            ),
            (
                "/api/v1/customers/5/locations",
                "location_id=6",
                "/api/v1/customers/5/locations/6",
            ),
            (
                "/api/v1/customers/5/locations/6",
                "location_id=7",
                "/api/v1/customers/5/locations/6",
            ),
            (
                "/api/v1/customers",
                "locations=1",
                "/api/v1/customers/%20/locations",
            ),
            (
                "/api/v1/customers",
                "locations=1&location_id=6",
                "/api/v1/customers/%20/locations/6",
            ),
            (
                "/api/v1/inventory",
                "sub=locations&location_id=2",
                "/api/v1/inventory?sub=locations/2",
            ),
            (
                "/api/v1/inventory",
                "sub=low-stock",
                "/api/v1/inventory?sub=low-stock",
            ),
            (
                "/api/v1/inventory",
                "sub=a/b",
                "/api/v1/inventory?sub=a%2Fb",
            ),
            ("/api/v1/nonsense", "id=1", "/api/v1/nonsense"),
            ("/nonsense", "id=1", "/nonsense"),
        ] {
            assert_eq!(canonical(path, query), expected, "{path}?{query}");
        }
    }
}
