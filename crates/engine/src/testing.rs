//! A disk in memory whose power can be cut after any step, which can run out of space, and whose operations can fail.
//!
//! It forgets what a real one may forget: bytes that were not synced, changes of names whose directory was not synced,
//! each by itself, and, after a failed sync, what that sync should have saved, even if a later one succeeds.

mod medium;
#[cfg(test)]
mod tests;

use crate::disk::{Disk, DiskFile, DiskLock, DiskReader};
use medium::{Inode, Medium};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

/// Clones share one disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<Machine>>);

/// What a power cut does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// All of it happens to be there.
    Keep,
    /// None is.
    Drop,
    /// Some is, at the choice of the seed: bytes cut short, or with holes of zeros or rubbish; of the changes of
    /// names in a directory any, in no order. A rename leaves the new name, the old one, or both, and under the new
    /// one what was there or what was renamed, with such of its contents as were synced.
    Tear { seed: u64 },
}

/// What a disk can be told to fail at. Each but `Read` is a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Create,
    CreateDirectory,
    /// Half of the bytes are written.
    Append,
    /// What was not synced is lost, and no later sync saves it.
    Sync,
    /// Nothing is cut.
    Cut,
    /// Half of the bytes are written, and none synced.
    Overwrite,
    Rename,
    Remove,
    RemoveDirectory,
    SyncDirectory,
    /// Opening to read, and reading, wholly or in part.
    Read,
}

impl SimulatedDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps so far: each operation that changes or syncs something is one, also one that fails.
    pub fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    /// From step `step` on, counted from 0, nothing works any more; whether that step itself still had an effect is
    /// for [`Self::restart`] to choose.
    pub fn cut_power_at(&self, step: u64) {
        self.0.lock().power_cut_at = Some(step);
    }

    /// Leaves room for so many more bytes; `None` for no limit. What is removed, replaced or cut off gives its room
    /// back.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.0.lock().space_bytes = bytes;
    }

    /// Lets the next `count` operations of a kind fail; 0 for none.
    pub fn fail(&self, operation: Operation, count: u64) {
        self.0.lock().failing.insert(operation, count);
    }

    /// From now on every step panics, as a mistake in the code would.
    pub fn break_down(&self) {
        self.0.lock().broken = true;
    }

    /// The disk as the next start finds it after the process was killed: all that was written can be read, and what
    /// is safe from a power cut is what was before. Costs no more than the number of files, as [`Self::restart`] does
    /// but for files that are not synced.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut medium = self.0.lock().medium.clone();
        medium.sweep(std::iter::empty());
        Self::starting(medium)
    }

    /// The disk as the next start finds it after a power cut. The old one goes on for whoever still holds it.
    #[must_use]
    pub fn restart(&self, cut: PowerCut) -> Self {
        Self::starting(self.0.lock().medium.after(cut))
    }

    /// Bytes of a file as reads see them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let machine = self.0.lock();
        let file = machine.medium.file(path).ok()?;
        Some(machine.medium.contents(file).ok()?.bytes().to_vec())
    }

    /// Puts bytes on the disk behind everybody's back: whoever has the file open sees them too.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let put = self.0.lock().medium.put(path, bytes);
        assert!(put.is_ok(), "{}: {put:?}", path.display());
    }

    fn starting(medium: Medium) -> Self {
        Self(Arc::new(Mutex::new(Machine {
            medium,
            ..Machine::default()
        })))
    }

    fn open(&self, machine: &mut Machine, inode: Inode) -> Handle {
        let open = machine.open.entry(inode).or_default();
        let token = open.upgrade().unwrap_or_default();
        *open = Arc::downgrade(&token);
        Handle {
            disk: self.clone(),
            inode,
            _open: token,
        }
    }
}

/// The medium, and what befalls it until the next start.
#[derive(Debug, Default)]
struct Machine {
    medium: Medium,
    /// Files that somebody has open, and maybe some that nobody has any more.
    open: BTreeMap<Inode, Weak<()>>,
    locked: BTreeSet<PathBuf>,
    steps: u64,
    /// The step during which the power goes.
    power_cut_at: Option<u64>,
    powered_off: bool,
    space_bytes: Option<u64>,
    failing: BTreeMap<Operation, u64>,
    broken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Whole,
    /// The power goes during this step: writes get as far as the cache, syncs do not happen, nobody hears of it.
    LastWords,
    /// It was told to fail.
    Fails,
}

impl Effect {
    fn answer(self) -> io::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::LastWords => Err(no_power()),
            Self::Fails => Err(io::Error::other("the disk was told to fail")),
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl Machine {
    /// What the step that begins now is to do; `Err` once the power is off.
    fn begin(&mut self, operation: Operation) -> io::Result<Effect> {
        assert!(!self.broken, "the disk was told to panic");
        self.powered()?;
        let step = self.steps;
        self.steps += 1;
        if self.power_cut_at == Some(step) {
            self.powered_off = true;
            Ok(Effect::LastWords)
        } else if self.fails(operation) {
            Ok(Effect::Fails)
        } else {
            Ok(Effect::Whole)
        }
    }

    /// Begins a step that does nothing when it is told to fail.
    fn step(&mut self, operation: Operation) -> io::Result<Effect> {
        let effect = self.begin(operation)?;
        if effect == Effect::Fails {
            effect.answer()?;
        }
        Ok(effect)
    }

    fn begin_read(&mut self) -> io::Result<()> {
        self.powered()?;
        if self.fails(Operation::Read) {
            Effect::Fails.answer()?;
        }
        Ok(())
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered_off {
            Err(no_power())
        } else {
            Ok(())
        }
    }

    fn fails(&mut self, operation: Operation) -> bool {
        match self.failing.get_mut(&operation) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }

    fn give_space_back(&mut self, bytes: usize) {
        if let Some(space) = self.space_bytes.as_mut() {
            *space = space.saturating_add(count(bytes));
        }
    }
}

impl Disk for SimulatedDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.0.lock();
        let effect = machine.step(Operation::CreateDirectory)?;
        machine.medium.create_directory(path)?;
        effect.answer()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut machine = self.0.lock();
        machine.powered()?;
        machine.medium.list(path)?;
        if !machine.locked.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimulatedLock {
            disk: self.clone(),
            path: path.to_owned(),
        })))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let machine = self.0.lock();
        machine.powered()?;
        machine.medium.list(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        let machine = self.0.lock();
        machine.powered()?;
        let file = machine.medium.file(path)?;
        Ok(count(machine.medium.contents(file)?.bytes().len()))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut machine = self.0.lock();
        machine.begin_read()?;
        let file = machine.medium.file(path)?;
        Ok(machine.medium.contents(file)?.bytes().to_vec())
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>> {
        let mut machine = self.0.lock();
        machine.begin_read()?;
        let file = machine.medium.file(path)?;
        let length = count(machine.medium.contents(file)?.bytes().len());
        let file = self.open(&mut machine, file);
        Ok(Arc::new(SimulatedReader { file, length }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut machine = self.0.lock();
        let effect = machine.step(Operation::Create)?;
        let file = machine.medium.create(path)?;
        effect.answer()?;
        Ok(Box::new(self.open(&mut machine, file)))
    }

    fn open_end(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut machine = self.0.lock();
        machine.powered()?;
        let file = machine.medium.file(path)?;
        Ok(Box::new(self.open(&mut machine, file)))
    }

    fn cut(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut machine = self.0.lock();
        let effect = machine.step(Operation::Cut)?;
        let file = machine.medium.file(path)?;
        let contents = machine.medium.contents_mut(file)?;
        let freed = contents.cut(usize::try_from(length).unwrap_or(usize::MAX));
        effect.answer()?;
        contents.sync();
        machine.give_space_back(freed);
        Ok(())
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.0.lock();
        let effect = machine.begin(Operation::Overwrite)?;
        let file = machine.medium.file(path)?;
        let contents = machine.medium.contents_mut(file)?;
        let bytes = match effect {
            Effect::Fails => half(bytes),
            Effect::Whole | Effect::LastWords => bytes,
        };
        let place = range(offset, bytes.len());
        contents.overwrite(place.clone(), bytes)?;
        effect.answer()?;
        contents.rewritten(&place);
        contents.sync();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.0.lock();
        let effect = machine.step(Operation::Remove)?;
        let freed = machine.medium.remove(path)?;
        machine.give_space_back(freed);
        effect.answer()
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.0.lock();
        let effect = machine.step(Operation::RemoveDirectory)?;
        machine.medium.remove_directory(path)?;
        effect.answer()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.0.lock();
        let effect = machine.step(Operation::Rename)?;
        let freed = machine.medium.rename(from, to)?;
        machine.give_space_back(freed);
        effect.answer()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.0.lock();
        machine.step(Operation::SyncDirectory)?.answer()?;
        let Machine { medium, open, .. } = &mut *machine;
        if medium.sync_directory(path)? {
            open.retain(|_, handles| handles.strong_count() > 0);
            medium.sweep(open.keys().copied());
        }
        Ok(())
    }
}

/// An open file, whatever becomes of its name.
#[derive(Debug)]
struct Handle {
    disk: SimulatedDisk,
    inode: Inode,
    _open: Arc<()>,
}

impl DiskFile for Handle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.disk.0.lock();
        let effect = machine.begin(Operation::Append)?;
        let space = machine.space_bytes.unwrap_or(u64::MAX);
        let space = usize::try_from(space).unwrap_or(usize::MAX);
        let wanted = match effect {
            Effect::Fails => half(bytes),
            Effect::Whole | Effect::LastWords => bytes,
        };
        let written = wanted.get(..space).unwrap_or(wanted);
        machine.medium.contents_mut(self.inode)?.append(written);
        if let Some(space) = machine.space_bytes.as_mut() {
            *space = space.saturating_sub(count(written.len()));
        }
        effect.answer()?;
        if written.len() < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut machine = self.disk.0.lock();
        let effect = machine.begin(Operation::Sync)?;
        let contents = machine.medium.contents_mut(self.inode)?;
        match effect {
            Effect::Whole => contents.sync(),
            Effect::LastWords => {}
            Effect::Fails => contents.lose(),
        }
        effect.answer()
    }
}

#[derive(Debug)]
struct SimulatedReader {
    file: Handle,
    length: u64,
}

impl DiskReader for SimulatedReader {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut machine = self.file.disk.0.lock();
        machine.begin_read()?;
        let contents = machine.medium.contents(self.file.inode)?;
        let part = contents.bytes().get(range(offset, bytes.len()));
        bytes.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl DiskLock for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.0.lock().locked.remove(&self.path);
    }
}

fn range(offset: u64, length: usize) -> Range<usize> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    start..start.saturating_add(length)
}

fn half(bytes: &[u8]) -> &[u8] {
    bytes.get(..bytes.len() / 2).unwrap_or(bytes)
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
