//! The disk as the engine sees it: a few operations, each of which a test can make fail.

use hashbrown::HashSet;
use std::cell::RefCell;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system. What is written is safe from a power cut only once it is synced, and a new file only once its
/// directory is.
pub trait Disk: Debug + Send + Sync {
    /// A new directory in one that is there; an error if there is something of that name.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock of a directory until the answer is dropped; `None` if another process, or another engine of
    /// this one, holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;

    /// Names of all that is in a directory, in no order; an error if there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    fn length(&self, path: &Path) -> io::Result<u64>;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Opens an existing file to read parts of it. It stays readable after its name was removed or given to another.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>>;

    /// A new, empty file; an error if there is one of that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file to write at its end.
    fn open_end(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Cuts a file to `length` bytes and syncs it, through a handle of its own.
    fn cut(&self, path: &Path, length: u64) -> io::Result<()>;

    /// Writes over bytes that a file has, and syncs it, through a handle of its own.
    fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory; an error if there is anything in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in the same directory, in place of the file that had it, if any. It is durable once
    /// the directory is synced; a power cut before may leave the new name with its old file or with the new one, but
    /// never with none, and the old name gone or not. What is in the file must be synced before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file that is read in parts, by many at once.
pub trait DiskReader: Debug + Send + Sync {
    /// Bytes that the file had when it was opened.
    fn length(&self) -> u64;

    /// Fills `bytes` from `offset` on; an error if the file ends before.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
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
///
/// Those that are there are synced too: whoever made them may not have come to that.
pub(crate) fn create_directories(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let Some(parent) = parent_of(path).filter(|parent| *parent != path) else {
        return Ok(());
    };
    create_directories(disk, parent)?;
    let is_new = create_directory(disk, path)?;
    match disk.sync_directory(parent) {
        Err(error) if !is_new && is_not_ours(&error) => Ok(()),
        other => other,
    }
}

/// The same below a directory that is there and durable, for many files one after the other: each is made and synced
/// once.
#[derive(Debug)]
pub(crate) struct Directories<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) root: &'a Path,
    durable: RefCell<HashSet<PathBuf>>,
}

impl<'a> Directories<'a> {
    pub(crate) fn below(disk: &'a dyn Disk, root: &'a Path) -> Self {
        Self {
            disk,
            root,
            durable: RefCell::default(),
        }
    }

    /// A new, empty file in a directory below.
    pub(crate) fn create_file(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let Some(parent) = parent_of(path) else {
            return self.disk.create(path);
        };
        self.create(parent)?;
        match self.disk.create(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Whoever removed the last file in it took the directory along, before the new one was there.
                self.durable.borrow_mut().remove(parent);
                self.create(parent)?;
                self.disk.create(path)
            }
            other => other,
        }
    }

    fn create(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = parent_of(path).filter(|_| path != self.root) else {
            return Ok(());
        };
        if self.durable.borrow().contains(path) {
            return Ok(());
        }
        self.create(parent)?;
        create_directory(self.disk, path)?;
        self.disk.sync_directory(parent)?;
        self.durable.borrow_mut().insert(path.to_owned());
        Ok(())
    }
}

/// Whether it was not there.
fn create_directory(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.create_directory(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Of a sync of a directory far up, such as the root of a system that may only be read: then nobody made anything there.
fn is_not_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{
        InvalidInput, NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported,
    };
    matches!(
        error.kind(),
        PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported | NotFound
    )
}

/// Whether an operation failed for want of space.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
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

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Arc::new(SystemReader { file, length }))
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

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

#[derive(Debug)]
struct SystemReader {
    file: File,
    length: u64,
}

impl DiskReader for SystemReader {
    fn length(&self) -> u64 {
        self.length
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let read = std::os::windows::fs::FileExt::seek_read(&self.file, bytes, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += u64::try_from(read).map_err(io::Error::other)?;
            bytes = bytes.get_mut(read..).unwrap_or_default();
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SimulatedDisk;

    /// What is true of every disk.
    fn behaves(disk: &dyn Disk, root: &Path) {
        let kind = |error: io::Error| error.kind();
        let directory = root.join("a/b");
        create_directories(disk, &directory).unwrap();
        create_directories(disk, &directory).unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.join(name));
        assert_eq!(
            disk.length(&one).map_err(kind),
            Err(io::ErrorKind::NotFound)
        );
        let mut file = disk.create(&one).unwrap();
        let again = disk.create(&one).map(drop).map_err(kind);
        assert_eq!(again, Err(io::ErrorKind::AlreadyExists));
        file.append(b"123456").unwrap();
        file.sync().unwrap();
        disk.cut(&one, 4).unwrap();
        file.append(b"7").unwrap();
        disk.overwrite(&one, 1, b"89").unwrap();
        assert_eq!(disk.read(&one).unwrap(), b"18947");

        let reader = disk.open_read(&one).unwrap();
        let mut other = disk.create(&two).unwrap();
        other.append(b"other").unwrap();
        disk.rename(&two, &one).unwrap();
        disk.sync_directory(&directory).unwrap();
        assert_eq!(disk.list(&directory).unwrap(), ["one"]);
        assert_eq!(disk.list(&root.join("a")).unwrap(), ["b"]);
        // The handles go with the files, not with the names.
        other.append(b"!").unwrap();
        file.append(b"0").unwrap();
        assert_eq!(disk.read(&one).unwrap(), b"other!");
        let mut bytes = [0; 3];
        reader.read_at(3, &mut bytes).unwrap();
        assert_eq!((&bytes, reader.length()), (b"470", 5));
        let past = reader.read_at(4, &mut bytes).map_err(kind);
        assert_eq!(past, Err(io::ErrorKind::UnexpectedEof));

        let missing = Err(io::ErrorKind::NotFound);
        assert_eq!(disk.rename(&two, &one).map_err(kind), missing);
        assert_eq!(disk.remove(&two).map_err(kind), missing);
        assert_eq!(disk.open_read(&two).map(drop).map_err(kind), missing);
        assert_eq!(disk.open_end(&two).map(drop).map_err(kind), missing);
        assert_eq!(
            disk.create(&two.join("x/y")).map(drop).map_err(kind),
            missing
        );
        assert_eq!(disk.list(&root.join("c")).map(drop).map_err(kind), missing);
        assert_eq!(
            disk.remove_directory(&root.join("c")).map_err(kind),
            missing
        );
        let busy = disk.remove_directory(&directory).map_err(kind);
        assert_eq!(busy, Err(io::ErrorKind::DirectoryNotEmpty));
        disk.remove(&one).unwrap();
        disk.remove_directory(&directory).unwrap();
        assert!(disk.list(&root.join("a")).unwrap().is_empty());
    }

    #[test]
    fn directories_are_made_once_and_again_if_they_went() {
        let disk = SimulatedDisk::new();
        let root = Path::new("data");
        create_directories(&disk, root).unwrap();
        let directories = Directories::below(&disk, root);
        let file = |name: &str| root.join("meter/month").join(name);
        directories.create_file(&file("one")).unwrap();
        let steps = disk.steps();
        directories.create_file(&file("two")).unwrap();
        assert_eq!(disk.steps(), steps + 1);
        for name in ["one", "two"] {
            disk.remove(&file(name)).unwrap();
        }
        disk.remove_directory(&root.join("meter/month")).unwrap();
        directories.create_file(&file("three")).unwrap();
        assert_eq!(disk.list(&root.join("meter/month")).unwrap(), ["three"]);
    }

    #[test]
    fn the_system_and_the_simulated_disk_behave_alike() {
        behaves(&SystemDisk, tempfile::tempdir().unwrap().path());
        behaves(&SimulatedDisk::new(), Path::new("/root"));
    }
}
