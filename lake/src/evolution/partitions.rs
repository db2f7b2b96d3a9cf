//! Partitioning files that are written from now on in another way (specification, "Partition
//! Evolution"). Files that are there keep the spec that they were written with.
//!
//! - A field that is dropped is left out of the new spec. In version 1 manifests know the fields of a
//!   partition by their places: there it stays, with the transform `void`.
//! - A field that any spec has had before, of the same column by the same transform, gets its id back,
//!   and its name unless another is given.
//! - A spec that was there before becomes the default one again, and no new one is made.

use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, NestedFieldRef, PartitionField, PartitionSpecRef, TableMetadata, Transform,
    UnboundPartitionSpec,
};

use super::{Draft, LAST_ADDED, PartitionChoice, PartitionKey};
use crate::{Error, Result};

/// The id of the first partition field of a table; those of version 1 follow each other.
const FIRST_ID: i32 = 1_000;

/// The highest id of a partition field that a table ever had.
pub(super) fn last_id(metadata: &TableMetadata) -> i32 {
    let specs = metadata.partition_specs_iter();
    let ids = specs.filter_map(|spec| spec.highest_field_id());
    ids.fold(metadata.last_partition_id().max(FIRST_ID - 1), i32::max)
}

impl Draft<'_> {
    pub(super) fn add_partition(&mut self, key: &PartitionKey, name: Option<&str>) -> Result<()> {
        self.check_known_transforms()?;
        let source = self.source(key)?;
        self.check_redundant(key, source.id)?;
        let known = self.known_field(source.id, key.transform, name);
        let known_name = known.as_ref().map(|field| field.name.clone());
        let name = name.map(str::to_owned).or(known_name);
        let name = name.unwrap_or_else(|| field_name(&key.column, key.transform));
        self.check_name(&name, key.transform, source.id)?;
        // Where version 1 kept it.
        let kept = known.as_ref().and_then(|known| {
            let mut fields = self.spec.iter();
            fields.position(|field| field.field_id == known.field_id)
        });
        self.free_name(&name, kept)?;
        let (source_id, transform) = (source.id, key.transform);
        if let Some(field) = kept.and_then(|at| self.spec.get_mut(at)) {
            (field.name, field.transform) = (name, transform);
            return Ok(());
        }
        let field_id = match known.filter(|_| self.version() > FormatVersion::V1) {
            Some(known) => known.field_id,
            None => self.next_id()?,
        };
        self.spec.push(PartitionField {
            source_id,
            field_id,
            name,
            transform,
        });
        Ok(())
    }

    pub(super) fn drop_partition(&mut self, choice: &PartitionChoice) -> Result<()> {
        self.check_known_transforms()?;
        let at = self.chosen(choice)?;
        let Some(field) = self.spec.get(at).cloned() else {
            return Ok(());
        };
        if self.version() > FormatVersion::V1 {
            self.spec.remove(at);
            return Ok(());
        }
        let refused = |why: &str| {
            Err(Error::Conflict(format!(
                "partition field {} cannot be dropped: {why}",
                field.name
            )))
        };
        if field.transform == Transform::Void {
            return refused("it was, and format version 1 keeps it as one that is always NULL");
        }
        let mut others = self.spec.iter();
        // The library that reads and writes manifests takes them for one field.
        if others.any(|o| o.source_id == field.source_id && o.transform == Transform::Void) {
            return refused(
                "format version 1 keeps dropped fields, and there is one of the same column \
                 already; raise the version with SET TBLPROPERTIES ('format-version' = '2')",
            );
        }
        // Only a field that is the column itself may have its name.
        let is_columns = self.schema()?.field_by_name(&field.name).is_some();
        if let Some(field) = self.spec.get_mut(at) {
            field.transform = Transform::Void;
            if is_columns {
                field.name = format!("{}_{}", field.name, field.field_id);
            }
        }
        Ok(())
    }

    pub(super) fn replace_partition(
        &mut self,
        old: &PartitionChoice,
        key: &PartitionKey,
        name: Option<&str>,
    ) -> Result<()> {
        let at = self.chosen(old)?;
        let source = self.source(key)?;
        let same = self
            .spec
            .get(at)
            .filter(|field| field.source_id == source.id && field.transform == key.transform);
        if same.is_none() {
            self.drop_partition(old)?;
            return self.add_partition(key, name);
        }
        // The same field under another name.
        if let Some(name) = name {
            self.check_known_transforms()?;
            self.check_name(name, key.transform, source.id)?;
            self.free_name(name, Some(at))?;
            if let Some(field) = self.spec.get_mut(at) {
                field.name = name.to_owned();
            }
        }
        Ok(())
    }

    /// Refuses the name of a new or renamed column that a partition field has. A name that is there
    /// since before (`id`) may be that of the field which is the column itself.
    pub(super) fn check_partition_names(&self, name: &str, id: Option<i32>) -> Result<()> {
        let own = |field: &PartitionField| {
            field.transform == Transform::Identity && Some(field.source_id) == id
        };
        let now = self.spec.iter().find(|f| f.name == name && !own(f));
        let mut schemas = self.metadata.schemas_iter();
        let is_old = schemas.any(|schema| schema.field_by_name(name).is_some());
        let specs = self.metadata.partition_specs_iter();
        let mut before = specs.flat_map(|spec| spec.fields());
        let before = before.any(|field| field.name == name && !own(field)) && !is_old;
        match now.is_some() || before {
            true => Err(Error::Conflict(format!(
                "a column cannot be called {name}: {} partition field has that name",
                match now.is_some() {
                    true => "a",
                    false => "an older",
                }
            ))),
            false => Ok(()),
        }
    }

    /// The updates that make the spec the default one.
    pub(super) fn spec_updates(&self) -> Result<Vec<TableUpdate>> {
        let current = self.metadata.default_partition_spec();
        if current.fields() == self.spec {
            return Ok(vec![]);
        }
        if let Some(known) = self.same_spec() {
            let spec_id = known.spec_id();
            return Ok(vec![TableUpdate::SetDefaultSpec { spec_id }]);
        }
        let ids = self.metadata.partition_specs_iter();
        let highest = ids.map(|spec| spec.spec_id()).max().unwrap_or(0);
        let fields = self.spec.iter().cloned();
        let spec = UnboundPartitionSpec::builder()
            .with_spec_id(highest + 1)
            .add_partition_fields(fields.map(PartitionField::into_unbound))
            .map_err(|error| Error::Conflict(error.message().to_owned()))?
            .build();
        Ok(vec![
            TableUpdate::AddSpec { spec },
            TableUpdate::SetDefaultSpec {
                spec_id: LAST_ADDED,
            },
        ])
    }

    /// The spec that is the same but for the ids of its fields, of which there must not be a second.
    fn same_spec(&self) -> Option<&PartitionSpecRef> {
        let mut specs = self.metadata.partition_specs_iter();
        specs.find(|spec| {
            let mut pairs = spec.fields().iter().zip(&self.spec);
            spec.fields().len() == self.spec.len()
                && pairs.all(|(a, b)| {
                    (a.source_id, &a.name, a.transform) == (b.source_id, &b.name, b.transform)
                })
        })
    }

    /// The column that a partition field is derived from.
    fn source(&self, key: &PartitionKey) -> Result<NestedFieldRef> {
        let PartitionKey { column, transform } = key;
        let schema = self.schema()?;
        let Some(source) = schema.field_by_name(column) else {
            let hint = crate::catalog::hint(column, self.fields.iter().map(|f| &f.name));
            return Err(Error::NotFound(format!(
                "there is no column {column}{hint}"
            )));
        };
        let ty = &source.field_type;
        let fits = ty.is_primitive() && transform.result_type(ty).is_ok();
        match fits && crate::write::path_of(&schema, source.id).is_some() {
            true => Ok(source.clone()),
            false => Err(Error::Conflict(format!(
                "a table cannot be partitioned by {transform} of column {column}, which is {ty}{}",
                match fits {
                    true => " inside a list or map",
                    false => "",
                }
            ))),
        }
    }

    /// Java's API refuses two transforms to time of one column that are added together; the library
    /// that reads and writes manifests refuses them altogether.
    fn check_redundant(&self, key: &PartitionKey, source_id: i32) -> Result<()> {
        let PartitionKey { column, transform } = key;
        let mut of_column = self.spec.iter().filter(|f| f.source_id == source_id);
        let Some(other) = of_column.find(|f| f.transform.dedup_name() == transform.dedup_name())
        else {
            return Ok(());
        };
        let name = &other.name;
        match other.transform == *transform {
            true => Err(Error::Exists(format!(
                "the table is partitioned by {transform} of column {column} already: partition field \
                 {name}"
            ))),
            false => Err(Error::Conflict(format!(
                "partition field {name} is {} of column {column}, and {transform} of it would say the \
                 same more or less finely; use REPLACE PARTITION FIELD {name} WITH {transform}({column})",
                other.transform
            ))),
        }
    }

    fn check_known_transforms(&self) -> Result<()> {
        let mut fields = self.spec.iter();
        match fields.find(|field| field.transform == Transform::Unknown) {
            Some(field) => Err(Error::Conflict(format!(
                "the partitioning cannot be changed: nothing is known of the transform of partition \
                 field {}",
                field.name
            ))),
            None => Ok(()),
        }
    }

    /// The newest field of any spec that is derived in the same way; one of the wanted name rather
    /// than others.
    fn known_field(
        &self,
        source_id: i32,
        transform: Transform,
        name: Option<&str>,
    ) -> Option<PartitionField> {
        let mut specs: Vec<_> = self.metadata.partition_specs_iter().collect();
        specs.sort_by_key(|spec| std::cmp::Reverse(spec.spec_id()));
        let fields = specs.iter().flat_map(|spec| spec.fields());
        let mut same = fields.filter(|f| f.source_id == source_id && f.transform == transform);
        let first = same.clone().next();
        let named = same.find(|field| Some(field.name.as_str()) == name);
        named.or(first).cloned()
    }

    /// An id that no field had. Those of version 1 have to follow each other within a spec.
    fn next_id(&mut self) -> Result<i32> {
        let next = match self.version() {
            FormatVersion::V1 => i32::try_from(self.spec.len()).ok().map(|n| FIRST_ID + n),
            _ => self.last_partition_id.checked_add(1),
        };
        let next = next.ok_or_else(|| {
            Error::Conflict("the table has no ids for partition fields left".to_owned())
        })?;
        let specs = self.metadata.partition_specs_iter();
        let mut taken = specs.flat_map(|spec| spec.fields());
        if taken.any(|field| field.field_id == next) {
            return Err(Error::Conflict(
                "an older spec of the table has another partition field in the place of the new one, \
                 which format version 1 cannot tell apart; raise it with SET TBLPROPERTIES \
                 ('format-version' = '2')"
                    .to_owned(),
            ));
        }
        self.last_partition_id = self.last_partition_id.max(next);
        Ok(next)
    }

    /// Refuses a partition field's name that a column has, unless it is that column.
    fn check_name(&self, name: &str, transform: Transform, source_id: i32) -> Result<()> {
        let schema = self.schema()?;
        match schema.field_by_name(name) {
            Some(column) if transform != Transform::Identity || column.id != source_id => {
                Err(Error::Conflict(format!(
                    "a partition field cannot be called {name} as a column is; give it another name \
                     with AS"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that no field but that at `own` has a name. One that version 1 keeps gives its name
    /// away.
    fn free_name(&mut self, name: &str, own: Option<usize>) -> Result<()> {
        let mut fields = self.spec.iter_mut().enumerate();
        let Some((_, field)) = fields.find(|(at, f)| f.name == name && Some(*at) != own) else {
            return Ok(());
        };
        match field.transform {
            Transform::Void => {
                field.name = format!("{name}_{}", field.field_id);
                Ok(())
            }
            _ => Err(Error::Exists(format!(
                "partition field {name} exists already"
            ))),
        }
    }

    /// The place of the field that is meant.
    fn chosen(&self, choice: &PartitionChoice) -> Result<usize> {
        let place = |wanted: &dyn Fn(&PartitionField) -> bool| self.spec.iter().position(wanted);
        let derived = |column: &str, transform: Transform| {
            let source = self.schema().ok()?.field_by_name(column)?.id;
            place(&|field| field.source_id == source && field.transform == transform)
        };
        let (found, wanted) = match choice {
            PartitionChoice::Name(name) => (
                place(&|field| field.name == *name).or_else(|| derived(name, Transform::Identity)),
                name.clone(),
            ),
            PartitionChoice::Key(PartitionKey { column, transform }) => (
                derived(column, *transform),
                format!("{transform} of column {column}"),
            ),
        };
        found.ok_or_else(|| {
            // Version 1 cannot let go of void ones.
            let is_first = self.version() == FormatVersion::V1;
            let fields = self.spec.iter();
            let fields = fields.filter(|f| !is_first || f.transform != Transform::Void);
            let names: Vec<&str> = fields.map(|field| field.name.as_str()).collect();
            Error::NotFound(match names.is_empty() {
                true => format!("there is no partition field {wanted}: the table has none"),
                false => format!(
                    "there is no partition field {wanted}; the table has {}",
                    names.join(", ")
                ),
            })
        })
    }
}

/// The names that Java's API gives.
fn field_name(column: &str, transform: Transform) -> String {
    match transform {
        Transform::Bucket(count) => format!("{column}_bucket_{count}"),
        Transform::Truncate(width) => format!("{column}_trunc_{width}"),
        Transform::Year => format!("{column}_year"),
        Transform::Month => format!("{column}_month"),
        Transform::Day => format!("{column}_day"),
        Transform::Hour => format!("{column}_hour"),
        _ => column.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::super::{Alteration, updates};
    use super::*;
    use serde_json::{Value, json};

    fn table(version: u8) -> TableMetadata {
        serde_json::from_value(json!({
            "format-version": version, "table-uuid": "9c12d441-03fe-4693-9a96-a0705ddf69c1",
            "location": "file:///t", "last-sequence-number": 0, "last-updated-ms": 0,
            "last-column-id": 3, "current-schema-id": 0, "next-row-id": 0,
            "schema": schema(), "schemas": [schema()],
            "default-spec-id": 0, "partition-spec": [day()],
            "partition-specs": [{"spec-id": 0, "fields": [day()]}],
            "last-partition-id": 1000, "default-sort-order-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}],
        }))
        .unwrap()
    }

    fn schema() -> Value {
        json!({"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "id", "required": false, "type": "long"},
            {"id": 2, "name": "ts", "required": false, "type": "timestamp"},
            {"id": 3, "name": "name", "required": false, "type": "string"},
        ]})
    }

    fn day() -> Value {
        json!({"name": "ts_day", "transform": "day", "source-id": 2, "field-id": 1000})
    }

    fn key(column: &str, transform: Transform) -> PartitionKey {
        PartitionKey {
            column: column.to_owned(),
            transform,
        }
    }

    fn add(column: &str, transform: Transform, name: Option<&str>) -> Alteration {
        Alteration::AddPartitionField {
            key: key(column, transform),
            name: name.map(str::to_owned),
        }
    }

    fn drop(name: &str) -> Alteration {
        Alteration::DropPartitionField(PartitionChoice::Name(name.to_owned()))
    }

    fn replace(old: &str, column: &str, transform: Transform, name: Option<&str>) -> Alteration {
        Alteration::ReplacePartitionField {
            old: PartitionChoice::Name(old.to_owned()),
            key: key(column, transform),
            name: name.map(str::to_owned),
        }
    }

    fn altered(metadata: TableMetadata, changes: &[Alteration]) -> Result<TableMetadata> {
        let updates = updates(&metadata, changes)?;
        let mut builder = metadata.into_builder(None);
        for update in updates {
            builder = update.apply(builder).unwrap();
        }
        Ok(builder.build().unwrap().metadata)
    }

    /// The default spec: its id, and id, name and transform of each field.
    fn spec(metadata: &TableMetadata) -> String {
        let spec = metadata.default_partition_spec();
        let fields = spec.fields().iter();
        let fields = fields.map(|f| format!(" {}:{}:{}", f.field_id, f.name, f.transform));
        format!("{}{}", spec.spec_id(), fields.collect::<String>())
    }

    /// Changes one after another, and the specs that they lead to.
    fn check(version: u8, steps: &[(Alteration, &str)]) -> TableMetadata {
        let mut metadata = table(version);
        for (change, expected) in steps {
            metadata = altered(metadata, std::slice::from_ref(change)).unwrap();
            assert_eq!(
                spec(&metadata),
                *expected,
                "{change:?} in version {version}"
            );
        }
        metadata
    }

    fn refused(version: u8, changes: &[Alteration], part: &str) {
        let error = altered(table(version), changes).unwrap_err().to_string();
        assert!(error.contains(part), "{part} is missing in {error}");
    }

    #[test]
    fn fields_come_go_and_get_their_ids_back() {
        for version in [2, 3] {
            let bucket = Transform::Bucket(16);
            let metadata = check(
                version,
                &[
                    (
                        add("id", bucket, None),
                        "1 1000:ts_day:day 1001:id_bucket_16:bucket[16]",
                    ),
                    (drop("ts_day"), "2 1001:id_bucket_16:bucket[16]"),
                    (
                        add("name", Transform::Truncate(2), Some("start")),
                        "3 1001:id_bucket_16:bucket[16] 1002:start:truncate[2]",
                    ),
                    (
                        add("ts", Transform::Day, None),
                        "4 1001:id_bucket_16:bucket[16] 1002:start:truncate[2] 1000:ts_day:day",
                    ),
                    (
                        replace("start", "name", Transform::Truncate(2), Some("head")),
                        "5 1001:id_bucket_16:bucket[16] 1002:head:truncate[2] 1000:ts_day:day",
                    ),
                    (
                        drop("head"),
                        "6 1001:id_bucket_16:bucket[16] 1000:ts_day:day",
                    ),
                    (drop("id_bucket_16"), "0 1000:ts_day:day"),
                    (
                        replace("ts_day", "ts", Transform::Hour, None),
                        "7 1003:ts_hour:hour",
                    ),
                    (drop("ts_hour"), "8"),
                    (add("ts", Transform::Day, Some("d")), "9 1000:d:day"),
                    (replace("d", "ts", Transform::Day, None), "9 1000:d:day"),
                ],
            );
            assert_eq!(metadata.last_partition_id(), 1003);
        }
    }

    #[test]
    fn version_1_keeps_dropped_fields_in_their_place() {
        let metadata = check(
            1,
            &[
                (
                    add("id", Transform::Identity, None),
                    "1 1000:ts_day:day 1001:id:identity",
                ),
                (drop("ts_day"), "2 1000:ts_day:void 1001:id:identity"),
                (
                    add("ts", Transform::Day, None),
                    "1 1000:ts_day:day 1001:id:identity",
                ),
                (
                    replace("ts_day", "ts", Transform::Hour, Some("ts_day")),
                    "3 1000:ts_day_1000:void 1001:id:identity 1002:ts_day:hour",
                ),
            ],
        );
        let error = altered(metadata.clone(), &[drop("ts_day")]).unwrap_err();
        assert!(error.to_string().contains("raise the version"), "{error}");
        let error = altered(metadata.clone(), &[drop("ts_day_1000")]).unwrap_err();
        assert!(error.to_string().contains("always NULL"), "{error}");
        let gone = altered(metadata.clone(), &[drop("id")]).unwrap();
        let kept = "4 1000:ts_day_1000:void 1001:id_1001:void 1002:ts_day:hour";
        assert_eq!(spec(&gone), kept);
        let back = altered(gone, &[add("id", Transform::Identity, None)]).unwrap();
        assert_eq!(spec(&back), spec(&metadata));
        // Version 2 lets go of them.
        let version = [("format-version".to_owned(), "2".to_owned())];
        let upgrade = Alteration::SetProperties(version.into());
        let changes = [upgrade, drop("ts_day"), drop("ts_day_1000")];
        let metadata = altered(metadata, &changes).unwrap();
        assert_eq!(spec(&metadata), "4 1001:id:identity");
        let metadata = altered(metadata, &[add("ts", Transform::Day, None)]).unwrap();
        assert_eq!(spec(&metadata), "5 1001:id:identity 1000:ts_day:day");
    }

    #[test]
    fn what_would_be_wrong_is_refused() {
        for version in [1, 2, 3] {
            let identity = Transform::Identity;
            for (change, part) in [
                (
                    add("ts", Transform::Day, None),
                    "already: partition field ts_day",
                ),
                (
                    add("ts", Transform::Hour, None),
                    "REPLACE PARTITION FIELD ts_day",
                ),
                (add("nam", identity, None), "did you mean name"),
                (add("id", Transform::Day, None), "which is long"),
                (
                    add("id", Transform::Bucket(4), Some("name")),
                    "as a column is",
                ),
                (
                    add("id", Transform::Bucket(4), Some("ts_day")),
                    "ts_day exists already",
                ),
                (drop("day"), "the table has ts_day"),
            ] {
                refused(version, &[change], part);
            }
        }
    }

    #[test]
    fn columns_do_not_take_the_names_of_partition_fields() {
        let rename = |from: &str, to: &str| Alteration::RenameColumn {
            from: from.to_owned().into(),
            to: to.to_owned(),
        };
        refused(
            2,
            &[rename("id", "ts_day")],
            "a partition field has that name",
        );
        let dropped = altered(table(2), &[drop("ts_day")]).unwrap();
        let error = altered(dropped, &[rename("id", "ts_day")]).unwrap_err();
        assert!(error.to_string().contains("an older partition"), "{error}");
        // A column that is a partition field keeps that under its new name, and may come back.
        let identity = altered(table(2), &[add("id", Transform::Identity, None)]).unwrap();
        let renamed = altered(identity, &[rename("id", "key")]).unwrap();
        assert_eq!(spec(&renamed), "1 1000:ts_day:day 1001:id:identity");
        let error = altered(renamed.clone(), &[rename("name", "id")]).unwrap_err();
        assert!(error.to_string().contains("a partition field"), "{error}");
        assert!(altered(renamed.clone(), &[rename("key", "id")]).is_ok());
        // By the column's new name too.
        let gone = altered(renamed, &[drop("key")]).unwrap();
        assert_eq!(spec(&gone), "0 1000:ts_day:day");
    }

    #[test]
    fn a_column_may_go_with_its_partition_field() {
        let column = Alteration::DropColumn {
            name: "ts".to_owned().into(),
            if_exists: false,
        };
        refused(2, std::slice::from_ref(&column), "partitioned by it");
        let gone = altered(table(2), &[drop("ts_day"), column.clone()]).unwrap();
        assert_eq!(spec(&gone), "1");
        refused(1, &[drop("ts_day"), column], "format version 1 keeps");
    }
}
