//! A disk to which something happens at one step.

use meterd_engine::testing::{Operation, SimulatedDisk};
use meterd_engine::{Disk, DiskFile, DiskLock, DiskReader};
use std::io;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub(super) enum Mishap {
    PowerCut,
    /// So many operations of a kind fail, the first at the step or after it.
    Fails(Operation, u64),
    /// The step itself fails, and so many more of its kind.
    StepFails(u64),
    /// From the step on there is room for so many bytes more.
    NoSpace(u64),
}

/// The simulated disk, watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    disk: SimulatedDisk,
    step: u64,
    mishap: Mishap,
}

impl Watched {
    pub(super) fn new(disk: &SimulatedDisk, step: u64, mishap: Mishap) -> Self {
        if matches!(mishap, Mishap::PowerCut) {
            disk.cut_power_at(step);
        }
        Self {
            disk: disk.clone(),
            step,
            mishap,
        }
    }

    fn step(&self, operation: Operation) -> &SimulatedDisk {
        if self.disk.steps() == self.step {
            match self.mishap {
                Mishap::PowerCut => {}
                Mishap::Fails(operation, count) => self.disk.fail(operation, count),
                Mishap::StepFails(count) => self.disk.fail(operation, count),
                Mishap::NoSpace(bytes) => self.disk.set_space(Some(bytes)),
            }
        }
        &self.disk
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(WatchedFile {
            file,
            disk: self.clone(),
        })
    }
}

impl Disk for Watched {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.step(Operation::CreateDirectory).create_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.lock(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        self.disk.length(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>> {
        self.disk.open_read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.step(Operation::Create).create(path)?;
        Ok(self.file(file))
    }

    fn open_end(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.file(self.disk.open_end(path)?))
    }

    fn cut(&self, path: &Path, length: u64) -> io::Result<()> {
        self.step(Operation::Cut).cut(path, length)
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(Operation::Overwrite)
            .overwrite(path, offset, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(Operation::Remove).remove(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.step(Operation::RemoveDirectory).remove_directory(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Operation::Rename).rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.step(Operation::SyncDirectory).sync_directory(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Box<dyn DiskFile>,
    disk: Watched,
}

impl DiskFile for WatchedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.step(Operation::Append);
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.step(Operation::Sync);
        self.file.sync()
    }
}
