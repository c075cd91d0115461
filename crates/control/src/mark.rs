//! Marks: how far something that goes on has come, such as a schedule. A mark is written in the transaction of what it
//! stands for, so that after a crash nothing is done twice or left out.

use crate::database::doing;
use crate::store::{Store, Writes};
use meterd_fault::Fault;
use meterd_model::OrganizationId;
use rusqlite::{OptionalExtension, params};

impl Store {
    pub fn mark(&self, organization: OrganizationId, name: &str) -> Result<Option<i64>, Fault> {
        self.database().read(|sql| {
            sql.prepare_cached("SELECT value FROM marks WHERE organization = ?1 AND name = ?2")
                .and_then(|mut statement| {
                    statement
                        .query_row(params![organization.0, name], |row| row.get(0))
                        .optional()
                })
                .map_err(doing("read a mark"))
        })
    }
}

impl Writes<'_> {
    pub fn set_mark(
        &mut self,
        organization: OrganizationId,
        name: &str,
        value: i64,
    ) -> Result<(), Fault> {
        self.sql()
            .prepare_cached(
                "INSERT INTO marks (organization, name, value) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (organization, name) DO UPDATE SET value = excluded.value",
            )
            .and_then(|mut statement| statement.execute(params![organization.0, name, value]))
            .map_err(doing("write a mark"))?;
        Ok(())
    }

    pub fn remove_mark(&mut self, organization: OrganizationId, name: &str) -> Result<(), Fault> {
        self.sql()
            .prepare_cached("DELETE FROM marks WHERE organization = ?1 AND name = ?2")
            .and_then(|mut statement| statement.execute(params![organization.0, name]))
            .map_err(doing("remove a mark"))?;
        Ok(())
    }
}
