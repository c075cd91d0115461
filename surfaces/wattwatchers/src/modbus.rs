//! Modbus as clients read it (specs/wattwatchers.md 3.9).

use crate::access::Reader;
use meterd_fault::Kind;
use meterd_http::Failure;

/// `GET /modbus/{id}`
pub(crate) async fn list(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}

/// `GET /modbus/{id}/first`
pub(crate) async fn first(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}

/// `GET /modbus/{id}/latest`
pub(crate) async fn latest(_: Reader) -> Failure {
    Kind::UnknownRoute.into()
}
