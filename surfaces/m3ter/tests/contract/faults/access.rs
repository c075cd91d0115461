//! Who asks: keys, secrets and tokens in every bad state, organizations, permissions, addresses.

use super::{Case, Group, exchange};
use crate::server::{GRANT, Options, Server, ServiceUser, token_request};
use meterd_control::{Author, CredentialChange};
use meterd_fault::Code;
use meterd_testkit::client::{Answer, get, post};
use meterd_testkit::{now, system};
use std::time::Duration;
use uuid::Uuid;

pub(super) const GROUP: Group = Group {
    name: "access",
    start: || {
        let mut options = Options::default();
        // The test's own address may speak for others.
        options.general.proxies = vec!["127.0.0.1/32".parse().unwrap()];
        Server::start_with(options)
    },
    cases,
    keeps_contents: true,
};

fn list(server: &Server, token: &str) -> Answer {
    server.ask_as(token, "GET", "/products", None)
}

fn ask_for_token(server: &Server, user: &ServiceUser) -> Answer {
    server.send(&token_request(&user.key, &user.secret).json(GRANT))
}

fn key_of(server: &Server, name: &str) -> ServiceUser {
    server.service_user(name, &["Administrator"])
}

/// Set an hour ago, to end a second ago.
fn expire(server: &Server, credential: Uuid) {
    let ended = now().saturating_sub(Duration::from_secs(1));
    let change = CredentialChange {
        expires_at: Some(Some(ended)),
        ..CredentialChange::default()
    };
    let author = Author::system(now().saturating_sub(Duration::from_hours(1)));
    let credentials = server.control.credentials();
    credentials
        .change(credential, None, change, &author)
        .unwrap();
}

fn cases() -> Vec<Case> {
    let mut cases = tokens();
    cases.extend(keys());
    cases.extend(token_endpoint());
    cases.extend([
        exchange(
            "another organization",
            Code::OrganizationNotAccessible,
            |s| {
                let path = s.rival.path("/products");
                s.send(&get(path).key(&s.acme.admin.token))
            },
        ),
        exchange("no organization", Code::OrganizationNotAccessible, |s| {
            let path = "/m3ter/organizations/acme/products";
            s.send(&get(path).key(&s.acme.admin.token))
        }),
        exchange("a key without a policy", Code::PermissionMissing, |s| {
            let poor = s.service_user("poor", &[]);
            list(s, &poor.token)
        }),
        exchange("an address not allowed", Code::AddressNotAllowed, |s| {
            let bound = key_of(s, "bound");
            let change = CredentialChange {
                addresses: Some(vec!["192.0.2.0/24".parse().unwrap()]),
                ..CredentialChange::default()
            };
            let credentials = s.control.credentials();
            credentials
                .change(bound.credential, None, change, &system())
                .unwrap();
            let from = |address: &str| {
                let request = get(s.path("/products")).key(&bound.token);
                s.send(&request.header("X-Forwarded-For", address))
            };
            from("192.0.2.77").expect(200);
            from("198.51.100.7")
        }),
    ]);
    cases
}

fn tokens() -> Vec<Case> {
    vec![
        exchange("no token", Code::CredentialsMissing, |s| {
            s.send(&get(s.path("/products")))
        }),
        exchange(
            "no token where one asks for a bearer",
            Code::CredentialsMalformed,
            |s| s.send(&get(s.path("/products")).header("Authorization", "Bearer")),
        ),
        exchange("a key for a token", Code::CredentialsMalformed, |s| {
            let admin = &s.acme.admin;
            let pair = crate::server::basic(&admin.key, &admin.secret);
            s.send(&get(s.path("/products")).header("Authorization", &pair))
        }),
        exchange("a secret for a token", Code::TokenInvalid, |s| {
            list(s, &s.acme.admin.secret)
        }),
        exchange("a token of nobody's", Code::TokenInvalid, |s| {
            list(s, "garbage")
        }),
        exchange("an address that nobody signed", Code::TokenInvalid, |s| {
            s.send(&get("/m3ter/transfers/garbage"))
        }),
        exchange("an expired token", Code::TokenExpired, |s| {
            let credentials = s.control.credentials();
            let credential = credentials.find(s.acme.admin.credential).unwrap();
            let yesterday = now().saturating_sub(Duration::from_hours(24));
            let tokens = s.control.tokens();
            let token = tokens.issue(&credential, Duration::from_secs(1), yesterday);
            list(s, token.unwrap().token.reveal())
        }),
    ]
}

/// What became of a key ends its tokens, too.
fn keys() -> Vec<Case> {
    vec![
        exchange(
            "a token of a disabled key",
            Code::CredentialsDisabled,
            |s| {
                let user = key_of(s, "disabled");
                let credentials = s.control.credentials();
                credentials.disable(user.credential, &system()).unwrap();
                list(s, &user.token)
            },
        ),
        exchange("a token of a revoked key", Code::CredentialsRevoked, |s| {
            let user = key_of(s, "revoked");
            let credentials = s.control.credentials();
            credentials.revoke(user.credential, &system()).unwrap();
            list(s, &user.token)
        }),
        exchange("a token of an expired key", Code::CredentialsExpired, |s| {
            let user = key_of(s, "expired");
            expire(s, user.credential);
            list(s, &user.token)
        }),
        exchange("a disabled key", Code::CredentialsDisabled, |s| {
            let user = key_of(s, "disabled too");
            let credentials = s.control.credentials();
            credentials.disable(user.credential, &system()).unwrap();
            ask_for_token(s, &user)
        }),
        exchange("a revoked key", Code::CredentialsRevoked, |s| {
            let user = key_of(s, "revoked too");
            let credentials = s.control.credentials();
            credentials.revoke(user.credential, &system()).unwrap();
            ask_for_token(s, &user)
        }),
        exchange("an expired key", Code::CredentialsExpired, |s| {
            let user = key_of(s, "expired too");
            expire(s, user.credential);
            ask_for_token(s, &user)
        }),
    ]
}

fn token_endpoint() -> Vec<Case> {
    const PATH: &str = "/m3ter/oauth/token";
    let body_of_admin = |server: &Server, body: &str| {
        let admin = &server.acme.admin;
        server.send(&token_request(&admin.key, &admin.secret).json(body))
    };
    vec![
        exchange("no key", Code::CredentialsMissing, |s| {
            s.send(&post(PATH).json(GRANT))
        }),
        exchange(
            "no pair of key and secret",
            Code::CredentialsMalformed,
            |s| {
                let request = post(PATH).header("Authorization", "Basic !!!");
                s.send(&request.json(GRANT))
            },
        ),
        exchange("a wrong secret", Code::OauthClientInvalid, |s| {
            s.send(&token_request(&s.acme.admin.key, "wrong").json(GRANT))
        }),
        exchange("an unknown key", Code::OauthClientInvalid, |s| {
            s.send(&token_request("wrong", &s.acme.admin.secret).json(GRANT))
        }),
        exchange("another grant", Code::OauthGrantUnsupported, move |s| {
            body_of_admin(s, r#"{"grant_type":"password"}"#)
        }),
        exchange("no grant", Code::Invalid, move |s| body_of_admin(s, "{}")),
        exchange("a long request for a token", Code::BodyTooLarge, move |s| {
            body_of_admin(s, &" ".repeat(4_097))
        }),
        exchange("a grant in broken JSON", Code::BodyMalformed, move |s| {
            body_of_admin(s, "{")
        }),
    ]
}
