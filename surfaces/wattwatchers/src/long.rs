//! Long Energy as clients read it (specs/wattwatchers.md 3.8).

use crate::access::Reader;
use meterd_fault::Kind;
use meterd_http::Failure;

/// `GET /long-energy/{id}`
pub(crate) async fn list(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}

/// `GET /long-energy/{id}/first`
pub(crate) async fn first(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}

/// `GET /long-energy/{id}/latest`
pub(crate) async fn latest(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}
