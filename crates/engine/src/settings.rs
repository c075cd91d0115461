//! What the engine can be told, and the bounds it keeps.

use std::time::Duration;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has confirmed it: an acknowledged measurement survives a power cut.
    #[default]
    Sync,
    /// After the operating system has taken it: an acknowledged measurement survives the end of the process, not of
    /// the machine.
    Os,
}

/// When measurements go from memory to segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sealing {
    /// By themselves, when memory has enough of them; segments and runs are merged by themselves too.
    #[default]
    Background,
    /// Only when asked, so that a test knows what happens when.
    OnDemand,
}

/// Every bound of the engine, with its default in [`Settings::default`].
#[derive(Clone, Debug)]
pub struct Settings {
    pub durability: Durability,
    /// Most bytes of batches written and synced together; also the most that one batch may have. At most
    /// [`Settings::GROUP_BYTES_LIMIT`].
    pub group_max_bytes: usize,
    /// Most batches written and synced together.
    pub group_max_batches: usize,
    /// How long a batch waits for others to be written with, if they are not there already. More of it means fewer
    /// syncs and later answers; the syncs of those before make a group by themselves.
    pub group_max_wait: Duration,
    /// Most batches that wait for the log; past it the answer is busy.
    pub queue_max_batches: usize,
    /// Most bytes of batches that wait for the log.
    pub queue_max_bytes: usize,
    /// What a busy engine asks its callers to wait.
    pub busy_retry_after: Duration,
    /// A log file past this size is followed by a new one.
    pub log_file_max_bytes: u64,
    /// How often a log that cannot be written is tried again while nothing is sent.
    pub repair_interval: Duration,
    pub sealing: Sealing,
    /// Key of the hash that tells ids apart, for a directory that has none yet; `None` draws one.
    pub hash_key: Option<[u8; 32]>,
    /// Versions and voids in memory from which on they are sealed.
    pub seal_rows: u64,
    /// About how many bytes of them in memory, whatever their number, from which on they are sealed. Of a plain
    /// measurement with an id of its own some 200.
    pub seal_bytes: u64,
    /// Most of them in memory beside those that are being sealed. A batch that would add more finds the engine busy,
    /// or full where the disk has no space. At most [`Settings::MEMORY_ROWS_LIMIT`].
    pub memory_rows_max: u64,
    /// About how many bytes of them there may be in memory, with those that are being sealed, and in what a start reads
    /// back from the log. Past it as past `memory_rows_max`.
    pub memory_bytes_max: u64,
    /// Segments, over all organizations, that those in memory would become, from which on they are sealed: each is a
    /// file, which takes its time whatever is in it.
    pub seal_partitions: usize,
    /// Most of them, beside those that are being sealed. Past it as past `memory_rows_max`.
    pub memory_partitions_max: usize,
    /// Most of them for one batch: months that it has measurements of, those of each meter counted by themselves.
    pub batch_partitions_max: usize,
    /// Most versions of measurements held. A batch that would add versions past it finds the engine full.
    pub versions_max: u64,
    /// Distinct subjects and attribute texts of one organization in memory from which on whatever would add a version
    /// is answered as past `memory_rows_max`.
    pub texts_max: usize,
    /// Segments of a partition, alike in size, that are merged into one.
    pub merge_fan_in: usize,
    /// Most rows of a segment that a merge writes.
    pub segment_max_rows: u64,
    /// Most files of segments that are open at once, beside those that are being read.
    pub open_segments_max: usize,
    /// Most threads that one query keeps busy.
    pub query_threads: usize,
    /// Measurements from which on a query keeps a second thread busy, twice as many for a third, and so on.
    pub query_thread_rows: u64,
    /// About how many bytes of what whole segments answered are kept for queries that ask the same; 0 for none.
    pub query_cache_bytes: usize,
    /// Most measurements one query or listing may look at.
    pub query_rows_max: u64,
    /// Most groups one query may build.
    pub query_groups_max: usize,
    /// Most distinct values one query may collect for `unique`, those of each of its threads counted by themselves.
    pub query_unique_max: usize,
    /// Most distinct texts that one query may hold of what it groups by or counts, counted likewise.
    pub query_texts_max: usize,
    /// Most measurements on one page of a listing; a larger limit is lowered to it.
    pub list_limit_max: usize,
    /// Most ids, of all organizations, whose repeats are counted for the trace.
    pub repeats_max: usize,
}

impl Settings {
    /// Keeps every frame of the log well below the length that a reader accepts.
    pub const GROUP_BYTES_LIMIT: usize = 48 << 20;
    /// Rows and ids in memory are numbered with 32 bits.
    pub const MEMORY_ROWS_LIMIT: u64 = 4_000_000_000;
    /// Texts are numbered with 32 bits, and what one group adds comes on top.
    pub const TEXTS_LIMIT: usize = 4_000_000_000;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            group_max_bytes: 16 << 20,
            group_max_batches: 1024,
            group_max_wait: Duration::ZERO,
            queue_max_batches: 4096,
            queue_max_bytes: 64 << 20,
            busy_retry_after: Duration::from_millis(250),
            log_file_max_bytes: 128 << 20,
            repair_interval: Duration::from_secs(1),
            sealing: Sealing::Background,
            hash_key: None,
            seal_rows: 1_000_000,
            seal_bytes: 512 << 20,
            memory_rows_max: 3_000_000,
            memory_bytes_max: 2 << 30,
            seal_partitions: 4_096,
            memory_partitions_max: 16_384,
            batch_partitions_max: 2_000,
            versions_max: 1_000_000_000_000,
            texts_max: 1_000_000_000,
            merge_fan_in: 8,
            segment_max_rows: 64_000_000,
            open_segments_max: 512,
            query_threads: 4,
            query_thread_rows: 250_000,
            query_cache_bytes: 64 << 20,
            query_rows_max: 1_000_000_000,
            query_groups_max: 1_000_000,
            query_unique_max: 10_000_000,
            query_texts_max: 10_000_000,
            list_limit_max: 10_000,
            repeats_max: 1_000_000,
        }
    }
}
