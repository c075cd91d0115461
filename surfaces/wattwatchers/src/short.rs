//! Short Energy as clients read it (specs/wattwatchers.md 3.7).

use crate::access::Reader;
use meterd_fault::Kind;
use meterd_http::Failure;

/// `GET /short-energy/{id}`
pub(crate) async fn list(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}

/// `GET /short-energy/{id}/first`
pub(crate) async fn first(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}

/// `GET /short-energy/{id}/latest`
pub(crate) async fn latest(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}
