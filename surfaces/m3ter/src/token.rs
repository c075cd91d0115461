//! Tokens for clients: `POST /oauth/token` (2.1). Clients fetch one before every request, so this writes nothing.

use crate::app::App;
use crate::surface::SURFACE;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meterd_fault::{Fault, Kind};
use meterd_http::fields::Form;
use meterd_http::{Context, Failure, JsonOrForm, Reply};
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Serialize)]
pub(crate) struct TokenAnswer {
    access_token: String,
    expires_in: u64,
    token_type: &'static str,
    scope: Option<String>,
}

pub(crate) async fn issue_token(
    State(app): State<App>,
    context: Context,
    request: Request,
) -> Result<Reply<TokenAnswer>, Failure> {
    let (id, secret) = basic(request.headers())?;
    let credentials = app.control.credentials();
    let credential = credentials.authenticate_client(SURFACE, &id, &secret, context.now)?;
    // After the credentials: whoever has none learns nothing more (2.2).
    let JsonOrForm(body) = JsonOrForm::from_request(request, &app).await?;
    let grant = body.read(Form::LENIENT, |fields| fields.required_string("grant_type"))?;
    if grant != "client_credentials" {
        return Err(Kind::OauthGrantUnsupported.into());
    }
    let lifetime = Duration::from_secs(app.settings.token_lifetime_seconds);
    let issued = app
        .control
        .tokens()
        .issue(&credential, lifetime, context.now)?;
    Ok(Reply::ok(TokenAnswer {
        access_token: issued.token.reveal().to_owned(),
        expires_in: issued.expires_in.as_secs(),
        token_type: "Bearer",
        scope: None,
    }))
}

/// The user and password of `Authorization: Basic …` (RFC 7617).
fn basic(headers: &HeaderMap) -> Result<(String, String), Fault> {
    let value = headers
        .get(header::AUTHORIZATION)
        .ok_or(Kind::CredentialsMissing)?;
    let pair = || {
        let (scheme, encoded) = value.to_str().ok()?.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = decoded.split_once(':')?;
        Some((id.to_owned(), secret.to_owned()))
    };
    pair().ok_or_else(|| Kind::CredentialsMalformed.into())
}
