//! To come.
use crate::{catalog::Table, row::RowError};
/// x
pub fn row_to_json(_t: &Table, _r: &[u8]) -> Result<serde_json::Value, RowError> {
    Ok(serde_json::Value::Null)
}
/// x
pub fn value_to_json(_v: rulemill_wire::ValueRef<'_>) -> serde_json::Value {
    serde_json::Value::Null
}
