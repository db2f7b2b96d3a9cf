//! Changing tables: updates with requirements (Iceberg REST OpenAPI, `updateTable`), and tables that
//! are made together with their rows (`stage-create`).
//!
//! An answer that was lost is resolved by looking: whether the table has what was sent, or whether
//! it went on in a way that our requirements rule out. Nothing is sent twice.

use std::time::Duration;

use async_trait::async_trait;
use iceberg::spec::{MAIN_BRANCH, Schema, TableMetadata};
use iceberg::table::Table;
use iceberg::{TableCreation, TableRequirement, TableUpdate};
use reqwest::Method;
use serde_json::{Value, json};

use super::session::{Answer, Failure};
use super::{FORMAT_VERSION, RestBackend, identifier};
use crate::catalog::backend::Commits;
use crate::catalog::commit::built;
use crate::{Error, Result, TableName};

/// Waits before the looks that follow a lost answer: the service may still be at it.
const LOOKS_AFTER_MS: [u64; 3] = [0, 250, 1_000];

/// The id that stands for the schema, spec or order just added.
const LAST_ADDED: i32 = -1;

/// What a request came to.
enum Sent {
    Done(Answer),
    /// Another writer was quicker, the service says.
    Conflict,
    Missing(Answer),
    /// It may have happened.
    Unknown(Error),
}

impl RestBackend {
    /// Makes a table without rows, or only its metadata when `staged`; none when there is one of
    /// that name.
    pub(super) async fn create(
        &self,
        name: &TableName,
        creation: TableCreation,
        staged: bool,
    ) -> Result<Option<Table>> {
        let namespace = self.session.namespace_segment(&name.namespace).await?;
        let namespace =
            namespace.ok_or_else(|| Error::NotFound(format!("table {name} not found")))?;
        let path = format!("namespaces/{namespace}/tables");
        let body = creation_request(creation, staged)?;
        let answer = self
            .session
            .send(Method::POST, &path, &[], Some(&body))
            .await?;
        match answer.status {
            409 => Ok(None),
            _ if answer.is_ok() => self.table_in(name, answer, true).await.map(Some),
            404 => Err(Error::NotFound(format!(
                "namespace {} not found ({})",
                name.namespace,
                answer.why()
            ))),
            _ => Err(self.session.refused(&answer)),
        }
    }

    async fn post(
        &self,
        name: &TableName,
        requirements: &[TableRequirement],
        updates: &[TableUpdate],
    ) -> Result<Sent> {
        let Some(path) = self.table_path(name).await? else {
            return Err(Error::NotFound(format!("table {name} not found")));
        };
        let invalid = |error: serde_json::Error| Error::Internal(error.to_string());
        let body = json!({
            "identifier": identifier(name),
            "requirements": serde_json::to_value(requirements).map_err(invalid)?,
            "updates": serde_json::to_value(updates).map_err(invalid)?,
        });
        let answer = match self
            .session
            .send(Method::POST, &path, &[], Some(&body))
            .await
        {
            Ok(answer) => answer,
            Err(Failure::NotSent(error)) => return Err(error),
            Err(Failure::Lost(error)) => return Ok(Sent::Unknown(error)),
        };
        Ok(match answer.status {
            200..300 => Sent::Done(answer),
            409 => Sent::Conflict,
            404 => Sent::Missing(answer),
            // Not implemented, so not done.
            501 => return Err(self.session.refused(&answer)),
            408 | 500.. => Sent::Unknown(self.session.refused(&answer)),
            _ => return Err(self.session.refused(&answer)),
        })
    }

    /// The table after a commit that happened. `expected` stands in for an answer that cannot be
    /// read.
    async fn after(
        &self,
        name: &TableName,
        answer: Answer,
        expected: TableMetadata,
    ) -> Result<Table> {
        match self.table_in(name, answer, false).await {
            Ok(table) => Ok(table),
            Err(error) => {
                tracing::warn!(table = %name, %error, "the answer to a commit cannot be read");
                self.table(name, expected, None)
            }
        }
    }

    /// Looks until `verdict` can tell from the newest metadata whether a commit happened.
    async fn look(
        &self,
        name: &TableName,
        verdict: impl Fn(&TableMetadata) -> Option<bool> + Send + Sync,
    ) -> Option<(bool, Table)> {
        for wait_ms in LOOKS_AFTER_MS {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let newest = super::Backend::load(self, name).await;
            if let Ok(Some(table)) = newest
                && let Some(happened) = verdict(table.metadata())
            {
                return Some((happened, table));
            }
        }
        None
    }
}

#[async_trait]
impl Commits for RestBackend {
    async fn newest(&self, name: &TableName) -> Result<Option<Table>> {
        match self.loaded(name).await? {
            Some(answer) => self.table_in(name, answer, true).await.map(Some),
            None => Ok(None),
        }
    }

    async fn commit(
        &self,
        name: &TableName,
        base: &Table,
        updates: Vec<TableUpdate>,
    ) -> Result<Option<Table>> {
        let requirements = requirements(base.metadata(), &updates);
        // What does not fit the table is better said by us.
        let expected = built(name, base.metadata(), None, updates.clone())?.metadata;
        let happened = |newest: &TableMetadata| {
            verdict(base.metadata(), &expected, &updates, &requirements, newest)
        };
        match self.post(name, &requirements, &updates).await? {
            Sent::Done(answer) => self.after(name, answer, expected).await.map(Some),
            Sent::Missing(answer) => Err(Error::NotFound(format!(
                "table {name} is gone ({})",
                answer.why()
            ))),
            // Something between us and the service may have sent it twice.
            Sent::Conflict => match super::Backend::load(self, name).await? {
                Some(table) if happened(table.metadata()) == Some(true) => Ok(Some(table)),
                _ => Ok(None),
            },
            Sent::Unknown(error) => match self.look(name, happened).await {
                Some((true, table)) => Ok(Some(table)),
                Some((false, _)) => Ok(None),
                None => Err(Error::commit_unknown(name, &error)),
            },
        }
    }

    async fn stage(&self, name: &TableName, creation: TableCreation) -> Result<Option<Table>> {
        if self.loaded(name).await?.is_some() {
            return Ok(None);
        }
        self.create(name, creation, true).await
    }

    async fn enter(
        &self,
        name: &TableName,
        staged: &Table,
        updates: Vec<TableUpdate>,
    ) -> Result<Option<Table>> {
        let expected = built(name, staged.metadata(), None, updates.clone())?.metadata;
        let mut all = initial(staged.metadata());
        all.extend(updates);
        let uuid = staged.metadata().uuid();
        // Any table of that name stands in the way of ours.
        let is_ours = |newest: &TableMetadata| Some(newest.uuid() == uuid);
        let requirements = [TableRequirement::NotExist];
        match self.post(name, &requirements, &all).await? {
            Sent::Done(answer) => self.after(name, answer, expected).await.map(Some),
            Sent::Missing(answer) => Err(Error::Refused(format!(
                "{}: it made no table {name} of a staged one ({})",
                self.session.service().label(),
                answer.why()
            ))),
            Sent::Conflict => match super::Backend::load(self, name).await? {
                Some(table) if table.metadata().uuid() == uuid => Ok(Some(table)),
                _ => Ok(None),
            },
            Sent::Unknown(error) => match self.look(name, is_ours).await {
                Some((true, table)) => Ok(Some(table)),
                Some((false, _)) => Ok(None),
                None => Err(Error::commit_unknown(name, &error)),
            },
        }
    }
}

/// `CreateTableRequest`.
fn creation_request(creation: TableCreation, staged: bool) -> Result<Value> {
    let TableCreation {
        name,
        location,
        schema,
        partition_spec,
        sort_order,
        mut properties,
        format_version,
    } = creation;
    let version = (format_version as u8).to_string();
    properties.insert(FORMAT_VERSION.to_owned(), version);
    let mut request = json!({
        "name": name,
        "schema": schema,
        "stage-create": staged,
        "properties": properties,
    });
    if let Some(location) = location {
        request["location"] = json!(location);
    }
    if let Some(spec) = partition_spec {
        request["partition-spec"] = json!(spec);
    }
    if let Some(order) = sort_order {
        request["write-order"] = json!(order);
    }
    Ok(request)
}

/// The updates that make a staged table.
fn initial(staged: &TableMetadata) -> Vec<TableUpdate> {
    let spec = staged.default_partition_spec().as_ref().clone();
    vec![
        TableUpdate::AssignUuid {
            uuid: staged.uuid(),
        },
        TableUpdate::UpgradeFormatVersion {
            format_version: staged.format_version(),
        },
        TableUpdate::AddSchema {
            schema: staged.current_schema().as_ref().clone(),
        },
        TableUpdate::SetCurrentSchema {
            schema_id: LAST_ADDED,
        },
        TableUpdate::AddSpec {
            spec: spec.into_unbound(),
        },
        TableUpdate::SetDefaultSpec {
            spec_id: LAST_ADDED,
        },
        TableUpdate::AddSortOrder {
            sort_order: staged.default_sort_order().as_ref().clone(),
        },
        TableUpdate::SetDefaultSortOrder {
            sort_order_id: i64::from(LAST_ADDED),
        },
        TableUpdate::SetLocation {
            location: staged.location().to_owned(),
        },
        TableUpdate::SetProperties {
            updates: staged.properties().clone(),
        },
    ]
}

/// What a table must still be like for updates that were worked out from `base`.
fn requirements(base: &TableMetadata, updates: &[TableUpdate]) -> Vec<TableRequirement> {
    let mut wanted = vec![TableRequirement::UuidMatch { uuid: base.uuid() }];
    let mut want = |requirement: TableRequirement| {
        if !wanted.contains(&requirement) {
            wanted.push(requirement);
        }
    };
    let same_ref = |name: &str| TableRequirement::RefSnapshotIdMatch {
        r#ref: name.to_owned(),
        snapshot_id: base.snapshot_for_ref(name).map(|s| s.snapshot_id()),
    };
    let same_schema = TableRequirement::CurrentSchemaIdMatch {
        current_schema_id: base.current_schema_id(),
    };
    let same_spec = TableRequirement::DefaultSpecIdMatch {
        default_spec_id: base.default_partition_spec_id(),
    };
    for update in updates {
        match update {
            TableUpdate::AddSchema { schema } => {
                want(TableRequirement::LastAssignedFieldIdMatch {
                    last_assigned_field_id: base.last_column_id(),
                });
                // Rows that come meanwhile may be NULL where that is no longer allowed.
                if is_stricter(schema, base.current_schema()) {
                    want(same_ref(MAIN_BRANCH));
                }
            }
            TableUpdate::SetCurrentSchema { .. } => want(same_schema.clone()),
            TableUpdate::AddSpec { .. } => want(TableRequirement::LastAssignedPartitionIdMatch {
                last_assigned_partition_id: base.last_partition_id(),
            }),
            TableUpdate::SetDefaultSpec { .. } => want(same_spec.clone()),
            TableUpdate::AddSortOrder { .. } | TableUpdate::SetDefaultSortOrder { .. } => {
                want(TableRequirement::DefaultSortOrderIdMatch {
                    default_sort_order_id: base.default_sort_order_id(),
                });
            }
            TableUpdate::SetSnapshotRef { ref_name, .. }
            | TableUpdate::RemoveSnapshotRef { ref_name } => want(same_ref(ref_name)),
            // What is removed must not be in use by now.
            TableUpdate::RemovePartitionSpecs { .. } => {
                want(same_spec.clone());
                want(same_ref(MAIN_BRANCH));
            }
            TableUpdate::RemoveSchemas { .. } => {
                want(same_schema.clone());
                want(same_ref(MAIN_BRANCH));
            }
            _ => {}
        }
    }
    wanted
}

/// Whether a field may be NULL in `base` and not in `schema`.
fn is_stricter(schema: &Schema, base: &Schema) -> bool {
    let ids = base.field_id_to_name_map().keys();
    let mut optional = ids.filter(|id| base.field_by_id(**id).is_some_and(|f| !f.required));
    optional.any(|id| schema.field_by_id(*id).is_some_and(|f| f.required))
}

/// Whether a commit of `updates` to `base`, which was to give `expected`, is part of the history of
/// `newest`. None when that cannot be told yet, or not at all.
fn verdict(
    base: &TableMetadata,
    expected: &TableMetadata,
    updates: &[TableUpdate],
    requirements: &[TableRequirement],
    newest: &TableMetadata,
) -> Option<bool> {
    if newest.uuid() != base.uuid() {
        return None;
    }
    let mut snapshots = updates.iter().filter_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot.snapshot_id()),
        _ => None,
    });
    let added_any = snapshots.clone().next().is_some();
    let happened = match added_any {
        // Ids of snapshots are chosen by chance.
        true => snapshots.all(|id| newest.snapshot_by_id(id).is_some()),
        false => same_state(expected, newest),
    };
    if happened {
        return Some(true);
    }
    // From now on the service has to refuse what was sent; and it has not taken it before, since a
    // snapshot, a schema or a spec of ours would still be there.
    let ruled_out = requirements.iter().any(|r| r.check(Some(newest)).is_err());
    let leaves_a_trace = added_any || !has_all(newest, expected);
    (ruled_out && leaves_a_trace).then_some(false)
}

/// Whether two tables are defined the same and have the same refs.
fn same_state(a: &TableMetadata, b: &TableMetadata) -> bool {
    let refs = |metadata: &TableMetadata| {
        let json = serde_json::to_value(metadata).unwrap_or_default();
        json.get("refs").cloned()
    };
    a.format_version() == b.format_version()
        && a.location() == b.location()
        && a.properties() == b.properties()
        && a.current_schema().as_struct() == b.current_schema().as_struct()
        && a.default_partition_spec().fields() == b.default_partition_spec().fields()
        && a.default_sort_order().fields == b.default_sort_order().fields
        && refs(a) == refs(b)
}

/// Whether `metadata` knows the schema, the spec and the order that `expected` has.
fn has_all(metadata: &TableMetadata, expected: &TableMetadata) -> bool {
    let (schema, spec) = (expected.current_schema(), expected.default_partition_spec());
    let order = expected.default_sort_order();
    metadata
        .schemas_iter()
        .any(|known| known.as_struct() == schema.as_struct())
        && metadata
            .partition_specs_iter()
            .any(|known| known.fields() == spec.fields())
        && metadata
            .sort_orders_iter()
            .any(|known| known.fields == order.fields)
}
