//! What the cluster tests share.

use std::time::Duration;

use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};

/// Long enough for a slow machine; a test that meets it has failed.
pub const LIMIT: Duration = Duration::from_secs(30);

/// An f32 table that adds what is pushed.
pub fn spec(id: u16, store: StoreKind, aggregation: Aggregation, width: u32) -> TableSpec {
    TableSpec {
        id,
        name: format!("table {id}"),
        value_type: ValueType::F32,
        width,
        store,
        function: FunctionSpec { name: "add".into(), params: serde_json::Value::Null },
        aggregation,
    }
}
