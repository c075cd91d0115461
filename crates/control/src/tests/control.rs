//! Opening, older and newer databases, damage, full disks, backups.

use super::*;
use crate::{EventFilter, EventMember, OpenError};
use rusqlite::Connection;
use std::os::unix::ffi::OsStrExt as _;
use uuid::Uuid;

const OLD_ORGANIZATION: OrganizationId =
    OrganizationId(Uuid::from_u128(0x018c_c251_f400_7000_8000_0000_0000_abcd));

/// The device of today, whose first form had `on` in place of `status` and no count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NewDevice(Device);

impl Document for NewDevice {
    const KIND: &'static str = "device";
    const RESOURCE: Resource = Resource::Device;
    const SCHEMA: u32 = 2;

    fn upgrade(from: u32, value: serde_json::Value) -> Result<serde_json::Value, String> {
        assert_eq!(from, 1);
        let on = value["on"].as_bool().ok_or("on is missing")?;
        let status = if on { "on" } else { "off" };
        Ok(serde_json::json!({"name": value["name"], "status": status, "count": 0}))
    }

    fn unique_keys(&self) -> Vec<(&'static str, String)> {
        self.0.unique_keys()
    }

    fn index_keys(&self) -> Vec<(&'static str, String)> {
        self.0.index_keys()
    }
}

fn old_database() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.db");
    let sql = Connection::open(&path).unwrap();
    sql.execute_batch(include_str!("../../migrations/0001_control.sql"))
        .unwrap();
    sql.execute_batch(include_str!("fixtures/version-1.sql"))
        .unwrap();
    (folder, path)
}

fn open_new(path: &std::path::Path) -> Result<Control, OpenError> {
    let settings = Settings {
        documents: Documents::new().with::<NewDevice>(),
        ..Settings::default()
    };
    Control::open(path, settings)
}

#[test]
fn an_old_database_is_upgraded_and_keeps_its_versions() {
    let (_folder, path) = old_database();
    for _ in 0..2 {
        let control = open_new(&path).unwrap();
        let home = control
            .store()
            .organization_by_name("old")
            .unwrap()
            .organization_id();
        assert_eq!(home, OLD_ORGANIZATION);
        let stored = control
            .store()
            .get_by_key::<NewDevice>(home, "name", "pump")
            .unwrap();
        assert_eq!(
            (stored.version, stored.document.0.status.as_str()),
            (4, "on")
        );
        assert_eq!(
            control
                .store()
                .count::<NewDevice>(home, &[("status", "on")])
                .unwrap(),
            1
        );
        assert!(control.verify().unwrap().is_sound());
        let events = control
            .events()
            .after(home, &EventFilter::default(), 0, 9)
            .unwrap();
        assert_eq!((events.len(), events[0].sequence), (1, 7));
    }
}

#[test]
fn events_of_an_old_database_are_found_by_what_their_data_say() {
    let (_folder, path) = old_database();
    let sql = Connection::open(&path).unwrap();
    sql.execute_batch(include_str!("../../migrations/0002_files.sql"))
        .unwrap();
    sql.execute_batch(include_str!("fixtures/version-2.sql"))
        .unwrap();
    drop(sql);
    let control = open_new(&path).unwrap();
    let found = |members: &[(EventMember, &str)]| -> Vec<_> {
        let filter = EventFilter {
            members,
            ..EventFilter::default()
        };
        let events = control.events().after(OLD_ORGANIZATION, &filter, 0, 9);
        let events = events.unwrap().into_iter();
        events.map(|event| event.sequence).collect()
    };
    let [account, notification, code] = EventMember::ALL;
    assert_eq!(found(&[(account, "a-1")]), [8, 9]);
    assert_eq!(found(&[(account, "a-1"), (notification, "n-1")]), [9]);
    assert_eq!(found(&[(code, "n")]), [9]);
    assert_eq!(found(&[(account, "7")]), [0; 0]);
    assert!(control.verify().unwrap().is_sound());
}

#[test]
fn newer_databases_and_documents_are_refused() {
    let (_folder, path) = old_database();
    open_new(&path).unwrap();
    let refused = Control::open(&path, settings()).unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::NewerDocument {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{refused}"
    );
    let sql = Connection::open(&path).unwrap();
    sql.pragma_update(None, "user_version", 99).unwrap();
    let refused = open_new(&path).unwrap_err();
    assert!(
        refused.to_string().contains("newer meterd (schema 99"),
        "{refused}"
    );
}

#[test]
fn an_unreadable_document_stops_the_opening_and_names_it() {
    let (_folder, path) = old_database();
    let sql = Connection::open(&path).unwrap();
    sql.execute(
        "UPDATE resources SET document = '{}' WHERE kind = 'device'",
        [],
    )
    .unwrap();
    let refused = open_new(&path).unwrap_err();
    assert!(
        refused.to_string().contains("018cc251-f400-7001"),
        "{refused}"
    );
    assert!(
        Control::open(
            &path,
            Settings {
                documents: Documents::new().with::<Device>().with::<Device>(),
                ..Settings::default()
            }
        )
        .is_err()
    );
}

#[test]
fn what_was_written_is_there_after_a_crash() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let stored = store.create(home, device("a"), &author()).unwrap();
    let fixture = fixture.reopened();
    assert_eq!(
        fixture
            .control
            .store()
            .get::<Device>(home, stored.id)
            .unwrap(),
        stored
    );
    assert_eq!(
        fixture
            .control
            .store()
            .organization_by_name("acme")
            .unwrap()
            .id,
        home.0
    );
    // New ids still sort after old ones, even with the clock set back.
    let past = Author::system(at(-86_400));
    let next = fixture
        .control
        .store()
        .create(home, device("b"), &past)
        .unwrap();
    assert!(next.id > stored.id);
    let names: Vec<_> = fixture
        .control
        .store()
        .list::<Device>(home, &crate::List::default())
        .unwrap()
        .items
        .iter()
        .map(|item| item.document.name.clone())
        .collect();
    assert_eq!(names, ["b", "a"]);
}

#[test]
fn verification_finds_damage() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    for name in ["a", "b", "c"] {
        fixture
            .control
            .store()
            .create(home, device(name), &author())
            .unwrap();
    }
    let report = fixture.control.verify().unwrap();
    assert_eq!((report.resources, report.is_sound()), (4, true));
    let sql = Connection::open(fixture.path()).unwrap();
    sql.execute("DELETE FROM resource_keys WHERE value = 'a'", [])
        .unwrap();
    sql.execute(
        "UPDATE resource_indexes SET value = 'off' WHERE field = 'status' AND resource = \
                 (SELECT resource FROM resource_keys WHERE value = 'b')",
        [],
    )
    .unwrap();
    sql.execute(
        "UPDATE resources SET document = '{}' WHERE document LIKE '%\"c\"%'",
        [],
    )
    .unwrap();
    let report = fixture.control.verify().unwrap();
    assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
}

/// Name, bytes and time of change of every file of a folder.
fn files(folder: &std::path::Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap(), modified)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_file_is_verified_without_opening_and_every_damaged_document_is_listed() {
    let Fixture { folder, control } = Fixture::new();
    let path = folder.path().join("control.db");
    let settings = settings();
    let in_use = Control::verify_file(&path, &settings);
    assert!(matches!(in_use, Err(OpenError::InUse { .. })), "{in_use:?}");
    let organization = Organization::named("acme");
    let stored = control
        .store()
        .create_organization(organization, &author())
        .unwrap();
    for name in ["a", "b", "c"] {
        let home = stored.organization_id();
        control
            .store()
            .create(home, device(name), &author())
            .unwrap();
    }
    drop(control);
    let before = files(folder.path());
    let report = Control::verify_file(&path, &settings).unwrap();
    assert_eq!((report.resources, report.is_sound()), (4, true));
    assert_eq!(files(folder.path()), before, "something was written");

    let sql = Connection::open(&path).unwrap();
    sql.execute(
        "UPDATE resources SET document = '{}' WHERE kind = 'device' AND document NOT LIKE '%\"b\"%'",
        [],
    )
    .unwrap();
    sql.execute(
        "UPDATE resources SET created_by = '?' WHERE document LIKE '%\"b\"%'",
        [],
    )
    .unwrap();
    drop(sql);
    let before = files(folder.path());
    let report = Control::verify_file(&path, &settings).unwrap();
    assert_eq!(
        (report.resources, report.problems.len()),
        (4, 3),
        "{report:?}"
    );
    assert_eq!(files(folder.path()), before, "something was written");
}

#[test]
fn verification_counts_what_a_crash_left_in_the_log_and_does_not_upgrade() {
    let fixture = Fixture::new();
    fixture.organization("acme");
    let crashed = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("control.db{suffix}");
        std::fs::copy(
            fixture.folder.path().join(&name),
            crashed.path().join(&name),
        )
        .unwrap();
    }
    let path = crashed.path().join("control.db");
    let report = Control::verify_file(&path, &settings()).unwrap();
    assert_eq!((report.resources, report.is_sound()), (1, true));

    let (folder, path) = old_database();
    let settings = Settings {
        documents: Documents::new().with::<NewDevice>(),
        ..Settings::default()
    };
    let before = files(folder.path());
    let report = Control::verify_file(&path, &settings).unwrap();
    assert_eq!(
        (report.resources, report.is_sound()),
        (2, true),
        "{report:?}"
    );
    assert_eq!(files(folder.path()), before);
}

#[test]
fn a_file_that_is_no_database_is_a_problem_and_a_missing_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a folder?/control #1.db");
    assert!(Control::verify_file(&path, &settings()).is_err());
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    for content in ["", &"no database ".repeat(1_000)] {
        std::fs::write(&path, content).unwrap();
        let report = Control::verify_file(&path, &settings()).unwrap();
        assert_eq!(report.problems.len(), 1, "{report:?}");
    }
    std::fs::remove_file(&path).unwrap();
    drop(Control::open(&path, settings()).unwrap());
    assert!(Control::verify_file(&path, &settings()).unwrap().is_sound());
}

#[test]
fn a_backup_is_a_whole_database() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let stored = store.create(home, device("a"), &author()).unwrap();
    let target = fixture.folder.path().join("backup.db");
    std::fs::write(&target, "an older one").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..20 {
                store
                    .create(home, device(&format!("d{number}")), &author())
                    .unwrap();
            }
        });
        fixture.control.backup_to(&target).unwrap();
    });
    let copy = Control::open(&target, settings()).unwrap();
    assert_eq!(copy.store().get::<Device>(home, stored.id).unwrap(), stored);
    assert!(copy.verify().unwrap().is_sound());
    let nowhere = fixture.folder.path().join("no/such/folder/backup.db");
    assert_eq!(
        code(fixture.control.backup_to(nowhere)),
        Code::StorageUnavailable
    );
    // The database would write to another name than this one.
    let folder = fixture.folder.path().join("odd");
    std::fs::create_dir(&folder).unwrap();
    let odd = folder.join(std::ffi::OsStr::from_bytes(b"backup\xff.db"));
    assert_eq!(
        code(fixture.control.backup_to(odd)),
        Code::StorageUnavailable
    );
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_a_fault_and_changes_nothing() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    fixture.control.database.limit_pages(40);
    let large = Device {
        status: "x".repeat(500_000),
        ..device("large")
    };
    assert_eq!(
        code(store.create(home, large.clone(), &author())),
        Code::StorageFull
    );
    assert_eq!(store.count::<Device>(home, &[]).unwrap(), 0);
    fixture.control.database.limit_pages(1_000_000);
    store.create(home, large, &author()).unwrap();
    assert!(fixture.control.verify().unwrap().is_sound());
}

#[test]
fn one_process_has_the_database_and_nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    fixture.organization("acme");
    let second = Control::open(fixture.path(), settings()).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    fixture
        .control
        .backup_to(fixture.folder.path().join("backup.db"))
        .unwrap();
    for file in ["control.db", "control.db-wal", "backup.db"] {
        let metadata = std::fs::metadata(fixture.folder.path().join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{file}");
    }
    let path = fixture.path();
    drop(fixture.control);
    Control::open(path, settings()).unwrap();
}

#[test]
fn a_locked_database_is_a_fault() {
    let fixture = Fixture::new();
    let home = fixture.organization("acme");
    let store = fixture.control.store();
    let stored = store.create(home, device("a"), &author()).unwrap();
    let other = Connection::open(fixture.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(
        code(store.create(home, device("b"), &author())),
        Code::StorageUnavailable
    );
    // Readers do not mind.
    assert_eq!(store.get::<Device>(home, stored.id).unwrap(), stored);
    other.execute_batch("ROLLBACK").unwrap();
    store.create(home, device("b"), &author()).unwrap();
}
