//! Credentials and tokens.

use super::*;
use crate::{
    CredentialChange, CredentialState, Environment, EventFilter, Issued, LimitPolicy, List,
    NewCredential, NewKind, NewSecret, Secret, SecretForm,
};
use base64::Engine as _;
use meterd_fault::{Kind, LimitScope};
use std::time::Duration;
use uuid::Uuid;

const HOUR: Duration = Duration::from_hours(1);

fn by(seconds: i64) -> Author {
    Author::system(at(seconds))
}

fn key(fixture: &Fixture) -> Issued {
    let home = fixture.organization("acme");
    let new = NewCredential::api_key(Some(home), "native", "ci", SecretForm::NATIVE)
        .with_permissions(["meters:read", "devices:*"]);
    fixture
        .control
        .credentials()
        .create(new, &author())
        .unwrap()
}

fn client(fixture: &Fixture) -> Issued {
    let home = fixture.organization("acme");
    let new = NewCredential::oauth_client(Some(home), "m3ter", "billing").with_permissions(["*"]);
    fixture
        .control
        .credentials()
        .create(new, &author())
        .unwrap()
}

fn enter(fixture: &Fixture, secret: &Secret, seconds: i64) -> Result<(), Code> {
    let credentials = fixture.control.credentials();
    let entered = credentials.authenticate("native", secret.reveal(), at(seconds));
    entered
        .map(drop)
        .map_err(|fault| Code::from(fault.kind.as_ref()))
}

#[test]
fn a_key_is_known_by_its_secret_only() {
    let fixture = Fixture::new();
    let issued = key(&fixture);
    let credentials = fixture.control.credentials();
    let found = credentials
        .authenticate("native", issued.secret.reveal(), at(5))
        .unwrap();
    assert_eq!(found, issued.credential);
    assert_eq!(found.environment, Environment::Live);
    assert_eq!(credentials.last_used(found.id), Some(at(5)));
    assert!(issued.secret.reveal().starts_with(&found.hint));
    let shortened = &issued.secret.reveal()[..46];
    for (surface, wrong) in [
        ("m3ter", issued.secret.reveal()),
        ("native", shortened),
        ("native", ""),
        ("native", &found.id.to_string()),
        ("native", &"x".repeat(100_000)),
    ] {
        assert_eq!(
            code(credentials.authenticate(surface, wrong, at(5))),
            Code::CredentialsUnknown
        );
    }
}

#[test]
fn states_act_on_the_next_request_and_survive_a_restart() {
    let fixture = Fixture::new();
    let Issued { credential, secret } = key(&fixture);
    let credentials = fixture.control.credentials();
    credentials.disable(credential.id, &author()).unwrap();
    assert_eq!(enter(&fixture, &secret, 1), Err(Code::CredentialsDisabled));
    credentials.enable(credential.id, &author()).unwrap();
    assert_eq!(enter(&fixture, &secret, 1), Ok(()));
    let change = CredentialChange {
        expires_at: Some(Some(at(10))),
        ..Default::default()
    };
    credentials
        .change(credential.id, None, change, &author())
        .unwrap();
    assert_eq!(enter(&fixture, &secret, 9), Ok(()));
    assert_eq!(enter(&fixture, &secret, 10), Err(Code::CredentialsExpired));
    let revoked = credentials.revoke(credential.id, &author()).unwrap();
    assert_eq!(revoked.state, CredentialState::Revoked);
    assert_eq!(
        code(credentials.enable(credential.id, &author())),
        Code::TransitionNotAllowed
    );
    let fixture = fixture.reopened();
    assert_eq!(enter(&fixture, &secret, 10), Err(Code::CredentialsRevoked));
    fixture
        .control
        .credentials()
        .delete(credential.id, &author())
        .unwrap();
    assert_eq!(enter(&fixture, &secret, 10), Err(Code::CredentialsUnknown));
    assert_eq!(
        code(
            fixture
                .control
                .credentials()
                .revoke(credential.id, &author())
        ),
        Code::ResourceNotFound
    );
}

#[test]
fn rotation_overlaps_as_long_as_asked() {
    let fixture = Fixture::new();
    let Issued {
        credential,
        secret: first,
    } = key(&fixture);
    let rotate = |fixture: &Fixture, overlap, seconds| {
        let new = NewSecret::Generate(SecretForm::NATIVE);
        let credentials = fixture.control.credentials();
        credentials
            .rotate(credential.id, new, overlap, &by(seconds))
            .unwrap()
            .secret
    };
    let second = rotate(&fixture, HOUR, 0);
    assert_eq!(
        (enter(&fixture, &first, 3_599), enter(&fixture, &second, 0)),
        (Ok(()), Ok(()))
    );
    assert_eq!(
        enter(&fixture, &first, 3_600),
        Err(Code::CredentialsRevoked)
    );
    let third = rotate(&fixture, Duration::ZERO, 10);
    // Ends all that were left.
    for old in [&first, &second] {
        assert_eq!(enter(&fixture, old, 10), Err(Code::CredentialsRevoked));
    }
    let fixture = fixture.reopened();
    assert_eq!(enter(&fixture, &third, 10), Ok(()));
    assert_eq!(enter(&fixture, &second, 10), Err(Code::CredentialsRevoked));
    for _ in 0..crate::SECRETS_MAX {
        rotate(&fixture, HOUR, 20);
    }
    assert_eq!(enter(&fixture, &first, 20), Err(Code::CredentialsUnknown));
}

#[test]
fn keys_of_a_full_organization_end_and_change_all_the_same() {
    let fixture = Fixture::new();
    let issued = key(&fixture);
    let id = issued.credential.id;
    let fixture = fixture.reopened_with(Settings {
        resource_bytes_max: 1,
        ..settings()
    });
    let credentials = fixture.control.credentials();
    let home = issued.credential.organization.unwrap();
    let full = fixture.control.store().create(home, device("a"), &by(0));
    assert_eq!(code(full), Code::Invalid);
    let rotated = credentials.rotate(id, NewSecret::Generate(SecretForm::NATIVE), HOUR, &by(1));
    let secret = rotated.unwrap().secret;
    assert_eq!(enter(&fixture, &secret, 2), Ok(()));
    credentials.disable(id, &by(3)).unwrap();
    assert_eq!(enter(&fixture, &secret, 4), Err(Code::CredentialsDisabled));
    credentials.enable(id, &by(5)).unwrap();
    credentials.revoke(id, &by(6)).unwrap();
    assert_eq!(enter(&fixture, &secret, 7), Err(Code::CredentialsRevoked));
    // A new key is more than a change.
    let new = NewCredential::api_key(Some(home), "native", "more", SecretForm::NATIVE);
    assert_eq!(code(credentials.create(new, &by(8))), Code::Invalid);
}

#[test]
fn given_secrets_mean_one_credential() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let secret = Secret::import("key_0123456789abcdef0123456789abcdef").unwrap();
    let new = NewCredential {
        secret: NewSecret::Given(secret.clone()),
        ..NewCredential::api_key(Some(home), "native", "given", SecretForm::NATIVE)
    };
    let credentials = fixture.control.credentials();
    credentials.create(new.clone(), &author()).unwrap();
    assert_eq!(enter(&fixture, &secret, 0), Ok(()));
    assert_eq!(
        code(credentials.create(new, &author())),
        Code::ResourceExists
    );
    let other = credentials
        .create(
            NewCredential::api_key(Some(home), "native", "x", SecretForm::NATIVE),
            &author(),
        )
        .unwrap();
    let stolen = credentials.rotate(
        other.credential.id,
        NewSecret::Given(secret),
        HOUR,
        &author(),
    );
    assert_eq!(code(stolen), Code::ResourceExists);
}

#[test]
fn permissions_match_exactly_or_by_star() {
    let fixture = Fixture::new();
    let credential = key(&fixture).credential;
    for held in ["meters:read", "devices:read", "devices:write"] {
        assert_eq!(credential.permits(held), Ok(()), "{held}");
    }
    let missing = |permission: &str| match *credential.permits(permission).unwrap_err().kind {
        Kind::PermissionMissing { holds_related, .. } => holds_related,
        other => panic!("{other:?}"),
    };
    assert!(missing("meters:write"));
    assert!(!missing("jobs:read"));
    assert!(!missing("device:read"));
    assert!(!missing("meters"));
    let mut all = credential.as_ref().clone();
    all.permissions = vec!["*".to_owned()];
    assert!(all.holds("anything:at-all"));
}

#[test]
fn addresses_match_blocks_of_both_families() {
    let fixture = Fixture::new();
    let mut credential = key(&fixture).credential.as_ref().clone();
    assert_eq!(
        credential.check_address("203.0.113.9".parse().unwrap()),
        Ok(())
    );
    credential.addresses = ["192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32"]
        .map(|block| block.parse().unwrap())
        .to_vec();
    for allowed in [
        "192.0.2.200",
        "::ffff:192.0.2.1",
        "198.51.100.7",
        "2001:db8:1::1",
    ] {
        assert_eq!(
            credential.check_address(allowed.parse().unwrap()),
            Ok(()),
            "{allowed}"
        );
    }
    for refused in [
        "192.0.3.1",
        "::ffff:192.0.3.1",
        "198.51.100.8",
        "2001:db9::1",
        "::192.0.2.1",
    ] {
        let fault = credential.check_address(refused.parse().unwrap());
        assert_eq!(code(fault), Code::AddressNotAllowed, "{refused}");
    }
    let fault = credential
        .check_address("::ffff:192.0.3.1".parse().unwrap())
        .unwrap_err();
    assert_eq!(
        *fault.kind,
        Kind::AddressNotAllowed {
            address: "192.0.3.1".into()
        }
    );
}

#[test]
fn credentials_are_checked_listed_and_apart() {
    let fixture = Fixture::new();
    let issued = key(&fixture);
    let home = issued.credential.organization;
    let other = Some(fixture.organization("other"));
    let credentials = fixture.control.credentials();
    let id = issued.credential.id;
    assert_eq!(code(credentials.get(other, id)), Code::ResourceNotFound);
    assert_eq!(code(credentials.get(None, id)), Code::ResourceNotFound);
    assert_eq!(credentials.get(home, id).unwrap(), issued.credential);
    let list = List {
        filters: &[("surface", "native"), ("state", "active")],
        ..List::default()
    };
    assert_eq!(
        credentials.list(home, &list).unwrap().0,
        std::slice::from_ref(&issued.credential)
    );
    assert!(
        credentials
            .list(other, &List::default())
            .unwrap()
            .0
            .is_empty()
    );
    let bad = NewCredential {
        name: String::new(),
        permissions: vec!["no colon".into(), "a:".into()],
        limits: vec![LimitPolicy::fixed("", LimitScope::Credential, 1, HOUR)],
        kind: NewKind::OauthClient {
            client_id: Some("a:b".into()),
        },
        ..NewCredential::api_key(home, "native", "", SecretForm::NATIVE)
    };
    match *credentials.create(bad, &author()).unwrap_err().kind {
        Kind::Invalid { problems } => assert_eq!(problems.len(), 5, "{problems:?}"),
        other => panic!("{other:?}"),
    }
    let change = CredentialChange {
        permissions: Some(vec!["jobs:read".into()]),
        ..Default::default()
    };
    let stale = credentials.change(id, Some(9), change.clone(), &author());
    assert_eq!(code(stale), Code::VersionMismatch);
    let changed = credentials.change(id, Some(1), change, &author()).unwrap();
    assert!(changed.holds("jobs:read") && !changed.holds("meters:read"));
    assert!(fixture.control.verify().unwrap().is_sound());
}

#[test]
fn no_secret_is_written_down() {
    let fixture = Fixture::new();
    let issued = key(&fixture);
    let home = issued.credential.organization.unwrap();
    let events = fixture
        .control
        .events()
        .after(home, &EventFilter::default(), 0, 10)
        .unwrap();
    let random = &issued.secret.reveal()[10..];
    let hash = String::from(crate::secret::SecretHash::of(issued.secret.reveal()));
    let shown = format!("{issued:?} {events:?} {:?}", fixture.control);
    assert!(!shown.contains(random) && !shown.contains(&hash), "{shown}");
    for file in ["control.db", "control.db-wal"] {
        let bytes = std::fs::read(fixture.folder.path().join(file)).unwrap();
        assert!(
            !bytes
                .windows(random.len())
                .any(|window| window == random.as_bytes()),
            "{file}"
        );
    }
}

#[test]
fn the_first_administrator_is_made_once() {
    let fixture = Fixture::new();
    let credentials = fixture.control.credentials();
    let admin = credentials.ensure_admin(&author()).unwrap().unwrap();
    assert!(admin.credential.is_admin() && admin.credential.holds("organizations:create"));
    assert!(credentials.ensure_admin(&author()).unwrap().is_none());
    let fixture = fixture.reopened();
    assert!(
        fixture
            .control
            .credentials()
            .ensure_admin(&author())
            .unwrap()
            .is_none()
    );
    // Whoever locked himself out gets back in.
    let credentials = fixture.control.credentials();
    let change = CredentialChange {
        expires_at: Some(Some(at(10))),
        ..CredentialChange::default()
    };
    credentials
        .change(admin.credential.id, None, change, &author())
        .unwrap();
    assert!(credentials.ensure_admin(&by(9)).unwrap().is_none());
    assert!(credentials.ensure_admin(&by(10)).unwrap().is_some());
}

fn administrator(fixture: &Fixture, permissions: &[&str]) -> Issued {
    let new = NewCredential::api_key(None, "native", "admin", SecretForm::NATIVE)
        .with_permissions(permissions.iter().copied());
    let credentials = fixture.control.credentials();
    credentials.create(new, &author()).unwrap()
}

#[test]
fn an_administrator_gives_no_more_than_it_holds() {
    let fixture = Fixture::new();
    let credentials = fixture.control.credentials();
    let whole = administrator(&fixture, &["*"]).credential;
    let helper = administrator(&fixture, &["credentials:*", "organizations:read"]).credential;
    let home = fixture.organization("acme");
    let create = |organization, permission: &str, by: &crate::Credential| {
        let new = NewCredential::api_key(organization, "native", "x", SecretForm::NATIVE)
            .with_permissions([permission]);
        credentials.create(new, &Author::new(by.actor(), at(1)))
    };
    let missing = create(None, "*", &helper).unwrap_err();
    assert_eq!(
        *missing.kind,
        Kind::PermissionMissing {
            permission: "*".into(),
            holds_related: false
        }
    );
    assert_eq!(
        code(create(None, "organizations:write", &helper)),
        Code::PermissionMissing
    );
    for held in ["credentials:write", "credentials:*", "organizations:read"] {
        create(None, held, &helper).unwrap();
    }
    create(None, "*", &whole).unwrap();
    // An organization's keys are what it is for.
    let key = create(Some(home), "*", &helper).unwrap().credential;
    // Such a key holds everything in its organization and nothing on the server.
    assert_eq!(
        code(create(None, "meters:read", &key)),
        Code::PermissionMissing
    );

    // The secret of a stronger key would be the same grant, and so would a change.
    let as_helper = Author::new(helper.actor(), at(1));
    let secret = || NewSecret::Generate(SecretForm::NATIVE);
    assert_eq!(
        code(credentials.rotate(whole.id, secret(), Duration::ZERO, &as_helper)),
        Code::PermissionMissing
    );
    let stronger = CredentialChange {
        permissions: Some(vec!["*".to_owned()]),
        ..CredentialChange::default()
    };
    assert_eq!(
        code(credentials.change(helper.id, None, stronger, &as_helper)),
        Code::PermissionMissing
    );
    // So would be to let it live longer, or be used from elsewhere.
    let longer = CredentialChange {
        expires_at: Some(None),
        ..CredentialChange::default()
    };
    let wider = CredentialChange {
        addresses: Some(Vec::new()),
        ..CredentialChange::default()
    };
    for change in [longer, wider] {
        assert_eq!(
            code(credentials.change(whole.id, None, change.clone(), &as_helper)),
            Code::PermissionMissing
        );
        credentials
            .change(key.id, None, change, &as_helper)
            .unwrap();
    }
    for id in [helper.id, key.id] {
        credentials
            .rotate(id, secret(), Duration::ZERO, &as_helper)
            .unwrap();
    }
    credentials.revoke(key.id, &author()).unwrap();
    let change = CredentialChange::default();
    assert_eq!(
        code(credentials.change(key.id, None, change, &author())),
        Code::TransitionNotAllowed
    );
}

#[test]
fn nobody_widens_the_bounds_of_its_own_key() {
    let fixture = Fixture::new();
    let credentials = fixture.control.credentials();
    let block = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    let mut new = NewCredential::api_key(None, "native", "admin", SecretForm::NATIVE)
        .with_permissions(["credentials:*"]);
    new.addresses = vec![block("10.0.0.0/8"), block("2001:db8::/32")];
    new.expires_at = Some(at(100));
    let bounded = credentials.create(new, &author()).unwrap().credential.id;
    let other = administrator(&fixture, &["credentials:*"]).credential;
    let change = |addresses: Option<&[&str]>, expires_at, by: crate::Actor| {
        let addresses = addresses.map(|texts| texts.iter().map(|text| block(text)).collect());
        let change = CredentialChange {
            addresses,
            expires_at,
            ..CredentialChange::default()
        };
        let changed = credentials.change(bounded, None, change, &Author::new(by, at(1)));
        changed.map(|_| ()).map_err(|fault| fault.kind.to_string())
    };
    let own = crate::Actor::Credential(bounded);
    let [addresses, expiry] = ["addresses", "expires_at"].map(|member| {
        Err(format!(
            "{member} cannot be widened by the credential itself."
        ))
    });
    for wider in [
        &[][..],
        &["0.0.0.0/0"],
        &["10.1.0.0/16", "11.0.0.1/32"],
        &["::/0"],
    ] {
        assert_eq!(change(Some(wider), None, own), addresses);
    }
    for longer in [None, Some(at(101))] {
        assert_eq!(change(None, Some(longer), own), expiry);
    }
    assert!(change(Some(&[]), Some(None), own).is_err());
    assert_eq!(
        change(Some(&["::ffff:10.1.0.0/112"]), Some(Some(at(100))), own),
        Ok(())
    );
    assert_eq!(
        change(Some(&["10.1.2.3/32"]), Some(Some(at(99))), own),
        Ok(())
    );
    // That narrowed it: back again it cannot, and somebody else may.
    assert_eq!(change(Some(&["10.1.0.0/16"]), None, own), addresses);
    assert_eq!(change(Some(&[]), Some(None), other.actor()), Ok(()));
    // What has no bounds cannot have wider ones.
    assert_eq!(
        change(Some(&["192.0.2.0/24"]), Some(Some(at(50))), own),
        Ok(())
    );
}

#[test]
fn the_last_administrator_stays() {
    let fixture = Fixture::new();
    let credentials = fixture.control.credentials();
    let first = administrator(&fixture, &["*"]).credential.id;
    administrator(&fixture, &["credentials:*"]);
    let weaker = || CredentialChange {
        permissions: Some(vec!["credentials:*".to_owned()]),
        ..CredentialChange::default()
    };
    for refused in [
        credentials.revoke(first, &author()),
        credentials.disable(first, &author()),
        credentials.delete(first, &author()),
        credentials.change(first, None, weaker(), &author()),
    ] {
        assert_eq!(code(refused), Code::TransitionNotAllowed);
    }
    let said = credentials.revoke(first, &author()).unwrap_err();
    assert_eq!(
        said.kind.to_string(),
        "The credential cannot change from last active administrator to revoked."
    );
    let second = administrator(&fixture, &["*"]).credential.id;
    credentials.disable(first, &author()).unwrap();
    assert_eq!(
        code(credentials.revoke(second, &author())),
        Code::TransitionNotAllowed
    );
    // The disabled one is no administrator at present.
    credentials.revoke(first, &author()).unwrap();
    credentials.revoke(first, &author()).unwrap();
    assert!(credentials.ensure_admin(&author()).unwrap().is_none());
}

#[test]
fn new_credentials_are_checked_whole() {
    let fixture = Fixture::new();
    let home = Some(fixture.organization("acme"));
    let sound = NewCredential {
        expires_at: Some(at(1)),
        ..NewCredential::api_key(home, "native", "Büro 1", SecretForm::NATIVE)
    };
    assert_eq!(sound.problems(at(0)), []);
    let policy = LimitPolicy::fixed("a", LimitScope::Credential, 1, HOUR);
    let bad = NewCredential {
        name: "two\u{1b}[2Jlines".to_owned(),
        permissions: vec!["Not one".to_owned()],
        addresses: vec!["192.0.2.0/24".parse().unwrap(); crate::ADDRESSES_MAX + 1],
        limits: vec![policy.clone(), policy],
        ..sound.clone()
    };
    let places: Vec<_> = bad
        .problems(at(1))
        .iter()
        .map(|problem| format!("{:?} {}", problem.location, problem.rule.code()))
        .collect();
    assert_eq!(
        places,
        [
            r#"Body("/name") format"#,
            r#"Body("/addresses") count"#,
            r#"Body("/permissions/0") permission"#,
            r#"Body("/limits/1/name") unique"#,
            r#"Body("/expires_at") future"#,
        ]
    );
    let credentials = fixture.control.credentials();
    assert_eq!(code(credentials.create(bad, &by(1))), Code::Invalid);
    let id = credentials.create(sound, &by(0)).unwrap().credential.id;
    let past = CredentialChange {
        expires_at: Some(Some(at(5))),
        ..CredentialChange::default()
    };
    assert_eq!(
        code(credentials.change(id, None, past, &by(5))),
        Code::Invalid
    );
    let rotate = |overlap| {
        let secret = NewSecret::Generate(SecretForm::NATIVE);
        credentials.rotate(id, secret, overlap, &by(0))
    };
    assert_eq!(
        code(rotate(crate::OVERLAP_MAX + Duration::from_secs(1))),
        Code::Invalid
    );
    rotate(crate::OVERLAP_MAX).unwrap();
}

#[test]
fn blocks_of_mapped_addresses_mean_the_ipv4_ones() {
    let fixture = Fixture::new();
    let home = Some(fixture.organization("acme"));
    let block = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    for (given, meant) in [
        ("::ffff:127.0.0.1/128", "127.0.0.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
        ("::ffff:0:0/95", "::ffff:0:0/95"),
        ("10.0.0.0/8", "10.0.0.0/8"),
    ] {
        assert_eq!(
            crate::canonical_block(block(given)),
            block(meant),
            "{given}"
        );
    }
    let credentials = fixture.control.credentials();
    let new = NewCredential {
        addresses: vec![block("::ffff:127.0.0.1/128")],
        ..NewCredential::api_key(home, "native", "x", SecretForm::NATIVE)
    };
    let made = credentials.create(new, &author()).unwrap().credential;
    for same in ["127.0.0.1", "::ffff:127.0.0.1"] {
        assert_eq!(made.check_address(same.parse().unwrap()), Ok(()), "{same}");
    }
    let change = CredentialChange {
        addresses: Some(vec![block("::ffff:192.0.2.0/120")]),
        ..CredentialChange::default()
    };
    let changed = credentials
        .change(made.id, None, change, &author())
        .unwrap();
    assert_eq!(changed.addresses, [block("192.0.2.0/24")]);
}

#[test]
fn clients_are_known_by_id_and_secret() {
    let fixture = Fixture::new();
    let Issued { credential, secret } = client(&fixture);
    let credentials = fixture.control.credentials();
    let id = credential.client_id.as_deref().unwrap();
    let enter =
        |id: &str, secret: &str| credentials.authenticate_client("m3ter", id, secret, at(0));
    assert_eq!(enter(id, secret.reveal()).unwrap(), credential);
    for (id, secret) in [
        (id, "wrong"),
        ("wrong", secret.reveal()),
        ("", ""),
        (id, ""),
    ] {
        assert_eq!(code(enter(id, secret)), Code::OauthClientInvalid);
    }
    // A client's secret is no API key.
    assert_eq!(
        code(credentials.authenticate("m3ter", secret.reveal(), at(0))),
        Code::CredentialsUnknown
    );
    let again = NewCredential {
        kind: NewKind::OauthClient {
            client_id: Some(id.to_owned()),
        },
        ..NewCredential::oauth_client(Some(fixture.organization("other")), "m3ter", "x")
    };
    assert_eq!(
        code(credentials.create(again, &author())),
        Code::ResourceExists
    );
    credentials.disable(credential.id, &author()).unwrap();
    assert_eq!(code(enter(id, secret.reveal())), Code::CredentialsDisabled);
    assert_eq!(code(enter(id, "wrong")), Code::OauthClientInvalid);
}

#[test]
fn tokens_last_their_time_and_end_with_their_credential() {
    let fixture = Fixture::new();
    let credential = client(&fixture).credential;
    let tokens = fixture.control.tokens();
    let issued = tokens.issue(&credential, HOUR, at(0)).unwrap();
    assert_eq!(issued.expires_in, HOUR);
    let token = issued.token.reveal();
    assert_eq!(tokens.check("m3ter", token, at(0)).unwrap(), credential);
    assert_eq!(
        code(tokens.check("native", token, at(0))),
        Code::TokenInvalid
    );
    assert!(tokens.check("m3ter", token, at(3_599)).is_ok());
    assert_eq!(
        code(tokens.check("m3ter", token, at(3_600))),
        Code::TokenExpired
    );
    assert_eq!(
        code(tokens.check("m3ter", token, at(-301))),
        Code::TokenInvalid
    );
    let another = tokens.issue(&credential, HOUR, at(0)).unwrap();
    assert_ne!(another.token, issued.token);
    let token = token.to_owned();
    let fixture = fixture.reopened();
    let (tokens, credentials) = (fixture.control.tokens(), fixture.control.credentials());
    assert_eq!(tokens.check("m3ter", &token, at(0)).unwrap(), credential);
    credentials.revoke(credential.id, &author()).unwrap();
    assert_eq!(
        code(tokens.check("m3ter", &token, at(0))),
        Code::CredentialsRevoked
    );
    credentials.delete(credential.id, &author()).unwrap();
    assert_eq!(
        code(tokens.check("m3ter", &token, at(0))),
        Code::TokenInvalid
    );
}

#[test]
fn forged_tokens_are_invalid() {
    let fixture = Fixture::new();
    let credential = client(&fixture).credential;
    let tokens = fixture.control.tokens();
    let token = tokens.issue(&credential, HOUR, at(0)).unwrap().token;
    let token = token.reveal();
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let [header, claims, signature] = *token.split('.').collect::<Vec<_>>() else {
        panic!("{token}");
    };
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(claims)
        .unwrap();
    let decoded = String::from_utf8(decoded).unwrap();
    let later = encode(&decoded.replace("\"exp\":1", "\"exp\":9"));
    let none = encode(r#"{"alg":"none","typ":"JWT"}"#);
    for forged in [
        String::new(),
        "a.b.c".to_owned(),
        "..".to_owned(),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{later}.{signature}"),
        format!("{header}.{claims}.{}", &signature[..20]),
        format!("{token}.{signature}"),
        format!("{token}="),
        format!(" {token}"),
        "x".repeat(1_000_000),
    ] {
        assert_eq!(
            code(tokens.check("m3ter", &forged, at(0))),
            Code::TokenInvalid,
            "{forged:.60}"
        );
    }
    // Every single character counts.
    for (index, letter) in token.char_indices() {
        let other = if letter == 'A' { "B" } else { "A" };
        let mut forged = token.to_owned();
        forged.replace_range(index..=index, other);
        assert_eq!(
            code(tokens.check("m3ter", &forged, at(0))),
            Code::TokenInvalid,
            "{index}"
        );
    }
    let elsewhere = Fixture::new();
    assert_eq!(
        code(elsewhere.control.tokens().check("m3ter", token, at(0))),
        Code::TokenInvalid
    );
    assert_eq!(elsewhere.control.credentials().find(Uuid::nil()), None);
}
