//! What the simulated disk keeps, forgets and refuses.

use super::*;

fn path(name: &str) -> PathBuf {
    Path::new("d").join(name)
}

/// A durable directory `d`, empty.
fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_directory(Path::new("d")).unwrap();
    disk.sync_directory(Path::new("")).unwrap();
    disk
}

fn write(disk: &SimulatedDisk, name: &str, bytes: &[u8]) {
    disk.create(&path(name)).unwrap().append(bytes).unwrap();
}

fn write_synced(disk: &SimulatedDisk, name: &str, bytes: &[u8]) {
    let mut file = disk.create(&path(name)).unwrap();
    file.append(bytes).unwrap();
    file.sync().unwrap();
}

fn sync(disk: &SimulatedDisk) {
    disk.sync_directory(Path::new("d")).unwrap();
}

/// All that is found in `d`, as `name=bytes`.
fn found(disk: &SimulatedDisk) -> String {
    let file = |name: String| {
        let bytes = disk.bytes(&path(&name)).unwrap();
        format!("{name}={}", String::from_utf8_lossy(&bytes))
    };
    let names = disk.list(Path::new("d")).unwrap();
    names.into_iter().map(file).collect::<Vec<_>>().join(" ")
}

fn after(disk: &SimulatedDisk, cut: PowerCut) -> String {
    found(&disk.restart(cut))
}

/// All that a torn disk may show.
fn torn(disk: &SimulatedDisk) -> BTreeSet<String> {
    (0..2_000)
        .map(|seed| after(disk, PowerCut::Tear { seed }))
        .collect()
}

fn set<const N: usize>(states: [&str; N]) -> BTreeSet<String> {
    states.into_iter().map(str::to_owned).collect()
}

#[test]
fn changes_of_names_are_lost_each_by_itself() {
    let disk = disk();
    write_synced(&disk, "a", b"1");
    sync(&disk);
    write_synced(&disk, "b", b"2");
    write_synced(&disk, "c", b"3");
    disk.remove(&path("a")).unwrap();
    assert_eq!(found(&disk), "b=2 c=3");
    assert_eq!(after(&disk, PowerCut::Keep), "b=2 c=3");
    assert_eq!(after(&disk, PowerCut::Drop), "a=1");
    let all = [
        "",
        "a=1",
        "b=2",
        "c=3",
        "a=1 b=2",
        "a=1 c=3",
        "b=2 c=3",
        "a=1 b=2 c=3",
    ];
    assert_eq!(torn(&disk), set(all));
    sync(&disk);
    assert_eq!(torn(&disk), set(["b=2 c=3"]));
    assert_eq!(after(&disk, PowerCut::Drop), "b=2 c=3");
}

#[test]
fn a_rename_is_never_neither_and_durable_once_synced() {
    let disk = disk();
    write_synced(&disk, "m", b"old");
    sync(&disk);
    write_synced(&disk, "t", b"new");
    disk.rename(&path("t"), &path("m")).unwrap();
    assert_eq!(found(&disk), "m=new");
    assert_eq!(after(&disk.kill(), PowerCut::Drop), "m=old");
    assert_eq!(after(&disk, PowerCut::Keep), "m=new");
    assert_eq!(
        torn(&disk),
        set(["m=old", "m=old t=new", "m=new", "m=new t=new"])
    );
    disk.fail(Operation::SyncDirectory, 1);
    assert!(disk.sync_directory(Path::new("d")).is_err());
    assert_eq!(after(&disk, PowerCut::Drop), "m=old");
    sync(&disk);
    assert_eq!(torn(&disk), set(["m=new"]));
    assert_eq!(after(&disk, PowerCut::Drop), "m=new");
}

#[test]
fn a_rename_saves_no_contents() {
    let disk = disk();
    write_synced(&disk, "m", b"old");
    write(&disk, "t", b"new");
    disk.rename(&path("t"), &path("m")).unwrap();
    sync(&disk);
    assert_eq!(after(&disk, PowerCut::Keep), "m=new");
    assert_eq!(after(&disk, PowerCut::Drop), "m=");
    let torn = torn(&disk);
    assert!(
        ["m=", "m=n", "m=new"]
            .iter()
            .all(|state| torn.contains(*state))
    );
    assert!(torn.iter().any(|state| state.contains('\0')));
}

/// Two names of one file, where a rename was saved by half, are two names of one file.
#[test]
fn the_name_that_comes_back_is_of_the_same_file() {
    let disk = disk();
    write_synced(&disk, "t", b"new");
    disk.rename(&path("t"), &path("m")).unwrap();
    let both = (0..100)
        .map(|seed| disk.restart(PowerCut::Tear { seed }))
        .find(|disk| found(disk) == "m=new t=new")
        .unwrap();
    both.open_end(&path("t")).unwrap().append(b"er").unwrap();
    assert_eq!(found(&both), "m=newer t=newer");
    both.remove(&path("t")).unwrap();
    assert_eq!(found(&both), "m=newer");
}

#[test]
fn open_files_outlive_their_names() {
    let disk = disk();
    let mut file = disk.create(&path("a")).unwrap();
    file.append(b"12").unwrap();
    let reader = disk.open_read(&path("a")).unwrap();
    file.append(b"34").unwrap();
    disk.remove(&path("a")).unwrap();
    write(&disk, "a", b"other");
    sync(&disk);
    file.append(b"56").unwrap();
    file.sync().unwrap();
    let mut bytes = [0; 6];
    reader.read_at(0, &mut bytes).unwrap();
    assert_eq!((&bytes, reader.length()), (b"123456", 2));
    let past = reader.read_at(1, &mut bytes).unwrap_err();
    assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(found(&disk), "a=other");
    drop((file, reader));
    write(&disk, "b", b"");
    disk.remove(&path("b")).unwrap();
    sync(&disk);
    // What nobody can reach any more takes no memory.
    assert_eq!(disk.0.lock().open.len(), 0);
    assert_eq!(disk.0.lock().medium.node_count(), 3);
}

#[test]
fn a_failed_sync_loses_what_it_should_have_saved() {
    let disk = disk();
    let mut file = disk.create(&path("a")).unwrap();
    sync(&disk);
    file.append(b"1").unwrap();
    disk.fail(Operation::Sync, 1);
    assert!(file.sync().is_err());
    file.append(b"2").unwrap();
    file.sync().unwrap();
    assert_eq!(found(&disk), "a=12");
    assert_eq!(after(&disk, PowerCut::Keep), "a=\u{0}2");
    disk.overwrite(&path("a"), 0, b"1").unwrap();
    assert_eq!(after(&disk, PowerCut::Drop), "a=12");
}

#[test]
fn a_file_that_is_cut_or_written_over_is_found_in_either_state() {
    let long = "x".repeat(64);
    for (write_over, new) in [(true, "y".repeat(64)), (false, "x".repeat(40))] {
        let disk = disk();
        write_synced(&disk, "a", long.as_bytes());
        sync(&disk);
        disk.cut_power_at(disk.steps());
        let done = if write_over {
            disk.overwrite(&path("a"), 0, new.as_bytes())
        } else {
            disk.cut(&path("a"), 40)
        };
        assert!(done.is_err() && disk.bytes(&path("a")) == Some(new.clone().into_bytes()));
        assert_eq!(after(&disk, PowerCut::Drop), format!("a={long}"));
        let torn = torn(&disk);
        let (old, new) = (format!("a={long}"), format!("a={new}"));
        assert!(torn.contains(&old) && torn.contains(&new));
        assert_eq!(torn.len(), if write_over { 4 } else { 2 }, "{torn:?}");
    }
}

#[test]
fn directories_go_and_come_back_with_what_was_in_them() {
    let disk = disk();
    let inner = Path::new("d/e");
    let busy = disk.remove_directory(Path::new("d"));
    assert!(busy.is_ok(), "it is empty");
    disk.create_directory(Path::new("d")).unwrap();
    disk.sync_directory(Path::new("")).unwrap();
    disk.create_directory(inner).unwrap();
    sync(&disk);
    write_synced(&disk, "e/old", b"1");
    disk.sync_directory(inner).unwrap();
    let busy = disk.remove_directory(inner).unwrap_err();
    assert_eq!(busy.kind(), io::ErrorKind::DirectoryNotEmpty);
    disk.remove(&path("e/old")).unwrap();
    disk.remove_directory(inner).unwrap();
    disk.create_directory(inner).unwrap();
    write_synced(&disk, "e/new", b"2");
    disk.sync_directory(inner).unwrap();
    let list = |disk: &SimulatedDisk| disk.list(inner).ok().map(|names| names.join(" "));
    let after = |cut| list(&disk.restart(cut));
    assert_eq!(after(PowerCut::Keep).as_deref(), Some("new"));
    assert_eq!(after(PowerCut::Drop).as_deref(), Some("old"));
    let torn: BTreeSet<_> = (0..200)
        .map(|seed| after(PowerCut::Tear { seed }))
        .collect();
    // The new directory is another one: nothing of the old one's is in it.
    let all = [None, Some(""), Some("new"), Some("old")];
    assert_eq!(torn, all.map(|names| names.map(str::to_owned)).into());
}

#[test]
fn removing_gives_space_back() {
    let disk = disk();
    write(&disk, "a", b"12345");
    disk.set_space(Some(3));
    let mut file = disk.create(&path("b")).unwrap();
    let full = file.append(b"1234").unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(found(&disk), "a=12345 b=123");
    disk.cut(&path("a"), 3).unwrap();
    file.append(b"45").unwrap();
    assert!(file.append(b"6").is_err());
    disk.remove(&path("a")).unwrap();
    file.append(b"6").unwrap();
    write(&disk, "c", b"12");
    assert!(file.append(b"7").is_err());
    disk.rename(&path("b"), &path("c")).unwrap();
    assert!(file.append(b"789").is_err());
    assert_eq!(found(&disk), "c=12345678");
}

#[test]
fn every_operation_fails_on_demand_and_then_works() {
    let run = |disk: &SimulatedDisk, operation| -> io::Result<()> {
        match operation {
            Operation::Create => drop(disk.create(&path("new"))?),
            Operation::CreateDirectory => disk.create_directory(&path("e"))?,
            Operation::Append => disk.open_end(&path("a"))?.append(b"56")?,
            Operation::Sync => disk.open_end(&path("a"))?.sync()?,
            Operation::Cut => disk.cut(&path("a"), 1)?,
            Operation::Overwrite => disk.overwrite(&path("a"), 0, b"78")?,
            Operation::Rename => disk.rename(&path("a"), &path("b"))?,
            Operation::Remove => disk.remove(&path("a"))?,
            Operation::RemoveDirectory => disk.remove_directory(Path::new("empty"))?,
            Operation::SyncDirectory => disk.sync_directory(Path::new("d"))?,
            Operation::Read => {
                disk.read(&path("a"))?;
                let reader = disk.open_read(&path("a"))?;
                reader.read_at(0, &mut [0; 2])?;
            }
        }
        Ok(())
    };
    for (operation, after_failure) in [
        (Operation::Create, "a=1234"),
        (Operation::CreateDirectory, "a=1234"),
        (Operation::Append, "a=12345"),
        (Operation::Sync, "a=1234"),
        (Operation::Cut, "a=1234"),
        (Operation::Overwrite, "a=7234"),
        (Operation::Rename, "a=1234"),
        (Operation::Remove, "a=1234"),
        (Operation::RemoveDirectory, "a=1234"),
        (Operation::SyncDirectory, "a=1234"),
        (Operation::Read, "a=1234"),
    ] {
        let disk = disk();
        disk.create_directory(Path::new("empty")).unwrap();
        write(&disk, "a", b"1234");
        disk.fail(operation, 2);
        assert!(run(&disk, operation).is_err(), "{operation:?}");
        assert_eq!(found(&disk), after_failure, "{operation:?}");
        assert!(run(&disk, operation).is_err(), "{operation:?}");
        run(&disk, operation).unwrap();
    }
    let disk = disk();
    write(&disk, "a", b"1234");
    let reader = disk.open_read(&path("a")).unwrap();
    disk.fail(Operation::Read, 1);
    assert!(reader.read_at(0, &mut [0; 2]).is_err());
    reader.read_at(0, &mut [0; 2]).unwrap();
}

/// So that a suite can look at millions of moments.
#[test]
fn copies_share_their_bytes() {
    let disk = disk();
    write_synced(&disk, "a", &vec![7; 1 << 20]);
    sync(&disk);
    let place = |disk: &SimulatedDisk| {
        let machine = disk.0.lock();
        let file = machine.medium.file(&path("a")).unwrap();
        machine.medium.contents(file).unwrap().bytes().as_ptr()
    };
    let copies = [
        disk.kill(),
        disk.restart(PowerCut::Keep),
        disk.restart(PowerCut::Drop),
        disk.restart(PowerCut::Tear { seed: 1 }),
    ];
    assert!(copies.iter().all(|copy| place(copy) == place(&disk)));
    let before = place(&disk);
    copies[0]
        .open_end(&path("a"))
        .unwrap()
        .append(b"8")
        .unwrap();
    assert_eq!(disk.length(&path("a")).unwrap(), 1 << 20);
    assert_eq!(copies[0].length(&path("a")).unwrap(), (1 << 20) + 1);
    assert_eq!(place(&disk), before);
}

#[test]
fn what_is_put_is_seen_by_whoever_has_the_file_open() {
    let disk = disk();
    write(&disk, "a", b"12");
    let reader = disk.open_read(&path("a")).unwrap();
    disk.put(&path("a"), b"34".to_vec());
    let mut bytes = [0; 2];
    reader.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"34");
    disk.put(Path::new("/x/y/z"), b"5".to_vec());
    let left = disk.restart(PowerCut::Drop);
    assert_eq!(found(&left), "a=34");
    assert_eq!(left.bytes(Path::new("/x/y/z")), Some(b"5".to_vec()));
}

#[test]
fn one_lock_at_a_time_and_only_of_what_is_there() {
    let disk = disk();
    let lock = disk.lock(Path::new("d")).unwrap();
    assert!(lock.is_some());
    assert!(disk.lock(Path::new("d")).unwrap().is_none());
    drop(lock);
    assert!(disk.lock(Path::new("d")).unwrap().is_some());
    assert!(disk.lock(Path::new("e")).is_err());
}
