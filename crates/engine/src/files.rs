//! The files of segments: opened when they are read, so that few are open at once, and removed when nobody can read them
//! any more.

use crate::disk::{Disk, DiskReader};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All files of one directory that are read now and then.
#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    /// Most files that stay open; those being read come on top.
    open_max: usize,
    held: Mutex<Held>,
    garbage: Mutex<Garbage>,
}

#[derive(Debug, Default)]
struct Held {
    /// By path; whether the file goes when it is let go of.
    obsolete: HashMap<Arc<Path>, bool>,
    open: HashMap<Arc<Path>, Open>,
    uses: u64,
}

#[derive(Debug)]
struct Open {
    reader: Arc<dyn DiskReader>,
    last_use: u64,
}

/// Files of attempts that failed, and those that could not be removed.
#[derive(Debug, Default)]
struct Garbage {
    paths: Vec<PathBuf>,
    /// Files of manifests that were written so that nobody knows whether a restart finds them.
    doubtful: Vec<PathBuf>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, open_max: usize) -> Self {
        Self {
            disk,
            open_max,
            held: Mutex::default(),
            garbage: Mutex::default(),
        }
    }

    /// A file to be read as often as one likes, which should have so many bytes.
    pub(crate) fn hold(self: &Arc<Self>, path: &Path) -> io::Result<HeldFile> {
        let length = self.disk.length(path)?;
        let path: Arc<Path> = path.into();
        (self.held.lock().obsolete).insert(Arc::clone(&path), false);
        Ok(HeldFile {
            files: Arc::clone(self),
            path,
            length,
        })
    }

    /// A manifest is in use that names none of these, nor those of attempts that failed: all of them go, those that are
    /// held with the last who holds them.
    pub(crate) fn remove(&self, paths: Vec<PathBuf>) {
        let mut garbage = self.garbage.lock();
        let mut settled = std::mem::take(&mut garbage.doubtful);
        garbage.paths.append(&mut settled);
        let mut held = self.held.lock();
        for path in paths {
            match held.obsolete.get_mut(path.as_path()) {
                Some(obsolete) => *obsolete = true,
                None => garbage.paths.push(path),
            }
        }
        drop(held);
        self.sweep(&mut garbage);
    }

    /// Removes files of an attempt that failed: at once, since they may be what fills the disk.
    pub(crate) fn discard(&self, paths: impl IntoIterator<Item = PathBuf>) {
        let mut garbage = self.garbage.lock();
        garbage.paths.extend(paths);
        self.sweep(&mut garbage);
    }

    /// Keeps files of an attempt that failed until the next commit: a restart may find the manifest that names them.
    pub(crate) fn doubt(&self, paths: Vec<PathBuf>) {
        self.garbage.lock().doubtful.extend(paths);
    }

    /// What cannot be removed is tried again with the next, and at the latest the next start does it.
    fn sweep(&self, garbage: &mut Garbage) {
        garbage.paths.retain(|path| match self.disk.remove(path) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
    }

    fn reader(&self, file: &HeldFile) -> io::Result<Arc<dyn DiskReader>> {
        if let Some(reader) = self.held.lock().opened(&file.path) {
            return Ok(reader);
        }
        // Two threads may both open it; one of the two is kept.
        let reader = self.disk.open_read(&file.path)?;
        if reader.length() != file.length {
            let what = "the file is not as long as it was";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let closed = (self.held.lock()).keep_open(&file.path, &reader, self.open_max);
        drop(closed);
        Ok(reader)
    }
}

impl Held {
    fn opened(&mut self, path: &Path) -> Option<Arc<dyn DiskReader>> {
        self.uses += 1;
        let open = self.open.get_mut(path)?;
        open.last_use = self.uses;
        Some(Arc::clone(&open.reader))
    }

    /// Answers what is not kept open in its place.
    fn keep_open(
        &mut self,
        path: &Arc<Path>,
        reader: &Arc<dyn DiskReader>,
        max: usize,
    ) -> Option<Open> {
        let open = Open {
            reader: Arc::clone(reader),
            last_use: self.uses,
        };
        let before = self.open.insert(Arc::clone(path), open);
        if self.open.len() <= max {
            return before;
        }
        // Opening costs more than looking at all of them.
        let oldest = self.open.iter().min_by_key(|(_, open)| open.last_use);
        let oldest = oldest.map(|(path, _)| Arc::clone(path))?;
        self.open.remove(&oldest)
    }
}

/// A file that stays readable while this is held, even if nobody needs it any more.
#[derive(Debug)]
pub(crate) struct HeldFile {
    files: Arc<Files>,
    path: Arc<Path>,
    length: u64,
}

impl DiskReader for HeldFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.files.reader(self)?.read_at(offset, bytes)
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        let mut held = self.files.held.lock();
        let open = held.open.remove(&self.path);
        let is_obsolete = held.obsolete.remove(&self.path).unwrap_or(false);
        drop(held);
        drop(open);
        if is_obsolete {
            self.files.discard([self.path.to_path_buf()]);
            // It may have been the last of its directory. If not, nothing happens.
            let directory = self.path.parent();
            let _ = directory.map(|directory| self.files.disk.remove_directory(directory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::create_directories;
    use crate::testing::SimulatedDisk;

    const DIRECTORY: &str = "data/month";

    fn path(n: u8) -> PathBuf {
        Path::new(DIRECTORY).join(n.to_string())
    }

    fn files(open_max: usize, count: u8) -> (SimulatedDisk, Arc<Files>, Vec<HeldFile>) {
        let disk = SimulatedDisk::new();
        create_directories(&disk, Path::new(DIRECTORY)).unwrap();
        let files = Arc::new(Files::new(Arc::new(disk.clone()), open_max));
        let held = (0..count).map(|n| {
            disk.put(&path(n), vec![n; 3]);
            files.hold(&path(n)).unwrap()
        });
        let held = held.collect();
        (disk, files, held)
    }

    fn read(file: &HeldFile) -> io::Result<u8> {
        let mut byte = [0];
        file.read_at(2, &mut byte).map(|()| byte[0])
    }

    #[test]
    fn those_read_last_stay_open() {
        let (disk, files, held) = files(2, 5);
        for n in [0, 1, 2, 3, 2, 4] {
            assert_eq!(read(&held[usize::from(n)]).unwrap(), n);
            assert!(files.held.lock().open.len() <= 2);
        }
        // What is open needs no name; the others do.
        for n in 0..5 {
            disk.remove(&path(n)).unwrap();
        }
        let readable = held.iter().map(|file| read(file).is_ok());
        assert!(readable.eq([false, false, true, false, true]));
    }

    #[test]
    fn a_file_goes_with_the_last_who_can_read_it() {
        let (disk, files, mut held) = files(1, 3);
        files.remove(vec![path(0), path(1)]);
        assert_eq!(disk.list(Path::new(DIRECTORY)).unwrap().len(), 3);
        assert_eq!(read(&held[0]).unwrap(), 0);
        assert_eq!(read(&held[1]).unwrap(), 1);
        held.remove(0);
        assert!(disk.length(&path(0)).is_err());
        assert_eq!(read(&held[0]).unwrap(), 1);
        // The other one is still needed, whoever reads it.
        held.clear();
        assert_eq!(disk.list(Path::new(DIRECTORY)).unwrap(), ["2"]);
        files.remove(vec![path(2)]);
        assert!(disk.list(Path::new(DIRECTORY)).unwrap().is_empty());
    }

    #[test]
    fn the_directory_of_the_last_file_goes_with_it() {
        let (disk, files, held) = files(1, 2);
        files.remove(vec![path(0), path(1)]);
        drop(held);
        assert!(disk.list(Path::new("data")).unwrap().is_empty());
    }
}
