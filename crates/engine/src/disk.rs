//! The disk as the engine sees it: a few operations, each of which a test can make fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// A file system. What is written is safe from a power cut only once it is synced, and a new file only once its
/// directory is.
pub trait Disk: Debug + Send + Sync {
    /// A new directory in one that is there; an error if there is something of that name.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock of a directory until the answer is dropped; `None` if another process, or another engine of
    /// this one, holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;

    /// Names of the files in a directory, in no order; an error if there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    fn length(&self, path: &Path) -> io::Result<u64>;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// A new, empty file; an error if there is one of that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file to write at its end.
    fn open_end(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Cuts a file to `length` bytes and syncs it, through a handle of its own.
    fn cut(&self, path: &Path, length: u64) -> io::Result<()>;

    /// Writes over bytes that a file has, and syncs it, through a handle of its own.
    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file that only grows.
pub trait DiskFile: Debug + Send {
    /// Writes at the end. After an error any part of `bytes` may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// After an error nothing is known of what was written since the last sync, and asking again would not tell:
    /// the system may have dropped it.
    fn sync(&mut self) -> io::Result<()>;
}

/// Creates a directory and all that is missing above it, each durable before the next is made in it.
pub(crate) fn create_directories(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let Some(parent) = parent_of(path) else {
        return Ok(());
    };
    match disk.create_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_directories(disk, parent)?;
            disk.create_directory(path)?;
        }
        // Also when it was there: whoever made it may not have come to this.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    disk.sync_directory(parent)
}

/// The directory that holds a path; `None` if nothing does.
pub(crate) fn parent_of(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    })
}

/// Held while a directory is in use.
pub trait DiskLock: Debug + Send + Sync {}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(SystemLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(SystemFile(file)))
    }

    fn open_end(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Box::new(SystemFile(file)))
    }

    fn cut(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[derive(Debug)]
struct SystemFile(File);

impl DiskFile for SystemFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// The system gives the lock back when the file is closed, also when the process is killed.
#[derive(Debug)]
struct SystemLock {
    _file: File,
}

impl DiskLock for SystemLock {}
