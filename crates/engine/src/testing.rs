//! A disk in memory whose power can be cut after any step, which can run out of space, and whose syncs can fail.
//!
//! It forgets what a real one may forget: bytes that were not synced, names of files whose directory was not synced,
//! and, after a failed sync, what that sync should have saved, even if a later one succeeds.

use crate::disk::{Disk, DiskFile, DiskLock, parent_of};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Clones share one disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<Medium>>);

/// What a power cut does to bytes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerCut {
    /// All of them happen to be there.
    Keep,
    /// None is.
    Drop,
    /// Some are, at the choice of the seed: cut short, or with holes of zeros or rubbish.
    Tear { seed: u64 },
}

#[derive(Clone, Debug, Default)]
struct Medium {
    /// Whether the name is durable.
    directories: BTreeMap<PathBuf, bool>,
    files: BTreeMap<PathBuf, SimulatedFile>,
    locked: BTreeSet<PathBuf>,
    steps: u64,
    /// The step during which the power goes.
    power_cut_at: Option<u64>,
    powered_off: bool,
    space_bytes: Option<u64>,
    failing_syncs: u64,
    failing_cuts: u64,
    broken: bool,
}

#[derive(Clone, Debug, Default)]
struct SimulatedFile {
    /// What reads see.
    live: Vec<u8>,
    /// What is surely on the medium.
    durable: Vec<u8>,
    /// Of `live`: what a failed sync dropped without being asked again.
    lost: Vec<Range<usize>>,
    name_is_durable: bool,
    /// Removed, but the directory was not synced since.
    removed: bool,
}

impl SimulatedDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps so far: each write, sync, creation, cut or removal is one.
    pub fn steps(&self) -> u64 {
        self.0.lock().steps
    }

    /// From step `step` on, counted from 0, nothing works any more; whether that step itself still had an effect is
    /// for [`Self::restart`] to choose.
    pub fn cut_power_at(&self, step: u64) {
        self.0.lock().power_cut_at = Some(step);
    }

    /// Leaves room for so many more bytes; `None` for no limit.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.0.lock().space_bytes = bytes;
    }

    /// Lets the next `count` syncs of files fail.
    pub fn fail_syncs(&self, count: u64) {
        self.0.lock().failing_syncs = count;
    }

    /// Lets the next `count` cuts of files fail.
    pub fn fail_cuts(&self, count: u64) {
        self.0.lock().failing_cuts = count;
    }

    /// From now on every step panics, as a mistake in the code would.
    pub fn break_down(&self) {
        self.0.lock().broken = true;
    }

    /// The disk as the next start finds it after the process was killed: all that was written can be read, and what
    /// is safe from a power cut is what was before.
    #[must_use]
    pub fn kill(&self) -> Self {
        let medium = self.0.lock();
        Self(Arc::new(Mutex::new(Medium {
            directories: medium.directories.clone(),
            files: medium.files.clone(),
            ..Medium::default()
        })))
    }

    /// The disk as the next start finds it after a power cut. The old one goes on for whoever still holds it.
    #[must_use]
    pub fn restart(&self, cut: PowerCut) -> Self {
        let medium = self.0.lock();
        let mut random = Random(match cut {
            PowerCut::Tear { seed } => seed,
            PowerCut::Keep | PowerCut::Drop => 0,
        });
        let mut next = Medium {
            ..Medium::default()
        };
        // Parents come before what is in them.
        for (path, durable) in &medium.directories {
            let kept = *durable
                || match cut {
                    PowerCut::Keep => true,
                    PowerCut::Drop => false,
                    PowerCut::Tear { .. } => random.coin(),
                };
            if kept && next.has_parent(path) {
                next.directories.insert(path.clone(), true);
            }
        }
        let there = (medium.files.iter()).filter(|(path, _)| next.has_parent(path));
        for (path, file) in there.collect::<Vec<_>>() {
            let kept = match cut {
                PowerCut::Keep => !file.removed,
                PowerCut::Drop => file.name_is_durable,
                PowerCut::Tear { .. } if file.removed || !file.name_is_durable => random.coin(),
                PowerCut::Tear { .. } => true,
            };
            if kept {
                let bytes = file.after(cut, &mut random);
                next.files.insert(path.clone(), SimulatedFile::safe(bytes));
            }
        }
        Self(Arc::new(Mutex::new(next)))
    }

    /// Bytes of a file as reads see them.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let medium = self.0.lock();
        medium
            .files
            .get(path)
            .filter(|file| !file.removed)
            .map(|file| file.live.clone())
    }

    /// Puts bytes on the disk behind everybody's back.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut medium = self.0.lock();
        for directory in path.ancestors().skip(1) {
            medium.directories.insert(directory.to_owned(), true);
        }
        medium
            .files
            .insert(path.to_owned(), SimulatedFile::safe(bytes));
    }
}

impl SimulatedFile {
    fn safe(bytes: Vec<u8>) -> Self {
        Self {
            live: bytes.clone(),
            durable: bytes,
            lost: Vec::new(),
            name_is_durable: true,
            removed: false,
        }
    }

    /// What a sync brings to the medium: holes where bytes were lost.
    fn synced(&self) -> Vec<u8> {
        let mut bytes = self.live.clone();
        for range in &self.lost {
            if let Some(hole) = bytes.get_mut(range.clone()) {
                hole.fill(0);
            }
        }
        bytes
    }

    fn after(&self, cut: PowerCut, random: &mut Random) -> Vec<u8> {
        match cut {
            PowerCut::Keep => self.synced(),
            PowerCut::Drop => self.durable.clone(),
            PowerCut::Tear { .. } => {
                let synced = self.synced();
                match synced.strip_prefix(self.durable.as_slice()) {
                    Some(tail) => [self.durable.clone(), torn(tail, random)].concat(),
                    // It was cut or rewritten: either state may be the one that is found.
                    None if random.coin() => synced,
                    None => self.durable.clone(),
                }
            }
        }
    }
}

/// Bytes of one torn piece: small, so that short tests tear too.
const SECTOR_BYTES: usize = 32;

fn torn(tail: &[u8], random: &mut Random) -> Vec<u8> {
    let length = random.below(tail.len() + 1);
    let mut bytes: Vec<u8> = tail.iter().copied().take(length).collect();
    for sector in bytes.chunks_mut(SECTOR_BYTES) {
        match random.below(4) {
            0 => sector.fill(0),
            1 => sector.iter_mut().for_each(|byte| *byte ^= random.byte()),
            _ => {}
        }
    }
    bytes
}

/// A small generator (splitmix64): the same seed tears the same way everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        let [low, ..] = self.next().to_le_bytes();
        low
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

impl Medium {
    /// Whether the step that begins now has an effect; `Err` once the power is off.
    fn step(&mut self) -> io::Result<StepEffect> {
        assert!(!self.broken, "the disk was told to panic");
        if self.powered_off {
            return Err(no_power());
        }
        let effect = if self.power_cut_at == Some(self.steps) {
            self.powered_off = true;
            StepEffect::LastWords
        } else {
            StepEffect::Whole
        };
        self.steps += 1;
        Ok(effect)
    }

    fn has_parent(&self, path: &Path) -> bool {
        parent_of(path).is_none_or(|parent| {
            parent == Path::new(".")
                || parent == Path::new("/")
                || self.directories.contains_key(parent)
        })
    }

    fn file(&mut self, path: &Path) -> io::Result<&mut SimulatedFile> {
        let file = self.files.get_mut(path).filter(|file| !file.removed);
        file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered_off {
            Err(no_power())
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum StepEffect {
    Whole,
    /// The power goes during this step: writes get as far as the cache, syncs do not happen, nobody hears of it.
    LastWords,
}

impl StepEffect {
    fn answer(self) -> io::Result<()> {
        match self {
            Self::Whole => Ok(()),
            Self::LastWords => Err(no_power()),
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for SimulatedDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.lock();
        let effect = medium.step()?;
        if medium.directories.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !medium.has_parent(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        medium.directories.insert(path.to_owned(), false);
        effect.answer()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut medium = self.0.lock();
        medium.powered()?;
        if !medium.locked.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimulatedLock {
            disk: self.clone(),
            path: path.to_owned(),
        })))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let medium = self.0.lock();
        medium.powered()?;
        if !medium.directories.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(medium
            .files
            .iter()
            .filter(|(file, state)| file.parent() == Some(path) && !state.removed)
            .filter_map(|(file, _)| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(u64::try_from(self.read(path)?.len()).unwrap_or(u64::MAX))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut medium = self.0.lock();
        medium.powered()?;
        Ok(medium.file(path)?.live.clone())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut medium = self.0.lock();
        let effect = medium.step()?;
        match medium.files.get_mut(path) {
            Some(file) if !file.removed => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(file) => {
                file.removed = false;
                file.live.clear();
                file.lost.clear();
            }
            None => {
                medium
                    .files
                    .insert(path.to_owned(), SimulatedFile::default());
            }
        }
        effect.answer()?;
        Ok(self.handle(path))
    }

    fn open_end(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut medium = self.0.lock();
        medium.powered()?;
        medium.file(path)?;
        Ok(self.handle(path))
    }

    fn cut(&self, path: &Path, length: u64) -> io::Result<()> {
        let mut medium = self.0.lock();
        let effect = medium.step()?;
        if medium.failing_cuts > 0 {
            medium.failing_cuts -= 1;
            return Err(io::Error::other("the disk did not cut it"));
        }
        let file = medium.file(path)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        file.live.truncate(length);
        file.lost.retain_mut(|range| {
            range.end = range.end.min(length);
            range.start < range.end
        });
        effect.answer()?;
        file.durable = file.synced();
        Ok(())
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut medium = self.0.lock();
        let effect = medium.step()?;
        let file = medium.file(path)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes.len());
        let Some(place) = file.live.get_mut(start..end) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        place.copy_from_slice(bytes);
        effect.answer()?;
        // Written again, so that a sync saves it after all.
        let lost = std::mem::take(&mut file.lost);
        file.lost = (lost.into_iter())
            .flat_map(|range| {
                [
                    range.start..range.end.min(start),
                    range.start.max(end)..range.end,
                ]
            })
            .filter(|range| !range.is_empty())
            .collect();
        file.durable = file.synced();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.lock();
        let effect = medium.step()?;
        medium.file(path)?.removed = true;
        effect.answer()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.lock();
        medium.step()?.answer()?;
        medium
            .files
            .retain(|file, state| file.parent() != Some(path) || !state.removed);
        for (file, state) in &mut medium.files {
            if file.parent() == Some(path) {
                state.name_is_durable = true;
            }
        }
        for (directory, durable) in &mut medium.directories {
            *durable |= parent_of(directory) == Some(path);
        }
        Ok(())
    }
}

impl SimulatedDisk {
    fn handle(&self, path: &Path) -> Box<dyn DiskFile> {
        Box::new(SimulatedHandle {
            disk: self.clone(),
            path: path.to_owned(),
        })
    }
}

#[derive(Debug)]
struct SimulatedHandle {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl DiskFile for SimulatedHandle {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut medium = self.disk.0.lock();
        let effect = medium.step()?;
        let space = medium.space_bytes.unwrap_or(u64::MAX);
        let fits = usize::try_from(space)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let written = bytes.get(..fits).unwrap_or(bytes);
        medium.file(&self.path)?.live.extend_from_slice(written);
        effect.answer()?;
        if let Some(space) = medium.space_bytes.as_mut() {
            *space = space.saturating_sub(u64::try_from(fits).unwrap_or(u64::MAX));
        }
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut medium = self.disk.0.lock();
        medium.step()?.answer()?;
        let fails = medium.failing_syncs > 0;
        medium.failing_syncs = medium.failing_syncs.saturating_sub(1);
        let file = medium.file(&self.path)?;
        if fails {
            file.lost.push(file.durable.len()..file.live.len());
            return Err(io::Error::other("the disk did not take it"));
        }
        file.durable = file.synced();
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
