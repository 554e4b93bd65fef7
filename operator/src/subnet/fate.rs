//! What becomes of an automatic pool, given what its application asks for now.
//!
//! | application | reclaim | pool |
//! |---|---|---|
//! | asks for it | | serves; of several, the one of this application's UID, then the one in the better subnet |
//! | is another of the same name | true | removed; its successor gets a pool of its own |
//! | is another of the same name, the pods of the earlier one stay | true | serves as if it were its own |
//! | is another of the same name | false | serves as if it were its own |
//! | does not ask for it any more | true | drained: gives up free addresses, then goes; but not before another pool serves |
//! | is gone | true | removed, once its pods are on their way out |
//! | does not ask any more, or is gone | false | kept |
//! | asks unclearly, or is of a kind that is not watched | | kept |

use spiderpool_ipam::Family;

use crate::application::{Application, Asked, Slot};

/// What matters of a pool here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Name of its subnet.
    pub subnet: String,
    /// UID of the application it was made for.
    pub uid: String,
    /// Whether it goes with its application.
    pub reclaim: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// What is known of a pool's application.
#[derive(Clone, Copy, Debug)]
pub enum AppSeen<'a> {
    /// Its kind is not watched.
    Unwatched,
    /// It is not there.
    Gone,
    /// It is there.
    Is(&'a Application),
}

/// What becomes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It serves its application.
    Serve,
    /// It stays as it is.
    Keep,
    /// It gives up addresses as they come free, and goes when it has none in use.
    Drain,
    /// It is deleted, once a live read has confirmed that its application is gone.
    Remove,
}

/// Whether pods have addresses of a pool whose application is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// None but those on their way out.
    No,
    /// Pods that will be deleted because their application was.
    Going,
    /// Pods that nobody deletes.
    Staying,
}

/// The pool that serves a slot, among all pools of that slot. `hold` is asked about pools of an earlier application.
pub fn home<'a>(
    app: &Application,
    slot: &Slot,
    siblings: &'a [PoolView],
    hold: impl Fn(&PoolView) -> Hold,
) -> Option<&'a PoolView> {
    let usable = |pool: &PoolView| pool.uid == app.uid || !pool.reclaim || hold(pool) == Hold::Staying;
    siblings
        .iter()
        .filter(|pool| !pool.terminating && usable(pool))
        .filter_map(|pool| {
            let rank = slot.subnets.iter().position(|name| *name == pool.subnet)?;
            Some(((pool.uid != app.uid, rank, &pool.name), pool))
        })
        .min_by(|(a, _), (b, _)| a.cmp(b))
        .map(|(_, pool)| pool)
}

/// The fate of a pool for an interface and family, among all pools of that slot.
pub fn fate(
    pool: &PoolView,
    nic: &str,
    family: Family,
    app: AppSeen<'_>,
    siblings: &[PoolView],
    hold: impl Fn(&PoolView) -> Hold,
) -> Fate {
    if pool.terminating {
        return Fate::Keep;
    }
    let app = match app {
        AppSeen::Unwatched => return Fate::Keep,
        AppSeen::Gone if pool.reclaim && hold(pool) == Hold::No => return Fate::Remove,
        AppSeen::Gone => return Fate::Keep,
        AppSeen::Is(app) => app,
    };
    if pool.uid != app.uid && pool.reclaim {
        match hold(pool) {
            Hold::No => return Fate::Remove,
            Hold::Going => return Fate::Keep,
            Hold::Staying => {}
        }
    }
    let slot = match &app.asked {
        Asked::Unclear(_) => return Fate::Keep,
        Asked::Nothing => None,
        Asked::Pools(request) => request.slot(nic, family),
    };
    let served = slot.map(|slot| home(app, slot, siblings, &hold));
    match served {
        Some(Some(serving)) if serving.name == pool.name => Fate::Serve,
        // Its pods have no other pool yet.
        Some(None) => Fate::Keep,
        Some(Some(_)) | None if pool.reclaim => Fate::Drain,
        Some(Some(_)) | None => Fate::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::Request;
    use spiderpool_crds::annotations::{self, IpNumber};
    use spiderpool_crds::app::AppKey;

    fn app(asked: Asked) -> Application {
        Application {
            key: AppKey::new("apps/v1", "Deployment", "ns", "shop"),
            uid: "new".to_owned(),
            since: None,
            terminating: false,
            asked,
        }
    }

    fn asks(subnets: &[&str]) -> Application {
        app(Asked::Pools(Request {
            number: IpNumber::Fixed(1),
            size: 1,
            beyond_limit: None,
            stuck: None,
            reclaim: true,
            slots: vec![Slot {
                nic: "eth0".to_owned(),
                family: Family::V4,
                subnets: subnets.iter().map(|name| (*name).to_owned()).collect(),
            }],
        }))
    }

    fn unclear() -> Application {
        let broken = [(spiderpool_crds::names::ANNOTATION_SUBNET.to_owned(), "{".to_owned())];
        app(Asked::Unclear(annotations::subnet_request(&broken.into()).unwrap_err()))
    }

    fn pool(name: &str, subnet: &str, uid: &str, reclaim: bool) -> PoolView {
        PoolView {
            name: name.to_owned(),
            subnet: subnet.to_owned(),
            uid: uid.to_owned(),
            reclaim,
            terminating: false,
        }
    }

    fn fates(app: AppSeen<'_>, pools: &[PoolView]) -> Vec<Fate> {
        pools
            .iter()
            .map(|pool| fate(pool, "eth0", Family::V4, app, pools, |_| Hold::No))
            .collect()
    }

    #[test]
    fn a_pool_that_is_asked_for_serves() {
        let app = asks(&["a"]);
        assert_eq!(fates(AppSeen::Is(&app), &[pool("p", "a", "new", true)]), [Fate::Serve]);
    }

    #[test]
    fn table_of_successors() {
        let app = asks(&["a"]);
        assert_eq!(fates(AppSeen::Is(&app), &[pool("p", "a", "old", true)]), [Fate::Remove]);
        assert_eq!(fates(AppSeen::Is(&app), &[pool("p", "a", "old", false)]), [Fate::Serve]);
        let both = [pool("p", "a", "old", true), pool("q", "a", "old2", false)];
        assert_eq!(fates(AppSeen::Is(&app), &both), [Fate::Remove, Fate::Serve]);
    }

    #[test]
    fn pods_that_stay_bring_their_pool_to_the_successor() {
        let app = asks(&["a"]);
        let old = [pool("p", "a", "old", true)];
        let fate_when = |app, held| fate(&old[0], "eth0", Family::V4, app, &old, |_| held);
        assert_eq!(fate_when(AppSeen::Is(&app), Hold::Staying), Fate::Serve);
        assert_eq!(fate_when(AppSeen::Is(&app), Hold::Going), Fate::Keep);
        assert_eq!(fate_when(AppSeen::Is(&app), Hold::No), Fate::Remove);
        assert_eq!(fate_when(AppSeen::Gone, Hold::Staying), Fate::Keep);
        assert_eq!(fate_when(AppSeen::Gone, Hold::Going), Fate::Keep);
    }

    #[test]
    fn a_pool_of_its_own_goes_before_an_inherited_one() {
        let app = asks(&["a"]);
        let both = [pool("p", "a", "old", false), pool("q", "a", "new", true)];
        assert_eq!(fates(AppSeen::Is(&app), &both), [Fate::Keep, Fate::Serve]);
    }

    #[test]
    fn an_application_stays_where_its_pool_is() {
        let app = asks(&["a", "b"]);
        assert_eq!(fates(AppSeen::Is(&app), &[pool("p", "b", "new", true)]), [Fate::Serve]);
    }

    #[test]
    fn after_a_move_the_old_pool_waits_for_the_new_one() {
        let app = asks(&["b"]);
        let old = pool("p", "a", "new", true);
        assert_eq!(fates(AppSeen::Is(&app), std::slice::from_ref(&old)), [Fate::Keep]);
        let moved = [old, pool("q", "b", "new", true)];
        assert_eq!(fates(AppSeen::Is(&app), &moved), [Fate::Drain, Fate::Serve]);
        let kept = [pool("p", "a", "new", false), pool("q", "b", "new", false)];
        assert_eq!(fates(AppSeen::Is(&app), &kept), [Fate::Keep, Fate::Serve]);
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_drained() {
        let app = app(Asked::Nothing);
        assert_eq!(fates(AppSeen::Is(&app), &[pool("p", "a", "new", true)]), [Fate::Drain]);
        assert_eq!(fates(AppSeen::Is(&app), &[pool("p", "a", "new", false)]), [Fate::Keep]);
    }

    #[test]
    fn a_typing_error_takes_nothing_away() {
        let app = unclear();
        assert_eq!(fates(AppSeen::Is(&app), &[pool("p", "a", "new", true)]), [Fate::Keep]);
    }

    #[test]
    fn without_its_application_a_pool_goes_if_it_may() {
        assert_eq!(fates(AppSeen::Gone, &[pool("p", "a", "x", true)]), [Fate::Remove]);
        assert_eq!(fates(AppSeen::Gone, &[pool("p", "a", "x", false)]), [Fate::Keep]);
        assert_eq!(fates(AppSeen::Unwatched, &[pool("p", "a", "x", true)]), [Fate::Keep]);
        let mut going = pool("p", "a", "x", true);
        going.terminating = true;
        assert_eq!(fates(AppSeen::Gone, &[going]), [Fate::Keep]);
    }
}
