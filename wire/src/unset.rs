//! How unset members look: an empty list is `null`, a false flag or empty text is absent, and `null` reads as unset.
//!
//! Older plugins and agents encode an absent list as `null`; a reader that insisted on a list would refuse them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads `null` as the type's default.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Writes an empty list as `null`.
pub(crate) fn empty_is_null<S, T>(list: &[T], serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    T: Serialize,
{
    if list.is_empty() {
        serializer.serialize_none()
    } else {
        list.serialize(serializer)
    }
}

/// For `skip_serializing_if` on flags.
pub(crate) fn is_false(flag: &bool) -> bool {
    !*flag
}

/// For `skip_serializing_if` on numbers where zero means unset.
pub(crate) fn is_zero(number: &i64) -> bool {
    *number == 0
}
