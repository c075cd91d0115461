//! State machines as tables, shared by jobs and assets (5.1, 5.2).

use crate::access::Access;
use crate::app::App;
use crate::envelope::One;
use crate::record::{Editable, Found, append_event, replace_changed};
use crate::wire::{TEXT_MAX, Word, text};
use axum::extract::State;
use meterd_control::Admission;
use meterd_fault::{Fault, Kind, Resource};
use meterd_http::fields::{Fields, Form};
use meterd_http::{AnyJson, Failure, LongWork, Reply};
use meterd_model::Timestamp;
use serde_json::json;

/// A status with the table of where it leads.
pub(crate) trait Status: Word {
    /// Nothing leads from one without successors.
    fn next(self) -> &'static [Self];

    fn is_terminal(self) -> bool {
        self.next().is_empty()
    }
}

/// Words of a status, and rows `from => to, to, …`.
macro_rules! statuses {
    (
        $(#[$doc:meta])* $name:ident { $($member:ident = $word:literal),+ $(,)? }
        $($from:ident => $($to:ident),*;)+
    ) => {
        $crate::wire::words! { $(#[$doc])* $name { $($member = $word),+ } }

        impl $crate::status::Status for $name {
            fn next(self) -> &'static [Self] {
                match self {
                    $(Self::$from => &[$(Self::$to),*],)+
                }
            }
        }
    };
}
pub(crate) use statuses;

/// A record that has a status.
pub(crate) trait Stateful: Editable {
    type Status: Status + Send;
    /// What bodies call its status, and what they may call it too.
    const STATUS: [&'static str; 2];
    /// What bodies call the reason of a change.
    const REASON: &'static str;

    fn status(&self) -> Self::Status;

    /// Changes the status and what goes with it.
    fn enter(&mut self, status: Self::Status, now: Timestamp);
}

/// Whether a status may follow another; what stays as it is may not be asked for.
fn check_change<S: Status>(resource: Resource, from: S, to: S) -> Result<(), Fault> {
    if from.next().contains(&to) {
        return Ok(());
    }
    Err(Kind::TransitionNotAllowed {
        resource,
        from: from.word().to_owned(),
        to: to.word().to_owned(),
    }
    .into())
}

/// That the status of a record may follow the one that it had.
pub(crate) fn admit_status<R: Stateful>(
    after: &R,
    admission: &Admission<'_, R>,
) -> Result<(), Fault> {
    match admission.before.map(|before| before.document.status()) {
        Some(from) if from != after.status() => check_change(R::RESOURCE, from, after.status()),
        _ => Ok(()),
    }
}

/// What a body says of a status: `Some` if it names one.
pub(crate) fn read_status<R: Stateful>(fields: &mut Fields<'_>) -> Option<R::Status> {
    let [name, alias] = R::STATUS;
    fields.alias(name, alias);
    R::Status::read(fields, name)
}

/// `PATCH`: changes the status and nothing else. What was the status is looked at where nobody else can change it.
pub(crate) async fn change_status<R: Stateful>(
    State(app): State<App>,
    access: Access<R::Write>,
    Found(found): Found<R>,
    AnyJson(body): AnyJson,
) -> Result<Reply<One<R::View>>, Failure> {
    let (to, reason) = body.read(Form::LENIENT, |fields| {
        let [name, alias] = R::STATUS;
        fields.alias(name, alias);
        let status = crate::wire::required(fields, name, None, R::Status::read);
        let reason = text(TEXT_MAX)(fields, R::REASON);
        Some((status?, reason))
    })?;
    let (space, author) = (access.space, access.author());
    let view = app
        .blocking(move |app| {
            let stored = app.control.store().write(&author, |writes| {
                let current = writes.get::<R>(space, found.id)?;
                let from = current.document.status();
                check_change(R::RESOURCE, from, to)?;
                let mut document = current.document.clone();
                document.enter(to, author.at);
                let stored = replace_changed(writes, &current, document)?;
                if let Some(reason) = reason {
                    let data = json!({"from": from.word(), "to": to.word(), "reason": reason});
                    append_event(writes, &stored, "status_reason", data)?;
                }
                Ok(stored)
            })?;
            R::view_alone(&stored, app)
        })
        .await?;
    Ok(Reply::ok(One::of(&access.context, R::ONE, view)))
}
