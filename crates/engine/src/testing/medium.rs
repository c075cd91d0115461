//! The file system of the simulated disk: what processes see, and what of it a power cut leaves.
//!
//! Names and contents are apart, as in real ones: a directory maps names to nodes, and a file that is removed or
//! replaced lives on for whoever has it open. Contents are shared between copies until one of them writes, so that a
//! copy of the whole costs no more than its number of files.

use super::PowerCut;
use crate::disk::parent_of;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inode(u64);

/// Of the directory that is always there, for relative paths and absolute ones.
const ROOT: Inode = Inode(0);

#[derive(Clone, Debug)]
pub(super) struct Medium {
    nodes: BTreeMap<Inode, Arc<Node>>,
    next: Inode,
}

#[derive(Clone, Debug)]
enum Node {
    Directory(Directory),
    File(Contents),
}

type Names = BTreeMap<Arc<str>, Inode>;

#[derive(Clone, Debug, Default)]
struct Directory {
    /// What processes see: the durable names after all changes.
    live: Names,
    /// What is surely on the medium.
    durable: Names,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Created {
        name: Arc<str>,
        node: Inode,
    },
    Removed {
        name: Arc<str>,
    },
    Renamed {
        from: Arc<str>,
        to: Arc<str>,
        node: Inode,
    },
}

/// The bytes of a file.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    /// What reads see.
    live: Arc<Vec<u8>>,
    durable: Durable,
    /// Of `live`: what a failed sync dropped without being asked again.
    lost: Vec<Range<usize>>,
}

/// What is surely on the medium.
#[derive(Clone, Debug)]
enum Durable {
    /// The first bytes of what reads see.
    Prefix(usize),
    /// Something else, since the file was cut or written over, or a sync failed.
    Bytes(Arc<Vec<u8>>),
}

impl Default for Medium {
    fn default() -> Self {
        let root = Arc::new(Node::Directory(Directory::default()));
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: Inode(1),
        }
    }
}

impl Medium {
    pub(super) fn file(&self, path: &Path) -> io::Result<Inode> {
        let inode = self.find(path)?;
        self.contents(inode)?;
        Ok(inode)
    }

    pub(super) fn contents(&self, file: Inode) -> io::Result<&Contents> {
        match self.nodes.get(&file).map(AsRef::as_ref) {
            Some(Node::File(contents)) => Ok(contents),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn contents_mut(&mut self, file: Inode) -> io::Result<&mut Contents> {
        match self.nodes.get_mut(&file).map(Arc::make_mut) {
            Some(Node::File(contents)) => Ok(contents),
            Some(Node::Directory(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let directory = self.directory(self.find(path)?)?;
        Ok(directory.live.keys().map(ToString::to_string).collect())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<Inode> {
        self.add(path, Node::File(Contents::safe(Arc::default())))
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.add(path, Node::Directory(Directory::default()))?;
        Ok(())
    }

    /// Answers how many bytes the file had.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<usize> {
        let bytes = self.contents(self.find(path)?)?.live.len();
        let (parent, name) = self.place(path)?;
        self.directory_mut(parent)?.change(Change::Removed { name });
        Ok(bytes)
    }

    pub(super) fn remove_directory(&mut self, path: &Path) -> io::Result<()> {
        if !self.directory(self.find(path)?)?.live.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (parent, name) = self.place(path)?;
        self.directory_mut(parent)?.change(Change::Removed { name });
        Ok(())
    }

    /// Answers how many bytes the file had that was replaced.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<usize> {
        let node = self.file(from)?;
        let replaced = match self.find(to) {
            Ok(replaced) if replaced != node => self.contents(replaced)?.live.len(),
            Ok(_) | Err(_) => 0,
        };
        let ((parent, from), (other, to)) = (self.place(from)?, self.place(to)?);
        if parent != other {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.directory_mut(parent)?
            .change(Change::Renamed { from, to, node });
        Ok(replaced)
    }

    /// Answers whether a node may have lost its last name.
    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<bool> {
        let inode = self.find(path)?;
        let directory = self.directory_mut(inode)?;
        let mut dropped = false;
        for change in std::mem::take(&mut directory.unsynced) {
            dropped |= !matches!(change, Change::Created { .. });
            change.apply(&mut directory.durable);
        }
        Ok(dropped)
    }

    /// Puts bytes under a name, durably; a file that is there gets them as its contents.
    pub(super) fn put(&mut self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        let mut parents: Vec<_> = path.ancestors().skip(1).collect();
        while let Some(parent) = parents.pop() {
            if self.find(parent).is_err() {
                self.create_directory(parent)?;
                self.keep_name(parent)?;
            }
        }
        let file = self.file(path).or_else(|_| self.create(path))?;
        self.keep_name(path)?;
        *self.contents_mut(file)? = Contents::safe(Arc::new(bytes));
        Ok(())
    }

    /// Drops the nodes that have no name, not even one that a power cut could bring back, and are not open.
    pub(super) fn sweep(&mut self, open: impl Iterator<Item = Inode>) {
        let mut reached = BTreeSet::new();
        let mut found: Vec<_> = open.chain([ROOT]).collect();
        while let Some(inode) = found.pop() {
            if reached.insert(inode)
                && let Ok(directory) = self.directory(inode)
            {
                found.extend(directory.live.values().chain(directory.durable.values()));
                found.extend(directory.unsynced.iter().filter_map(Change::node));
            }
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
    }

    /// What a power cut leaves.
    pub(super) fn after(&self, cut: PowerCut) -> Self {
        let mut random = Random(match cut {
            PowerCut::Tear { seed } => seed,
            PowerCut::Keep | PowerCut::Drop => 0,
        });
        let mut left = Self {
            nodes: BTreeMap::new(),
            next: self.next,
        };
        let mut found = vec![ROOT];
        while let Some(inode) = found.pop() {
            let Some(node) = self.nodes.get(&inode) else {
                continue;
            };
            if left.nodes.contains_key(&inode) {
                continue;
            }
            let node = node.after(cut, &mut random);
            if let Node::Directory(directory) = node.as_ref() {
                found.extend(directory.live.values());
            }
            left.nodes.insert(inode, node);
        }
        left
    }

    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    fn find(&self, path: &Path) -> io::Result<Inode> {
        let mut inode = ROOT;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let names = &self.directory(inode)?.live;
                let found = names.get(name.to_string_lossy().as_ref());
                inode = *found.ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(inode)
    }

    /// The directory that holds a path, and the name in it.
    fn place(&self, path: &Path) -> io::Result<(Inode, Arc<str>)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = parent_of(path).ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.find(parent)?;
        self.directory(parent)?;
        Ok((parent, name.to_string_lossy().into()))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<Inode> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (parent, name) = self.place(path)?;
        let inode = self.next;
        self.next = Inode(inode.0 + 1);
        self.nodes.insert(inode, Arc::new(node));
        self.directory_mut(parent)?
            .change(Change::Created { name, node: inode });
        Ok(inode)
    }

    fn keep_name(&mut self, path: &Path) -> io::Result<()> {
        let inode = self.find(path)?;
        let (parent, name) = self.place(path)?;
        let parent = self.directory_mut(parent)?;
        parent.unsynced.retain(|change| !change.concerns(&name));
        parent.durable.insert(name, inode);
        Ok(())
    }

    fn directory(&self, inode: Inode) -> io::Result<&Directory> {
        match self.nodes.get(&inode).map(AsRef::as_ref) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory_mut(&mut self, inode: Inode) -> io::Result<&mut Directory> {
        match self.nodes.get_mut(&inode).map(Arc::make_mut) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Node {
    fn after(self: &Arc<Self>, cut: PowerCut, random: &mut Random) -> Arc<Self> {
        match self.as_ref() {
            Self::Directory(directory) if directory.unsynced.is_empty() => Arc::clone(self),
            Self::Directory(directory) => {
                let names = directory.after(cut, random);
                Arc::new(Self::Directory(Directory::safe(names)))
            }
            Self::File(contents) if contents.is_safe() => Arc::clone(self),
            Self::File(contents) => {
                let bytes = contents.after(cut, random);
                Arc::new(Self::File(Contents::safe(bytes)))
            }
        }
    }
}

impl Directory {
    fn safe(names: Names) -> Self {
        Self {
            live: names.clone(),
            durable: names,
            unsynced: Vec::new(),
        }
    }

    fn change(&mut self, change: Change) {
        change.clone().apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn after(&self, cut: PowerCut, random: &mut Random) -> Names {
        match cut {
            PowerCut::Keep => self.live.clone(),
            PowerCut::Drop => self.durable.clone(),
            PowerCut::Tear { .. } => {
                let mut names = self.durable.clone();
                for change in &self.unsynced {
                    match (random.coin(), change) {
                        (false, _) => {}
                        // Both names are there, of one file: only a replaced name is never lost.
                        (true, Change::Renamed { to, node, .. }) if random.coin() => {
                            names.insert(Arc::clone(to), *node);
                        }
                        (true, change) => change.clone().apply(&mut names),
                    }
                }
                names
            }
        }
    }
}

impl Change {
    fn apply(self, names: &mut Names) {
        match self {
            Self::Created { name, node } => {
                names.insert(name, node);
            }
            Self::Removed { name } => {
                names.remove(&name);
            }
            Self::Renamed { from, to, node } => {
                names.remove(&from);
                names.insert(to, node);
            }
        }
    }

    fn node(&self) -> Option<Inode> {
        match self {
            Self::Created { node, .. } | Self::Renamed { node, .. } => Some(*node),
            Self::Removed { .. } => None,
        }
    }

    fn concerns(&self, other: &Arc<str>) -> bool {
        match self {
            Self::Created { name, .. } | Self::Removed { name } => name == other,
            Self::Renamed { from, to, .. } => from == other || to == other,
        }
    }
}

impl Contents {
    fn safe(bytes: Arc<Vec<u8>>) -> Self {
        Self {
            durable: Durable::Prefix(bytes.len()),
            live: bytes,
            lost: Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> &Arc<Vec<u8>> {
        &self.live
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        Arc::make_mut(&mut self.live).extend_from_slice(bytes);
    }

    /// Cuts what reads see. Answers how many bytes went.
    pub(super) fn cut(&mut self, length: usize) -> usize {
        let cut = self.live.len().saturating_sub(length);
        self.set_durable_apart(length);
        Arc::make_mut(&mut self.live).truncate(length);
        self.lost.retain_mut(|range| {
            range.end = range.end.min(length);
            range.start < range.end
        });
        cut
    }

    /// Writes over what reads see; an error if the file has no such bytes.
    pub(super) fn overwrite(&mut self, place: Range<usize>, bytes: &[u8]) -> io::Result<()> {
        if place.end > self.live.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.set_durable_apart(place.start);
        if let Some(place) = Arc::make_mut(&mut self.live).get_mut(place) {
            (place.iter_mut().zip(bytes)).for_each(|(byte, new)| *byte = *new);
        }
        Ok(())
    }

    /// What was lost of this was written again, so that a sync saves it after all.
    pub(super) fn rewritten(&mut self, place: &Range<usize>) {
        let lost = std::mem::take(&mut self.lost);
        self.lost = (lost.into_iter())
            .flat_map(|range| {
                [
                    range.start..range.end.min(place.start),
                    range.start.max(place.end)..range.end,
                ]
            })
            .filter(|range| !range.is_empty())
            .collect();
    }

    pub(super) fn sync(&mut self) {
        self.durable = if self.lost.is_empty() {
            Durable::Prefix(self.live.len())
        } else {
            Durable::Bytes(self.synced())
        };
    }

    /// A sync failed.
    pub(super) fn lose(&mut self) {
        let lost = self.durable().len()..self.live.len();
        if !lost.is_empty() {
            self.lost.push(lost);
        }
    }

    fn durable(&self) -> &[u8] {
        match &self.durable {
            Durable::Prefix(length) => self.live.get(..*length).unwrap_or(&self.live),
            Durable::Bytes(bytes) => bytes,
        }
    }

    /// What reads see is about to change from `start` on; what is on the medium is not.
    fn set_durable_apart(&mut self, start: usize) {
        if let Durable::Prefix(length) = self.durable
            && start < length
        {
            self.durable = Durable::Bytes(Arc::new(self.durable().to_vec()));
        }
    }

    /// Whether no power cut changes anything.
    fn is_safe(&self) -> bool {
        matches!(self.durable, Durable::Prefix(length) if length == self.live.len())
            && self.lost.is_empty()
    }

    /// What a sync brings to the medium: holes where bytes were lost.
    fn synced(&self) -> Arc<Vec<u8>> {
        let mut bytes = Arc::clone(&self.live);
        for range in &self.lost {
            if let Some(hole) = Arc::make_mut(&mut bytes).get_mut(range.clone()) {
                hole.fill(0);
            }
        }
        bytes
    }

    fn after(&self, cut: PowerCut, random: &mut Random) -> Arc<Vec<u8>> {
        match cut {
            PowerCut::Keep => self.synced(),
            PowerCut::Drop => Arc::new(self.durable().to_vec()),
            PowerCut::Tear { .. } => {
                let (durable, synced) = (self.durable(), self.synced());
                Arc::new(match synced.strip_prefix(durable) {
                    Some(tail) => [durable, &torn(tail, random)].concat(),
                    None => mixed(durable, &synced, random),
                })
            }
        }
    }
}

/// Bytes of one torn piece: small, so that short tests tear too.
const SECTOR_BYTES: usize = 32;

/// What may be left of appended bytes.
fn torn(tail: &[u8], random: &mut Random) -> Vec<u8> {
    let length = match random.below(4) {
        // The extremes are the likely ones, and those that a test would rarely meet by chance.
        0 => return Vec::new(),
        1 => return tail.to_vec(),
        _ => random.below(tail.len() + 1),
    };
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

/// What may be left of a file that was cut or written over: either state, or some sectors of each.
fn mixed(before: &[u8], after: &[u8], random: &mut Random) -> Vec<u8> {
    let (one, other) = if random.coin() {
        (before, after)
    } else {
        (after, before)
    };
    let mut bytes = one.to_vec();
    if random.coin() {
        for (sector, other) in (bytes.chunks_mut(SECTOR_BYTES)).zip(other.chunks(SECTOR_BYTES)) {
            if random.coin() {
                (sector.iter_mut().zip(other)).for_each(|(byte, other)| *byte = *other);
            }
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
