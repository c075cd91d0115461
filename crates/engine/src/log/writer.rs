//! Appends frames to the log, starts new files, and gets back on its feet after the disk failed.

use super::frame::{FILE_HEADER_BYTES, FileNumber, file_header, frame, log_directory};
use super::record::encode_close;
use crate::disk::{Disk, DiskFile, is_full};
use crate::settings::Durability;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an append did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// No space; the log is as it was before.
    Full,
    /// Anything else; the log is as it was before.
    Failed,
    /// What was written could not be cut back: it, or an append that failed before it, may be there after a restart,
    /// until [`LogWriter::settle`] succeeded.
    Unsettled,
}

/// With durability `Os`, bytes after which the log is synced all the same, so that later damage before them can be
/// told from a torn write.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// Where the log ends, as its reader found it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogEnd {
    /// The last file with a whole header; if there is none, the one before the first that there will be.
    pub(crate) number: FileNumber,
    /// Bytes of that file that are good; 0 if there is none.
    pub(crate) good: u64,
    /// How many of them are known to be synced.
    pub(crate) durable: u64,
    /// Bytes that an interrupted write left at the end.
    pub(crate) torn_bytes: u64,
    /// A file after it whose header is torn.
    pub(crate) torn_header: Option<FileNumber>,
    /// Good bytes of all files.
    pub(crate) total_bytes: u64,
}

impl LogEnd {
    /// Nothing is there, and the first file will have this number.
    pub(crate) fn before(first: FileNumber) -> Self {
        Self {
            number: FileNumber(first.0.saturating_sub(1)),
            good: 0,
            durable: 0,
            torn_bytes: 0,
            torn_header: None,
            total_bytes: 0,
        }
    }

    fn has_file(&self) -> bool {
        self.good > 0
    }
}

#[derive(Debug)]
pub(crate) struct LogWriter {
    disk: Arc<dyn Disk>,
    log: PathBuf,
    durability: Durability,
    file_max_bytes: u64,
    number: FileNumber,
    /// `None` after a failure, until [`Self::repair`] succeeded.
    file: Option<Box<dyn DiskFile>>,
    /// Bytes of the file that hold acknowledged frames.
    length: u64,
    /// Bytes of the file known to be synced.
    durable: u64,
    /// Whether the file surely ends at `length`, so that nothing of a failed append can come back.
    settled: bool,
    /// Bytes of all files.
    pub(crate) total_bytes: u64,
    pub(crate) syncs: u64,
    pub(crate) failures: u64,
}

impl LogWriter {
    /// Goes on where the reader stopped: cuts what is torn, makes sure that all that was read is synced, and begins
    /// a new file unless the last one is still empty. Without space for that, the first append tries again.
    pub(crate) fn resume(
        disk: Arc<dyn Disk>,
        directory: &Path,
        durability: Durability,
        file_max_bytes: u64,
        end: LogEnd,
    ) -> io::Result<Self> {
        let mut writer = Self {
            disk,
            log: log_directory(directory),
            durability,
            file_max_bytes,
            number: end.number,
            file: None,
            length: end.good,
            durable: end.durable,
            settled: !end.has_file(),
            total_bytes: end.total_bytes,
            syncs: 0,
            failures: 0,
        };
        if let Some(torn) = end.torn_header {
            writer.disk.remove(&writer.path(torn))?;
            writer.disk.sync_directory(&writer.log)?;
        } else if end.torn_bytes > 0 {
            writer.keep_torn_tail()?;
        }
        writer.settle()?;
        match writer.open_file() {
            Err(error) if is_full(&error) => writer.failures += 1,
            other => other?,
        }
        Ok(writer)
    }

    pub(crate) fn last_file(&self) -> FileNumber {
        self.number
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.file.is_some()
    }

    /// Appends one frame and, if so set, syncs it.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<(), AppendError> {
        let appended = self.try_append(payload);
        appended.map_err(|error| self.recoil(&error))
    }

    /// Ends the last file and begins a new one, whose number is the answer: all that was appended is in files before
    /// it.
    pub(crate) fn rotate(&mut self) -> Result<FileNumber, AppendError> {
        let rotated = self.try_rotate();
        rotated.map_err(|error| self.recoil(&error))
    }

    /// After a failure: cuts off what it may have left. Only a log that was cut back proves that nothing is.
    fn recoil(&mut self, error: &io::Error) -> AppendError {
        self.failures += 1;
        self.file = None;
        match self.settle() {
            Ok(()) if is_full(error) => AppendError::Full,
            Ok(()) => AppendError::Failed,
            Err(_) => AppendError::Unsettled,
        }
    }

    fn try_rotate(&mut self) -> io::Result<FileNumber> {
        self.repair()?;
        if self.length > FILE_HEADER_BYTES {
            self.sync_whole()?;
            self.create_next()?;
        }
        Ok(self.number)
    }

    fn try_append(&mut self, payload: &[u8]) -> io::Result<()> {
        self.repair()?;
        if self.length >= self.file_max_bytes {
            self.sync_whole()?;
            self.create_next()?;
        }
        self.write(payload)
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else {
            return Err(io::Error::other("the log file is not open"));
        };
        let framed =
            frame(payload, self.number, self.length, self.durable).map_err(io::Error::other)?;
        self.settled = false;
        file.append(&framed)?;
        let end = self.length + bytes_of(&framed);
        if self.durability == Durability::Sync || end - self.durable >= UNSYNCED_BYTES_MAX {
            self.syncs += 1;
            file.sync()?;
            self.durable = end;
        }
        self.settled = true;
        self.total_bytes += end - self.length;
        self.length = end;
        Ok(())
    }

    /// Gets the log in order after a failure: cuts the last file to what is known to be good and goes on in a new
    /// one, since after a failed sync nobody can say what of the old one's tail is on disk.
    pub(crate) fn repair(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.settle()?;
            self.open_file()?;
        }
        Ok(())
    }

    /// Makes sure that no failed append left anything behind. Free while the log is in order.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if self.settled {
            return Ok(());
        }
        // Through new handles, since the old one may have lost writes that it no longer reports.
        let path = self.path(self.number);
        self.disk.cut(&path, self.length)?;
        if self.durable < self.length {
            // The system may take these for written though a sync of them failed, and a sync would then not write
            // them again.
            let bytes = self.disk.read(&path)?;
            let unsure = part(&bytes, self.durable, self.length)?;
            self.disk.overwrite(&path, self.durable, unsure)?;
            self.durable = self.length;
        }
        self.settled = true;
        Ok(())
    }

    /// Notes that all was written and synced. What fails here costs nothing but the note.
    pub(crate) fn close(&mut self) {
        let used = self.length > FILE_HEADER_BYTES;
        if self.file.is_some() && used && self.sync_whole().is_ok() {
            let mut payload = Vec::new();
            encode_close(&mut payload);
            if self
                .write(&payload)
                .and_then(|()| self.sync_whole())
                .is_err()
            {
                self.failures += 1;
            }
        }
        self.file = None;
        // If this fails too, the next start may find what nobody was told of.
        let _ = self.settle();
    }

    /// Opens the file to write to, after the last one was settled: the last one itself if it is still empty.
    fn open_file(&mut self) -> io::Result<()> {
        if self.length > 0 {
            self.disk.sync_directory(&self.log)?;
            if self.length == FILE_HEADER_BYTES {
                self.file = Some(self.disk.open_end(&self.path(self.number))?);
                return Ok(());
            }
        }
        self.create_next()
    }

    /// Puts what is about to be cut beside the log: without durability it may be more than a write that nobody was
    /// told of, and an operator may want to know. One per file; where there is no space, none.
    fn keep_torn_tail(&self) -> io::Result<()> {
        let bytes = self.disk.read(&self.path(self.number))?;
        let tail = part(&bytes, self.length, bytes_of(&bytes))?;
        let copy = self.log.join(self.number.torn_name());
        match self.write_copy(&copy, tail) {
            Err(error) if is_full(&error) => {
                let _ = self.disk.remove(&copy);
                Ok(())
            }
            other => other,
        }
    }

    fn write_copy(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.disk.create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.disk.remove(path)?;
                self.disk.create(path)?
            }
            other => other?,
        };
        file.append(bytes)?;
        file.sync()?;
        self.disk.sync_directory(&self.log)
    }

    fn sync_whole(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_mut()
            && self.durable < self.length
        {
            self.syncs += 1;
            self.settled = false;
            file.sync()?;
            self.settled = true;
            self.durable = self.length;
        }
        Ok(())
    }

    /// Creates the next file; it counts only once its header and its name are synced.
    fn create_next(&mut self) -> io::Result<()> {
        let number = self.number.next();
        let path = self.path(number);
        let created = self.create_file(&path, number);
        match created {
            Ok(file) => {
                self.file = Some(file);
                self.number = number;
                self.length = FILE_HEADER_BYTES;
                self.durable = FILE_HEADER_BYTES;
                self.total_bytes += FILE_HEADER_BYTES;
                Ok(())
            }
            Err(error) => {
                // Half a file must not stand in the way of the next attempt.
                let _ = self.disk.remove(&path);
                Err(error)
            }
        }
    }

    fn create_file(&self, path: &Path, number: FileNumber) -> io::Result<Box<dyn DiskFile>> {
        let mut file = match self.disk.create(path) {
            // Left over from an attempt whose clean-up failed too; the log has nothing in it.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists
                    && self.disk.length(path)? <= FILE_HEADER_BYTES =>
            {
                self.disk.remove(path)?;
                self.disk.create(path)?
            }
            other => other?,
        };
        file.append(&file_header(number))?;
        file.sync()?;
        self.disk.sync_directory(&self.log)?;
        Ok(file)
    }

    fn path(&self, number: FileNumber) -> PathBuf {
        self.log.join(number.file_name())
    }
}

fn part(bytes: &[u8], from: u64, to: u64) -> io::Result<&[u8]> {
    let place = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    place
        .and_then(|(from, to)| bytes.get(from..to))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

fn bytes_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
