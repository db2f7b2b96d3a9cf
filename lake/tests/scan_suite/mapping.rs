//! Columns of files without field ids are found by the name mapping, and only by it.

use std::sync::Arc;

use datafusion::prelude::SessionContext;

use crate::expected::rows;
use crate::tables::without_ids;

async fn sums(mapping: &str) -> Vec<Option<String>> {
    let (_directory, table, stores) = without_ids(mapping).await;
    let ctx = SessionContext::new();
    stores.register(&ctx.runtime_env());
    ctx.register_table("t", Arc::clone(&table) as _).unwrap();
    let sql = "SELECT sum(a), sum(b), count(a), count(b), count(*) FROM t";
    let batches = ctx.sql(sql).await.unwrap().collect().await.unwrap();
    rows(&batches).remove(0)
}

fn values(values: [&str; 5]) -> Vec<Option<String>> {
    let null = |v: &str| (v != "NULL").then(|| v.to_string());
    values.into_iter().map(null).collect()
}

/// The file's columns look exactly like the table's; all the same the mapping decides.
#[tokio::test]
async fn a_mapping_may_swap_names() {
    let swapped = r#"[{"field-id":1,"names":["b"]},{"field-id":2,"names":["a"]}]"#;
    assert_eq!(sums(swapped).await, values(["30", "3", "2", "2", "2"]));
    let plain = r#"[{"field-id":1,"names":["a"]},{"field-id":2,"names":["b"]}]"#;
    assert_eq!(sums(plain).await, values(["3", "30", "2", "2", "2"]));
}

#[tokio::test]
async fn names_that_are_not_mapped_read_as_null() {
    let one = r#"[{"field-id":1,"names":["a"]}]"#;
    assert_eq!(sums(one).await, values(["3", "NULL", "2", "0", "2"]));
    assert_eq!(sums("[]").await, values(["NULL", "NULL", "0", "0", "2"]));
}
