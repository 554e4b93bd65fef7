//! Names of automatic pools.

use crate::addr::Family;

/// Longest name of a Kubernetes object.
const NAME_MAX: usize = 253;

/// How many characters of the application's UID the name carries.
const SUFFIX_LEN: usize = 5;

/// The name of an application's pool: `auto4-shop-eth0-e07fc`.
///
/// The suffix is the first five characters of the last part of the application's UID. A long application name is cut so
/// that the whole name is a legal object name.
pub fn pool_name(app: &str, family: Family, nic: &str, uid: &str) -> String {
    let tail = uid.rsplit('-').next().unwrap_or_default();
    let suffix: String = tail.chars().take(SUFFIX_LEN).collect();
    let head = format!("auto{}", family.number());
    let dashes = 3;
    let room = NAME_MAX.saturating_sub(head.len() + nic.len() + suffix.len() + dashes);
    let mut name = app;
    if app.len() > room {
        let boundary = (0..=room).rev().find(|at| app.is_char_boundary(*at));
        name = app.get(..boundary.unwrap_or(0)).unwrap_or_default();
        // A dot before the next dash would not be a legal object name.
        name = name.trim_end_matches(['.', '-']);
    }
    format!("{head}-{name}-{nic}-{suffix}").to_ascii_lowercase()
}
