//! What all surfaces of a server work with, the places that long work takes in it, and the gates between meters and
//! measurements.

use meterd_control::Control;
use meterd_engine::{
    Batch, Cancel, Engine, PreparedBatch, QueryError, QueryLimit, Receipt, SubmitError, Ticket,
};
use meterd_fault::{Fault, Kind, Problem, Rule};
use meterd_model::OrganizationId;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{
    OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore,
};

/// Each holds a thread for as long as its client reads.
pub const EXPORTS_MAX: usize = 4;
/// Longest wait of long work for others to end.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Queries, listings and traces that run at a time. Each holds a thread, and memory for what it finds.
pub fn queries_max() -> usize {
    2 * std::thread::available_parallelism().map_or(2, usize::from)
}

/// The parts of a server. Cheap to clone; all clones share the places, so that they bound the memory of all surfaces
/// together, and the gates.
#[derive(Clone, Debug)]
pub struct Core {
    pub control: Arc<Control>,
    pub engine: Arc<Engine>,
    query_slots: Slots,
    /// Exports wait for their clients, so that no query waits for them.
    export_slots: Slots,
    gates: Arc<Mutex<HashMap<OrganizationId, Arc<RwLock<()>>>>>,
}

impl Core {
    pub fn new(control: Arc<Control>, engine: Arc<Engine>) -> Self {
        Self {
            control,
            engine,
            query_slots: Slots::new(queries_max()),
            export_slots: Slots::new(EXPORTS_MAX),
            gates: Arc::default(),
        }
    }

    /// Holds an organization's meters as they are. Taken before a meter is looked up that measurements are to be of, and
    /// held until they are stored, also when the client goes away: so none is stored for a meter, or a field of it, that
    /// has just been taken away. Many may hold them at a time.
    pub async fn hold_meters(&self, organization: OrganizationId) -> OwnedRwLockReadGuard<()> {
        self.gate(organization).read_owned().await
    }

    /// Waits until nobody holds an organization's meters, and lets nobody hold them until a meter is changed or gone.
    pub async fn lock_meters(&self, organization: OrganizationId) -> OwnedRwLockWriteGuard<()> {
        self.gate(organization).write_owned().await
    }

    fn gate(&self, organization: OrganizationId) -> Arc<RwLock<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(organization).or_default())
    }

    /// Leave to run a query, a listing or a trace; [`LongWork::query`] runs one.
    pub async fn query_slot(&self, organization: OrganizationId) -> Result<Slot, Fault> {
        self.query_slots.take(organization).await
    }

    /// Leave to run an export.
    pub async fn export_slot(&self, organization: OrganizationId) -> Result<Slot, Fault> {
        self.export_slots.take(organization).await
    }

    /// Hands a batch in and waits for its receipt. Hashing many rows, and asking the disk for ids that seem to be
    /// sealed, is for other threads than those that serve connections.
    pub async fn submit(&self, batch: Batch, is_large: bool) -> Result<Receipt, Fault> {
        let ticket = if is_large {
            self.on_engine(|engine| engine.submit(batch)).await?
        } else {
            let prepared = self.engine.prepare(batch).map_err(submit_fault)?;
            self.hand_in(prepared).await?
        };
        ticket.await.map_err(submit_fault)
    }

    async fn hand_in(&self, prepared: PreparedBatch) -> Result<Ticket<Receipt>, Fault> {
        if prepared.needs_disk() {
            return self
                .on_engine(|engine| engine.submit_prepared(prepared))
                .await;
        }
        self.engine.submit_prepared(prepared).map_err(submit_fault)
    }

    async fn on_engine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, SubmitError> + Send + 'static,
    ) -> Result<T, Fault> {
        let engine = Arc::clone(&self.engine);
        blocking(move || work(&engine).map_err(submit_fault)).await
    }
}

/// Work that is not for the threads that serve connections, with all that a surface works with. For every surface's
/// `App`, which is a [`Core`] with what is its own.
pub trait LongWork: Deref<Target = Core> + Clone + Send + Sync + 'static {
    /// Runs work that may wait for a disk.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> impl Future<Output = Result<T, Fault>> + Send {
        let app = self.clone();
        blocking(move || work(&app))
    }

    /// Runs a query, a listing or a trace, at a place among all of them; `overloaded` if none is free in time.
    fn query<T: Send + 'static>(
        &self,
        organization: OrganizationId,
        work: impl FnOnce(&Self, &Cancel) -> Result<T, Fault> + Send + 'static,
    ) -> impl Future<Output = Result<T, Fault>> + Send {
        let app = self.clone();
        async move {
            let slot = app.query_slot(organization).await?;
            let cancel = Cancel::new();
            // When the client goes away this future is dropped, and the work with it.
            let _cancel_on_drop = CancelOnDrop(cancel.clone());
            let work = move || {
                let _slot = slot;
                work(&app, &cancel)
            };
            blocking(work).await
        }
    }
}

impl<App: Deref<Target = Core> + Clone + Send + Sync + 'static> LongWork for App {}

/// Leave to do long work, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

/// Places for long work of one kind. One organization gets at most half of them, so that no other has to wait for it.
#[derive(Clone, Debug)]
struct Slots {
    shared: Arc<Semaphore>,
    own_max: usize,
    own: Arc<Mutex<HashMap<OrganizationId, Arc<Semaphore>>>>,
}

impl Slots {
    fn new(max: usize) -> Self {
        Self {
            shared: Arc::new(Semaphore::new(max)),
            own_max: (max / 2).max(1),
            own: Arc::default(),
        }
    }

    /// A place, or `overloaded` if others take too long.
    async fn take(&self, organization: OrganizationId) -> Result<Slot, Fault> {
        let own = {
            let mut all = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            let own = all.entry(organization);
            Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(self.own_max))))
        };
        let shared = Arc::clone(&self.shared);
        let slot = async {
            Ok(Slot {
                _own: own.acquire_owned().await.map_err(Fault::internal)?,
                _shared: shared.acquire_owned().await.map_err(Fault::internal)?,
            })
        };
        let overloaded = Kind::Overloaded {
            retry_after: SLOT_WAIT_MAX,
        };
        let in_time = tokio::time::timeout(SLOT_WAIT_MAX, slot).await;
        in_time.unwrap_or_else(|_| Err(overloaded.into()))
    }
}

/// Away from the threads that serve connections.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Fault::internal(error)),
    }
}

/// Ends a query when whoever waits for it goes away.
#[derive(Debug)]
pub struct CancelOnDrop(pub Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Why a question to the engine has no answer.
pub fn query_fault(error: QueryError) -> Fault {
    let limit_rows = match error {
        QueryError::TooExpensive {
            limit: QueryLimit::Rows(rows),
        } => rows,
        QueryError::TooExpensive {
            limit: QueryLimit::Groups(rows) | QueryLimit::Unique(rows) | QueryLimit::Texts(rows),
        } => rows as u64,
        // Names are resolved before, nobody is left to read the answer of a cancelled query, and what cannot be read
        // is for the operator.
        QueryError::FieldMissing { .. }
        | QueryError::Unreadable(_)
        | QueryError::OrderUnknown { .. }
        | QueryError::Cancelled => {
            return Fault::internal(error);
        }
    };
    Kind::QueryTooExpensive { limit_rows }.into()
}

/// Why a batch was not stored.
pub fn submit_fault(error: SubmitError) -> Fault {
    const AGAIN: Duration = Duration::from_secs(5);
    match error {
        SubmitError::Busy { retry_after } => Kind::Overloaded { retry_after }.into(),
        SubmitError::Closed => Kind::ShuttingDown { retry_after: AGAIN }.into(),
        SubmitError::Full => Kind::StorageFull {
            retry_after: Duration::from_secs(30),
        }
        .into(),
        SubmitError::TooLarge { max_bytes } => Kind::BodyTooLarge {
            limit_bytes: max_bytes as u64,
        }
        .into(),
        SubmitError::TooManyMonths { max } => {
            let rule = Rule::Other {
                code: "months_max",
                text: format!(
                    "must have measurements of at most {max} months, those of each meter counted by themselves"
                )
                .into(),
            };
            Fault::invalid(Problem::body("", rule))
        }
        SubmitError::Unavailable => Kind::StorageUnavailable { retry_after: AGAIN }.into(),
        // Every row was checked against its meter, whose rules are stricter.
        SubmitError::Invalid { .. } => Fault::internal(error),
    }
}
