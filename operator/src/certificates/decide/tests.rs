//! Single decisions, and a world in which time goes on, people damage things and watches are late.

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy {
    authority: SignedDuration::from_secs(90),
    leaf: SignedDuration::from_secs(30),
    settle: SignedDuration::from_secs(3),
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn cert(number: u8, ends: i64) -> Cert {
    Cert {
        id: [number; 32],
        starts: Timestamp::MIN,
        ends: at(ends),
    }
}

fn trust(certs: &[Cert]) -> BTreeSet<Id> {
    certs.iter().map(|cert| cert.id).collect()
}

/// CA 1 until 90 and its certificate 10 until 30, both trusted since 0.
fn quiet() -> View {
    let (ca, leaf) = (cert(1, 90), cert(10, 30));
    View {
        authorities: Some(Authorities {
            signing: ca,
            next: None,
            old: Vec::new(),
            old_until: None,
        }),
        leaf: Some(Leaf {
            cert: leaf,
            issuer: Some(ca),
            fits: true,
        }),
        bundles: vec![Some(trust(&[ca])); 2],
        trusted_since: BTreeMap::from([(ca.id, at(0))]),
        found: vec![ca],
    }
}

#[test]
fn nothing_is_done_while_nothing_is_due() {
    let plan = decide(&quiet(), &POLICY, at(10));
    assert_eq!(plan.steps, []);
    assert_eq!(plan.again, at(20), "when two thirds of the certificate's life are over");
}

#[test]
fn the_first_authority_is_trusted_before_its_certificate_is_made() {
    let mut view = View {
        bundles: vec![None, None],
        ..View::default()
    };
    let founded = decide(&view, &POLICY, at(0)).steps;
    assert!(
        matches!(&*founded, [Step::Found { old, .. }] if old.is_empty()),
        "{founded:?}"
    );
    let ca = cert(1, 90);
    view.authorities = Some(Authorities {
        signing: ca,
        next: None,
        old: Vec::new(),
        old_until: None,
    });
    assert_eq!(decide(&view, &POLICY, at(0)).steps, [Step::Publish(trust(&[ca]))]);
    view.bundles = vec![Some(trust(&[ca])); 2];
    // Nothing is served yet, so nothing is gained by waiting.
    assert_eq!(decide(&view, &POLICY, at(0)).steps, [Step::Issue { ends: at(30) }]);
}

#[test]
fn a_deleted_or_misfit_certificate_is_made_again_at_once() {
    for change in [
        (|view: &mut View| view.leaf = None) as fn(&mut View),
        |view| view.leaf.as_mut().unwrap().fits = false,
        |view| view.leaf.as_mut().unwrap().issuer = None,
    ] {
        let mut view = quiet();
        change(&mut view);
        let steps = decide(&view, &POLICY, at(10)).steps;
        assert_eq!(steps, [Step::Issue { ends: at(40) }]);
    }
}

#[test]
fn a_damaged_bundle_is_written_again_and_holds_nothing_else_up() {
    let mut view = quiet();
    for bundle in [None, Some(BTreeSet::new()), Some(trust(&[cert(1, 0), cert(7, 0)]))] {
        view.bundles = vec![bundle, Some(trust(&[cert(1, 0)]))];
        assert_eq!(
            decide(&view, &POLICY, at(10)).steps,
            [Step::Publish(trust(&[cert(1, 0)]))]
        );
    }
    // The entry that is not damaged, and the new authority's absence from no bundle, let the renewal go on.
    view.bundles = vec![Some(trust(&[cert(1, 0), cert(7, 0)]))];
    let steps = decide(&view, &POLICY, at(25)).steps;
    assert_eq!(
        steps,
        [Step::Publish(trust(&[cert(1, 0)])), Step::Issue { ends: at(55) }]
    );
}

#[test]
fn a_lost_authority_is_replaced_and_what_it_signed_stays_trusted() {
    let mut view = quiet();
    view.authorities = None;
    let old = cert(1, 90);
    assert_eq!(
        decide(&view, &POLICY, at(10)).steps,
        [Step::Found {
            old: vec![old.id],
            until: at(30)
        }]
    );
    let new = cert(2, 100);
    view.authorities = Some(Authorities {
        signing: new,
        next: None,
        old: vec![old],
        old_until: Some(at(30)),
    });
    let both = trust(&[old, new]);
    assert_eq!(decide(&view, &POLICY, at(10)).steps, [Step::Publish(both.clone())]);
    view.bundles = vec![Some(both); 2];
    view.trusted_since.insert(new.id, at(11));
    let waiting = decide(&view, &POLICY, at(12));
    assert_eq!((waiting.steps, waiting.again), (vec![], at(14)));
    assert_eq!(decide(&view, &POLICY, at(14)).steps, [Step::Issue { ends: at(44) }]);
}

#[test]
fn an_authority_is_replaced_while_it_still_lives() {
    let mut view = quiet();
    let (old, next) = (cert(1, 90), cert(2, 150));
    view.leaf.as_mut().unwrap().cert.ends = at(80);
    assert_eq!(decide(&view, &POLICY, at(60)).steps, [Step::Prepare]);
    let known = view.authorities.as_mut().unwrap();
    known.next = Some(next);
    assert_eq!(
        decide(&view, &POLICY, at(60)).steps,
        [Step::Publish(trust(&[old, next]))]
    );
    view.bundles = vec![Some(trust(&[old, next])); 2];
    view.trusted_since.insert(next.id, at(61));
    assert_eq!(decide(&view, &POLICY, at(63)).steps, []);
    assert_eq!(
        decide(&view, &POLICY, at(64)).steps,
        [Step::Promote { old_until: at(80) }]
    );
    view.authorities = Some(Authorities {
        signing: next,
        next: None,
        old: vec![old],
        old_until: Some(at(80)),
    });
    assert_eq!(decide(&view, &POLICY, at(64)).steps, [Step::Issue { ends: at(94) }]);
    view.leaf = Some(Leaf {
        cert: cert(11, 94),
        issuer: Some(next),
        fits: true,
    });
    assert_eq!(decide(&view, &POLICY, at(79)).steps, []);
    // The webhook's last replica may have served with the old certificate until now.
    assert_eq!(
        decide(&view, &POLICY, at(80)).steps,
        [Step::Forget, Step::Publish(trust(&[next]))]
    );
}

#[test]
fn what_a_leader_made_whose_clock_was_far_ahead_is_made_again() {
    let mut view = quiet();
    view.leaf.as_mut().unwrap().cert.starts = at(11);
    assert_eq!(decide(&view, &POLICY, at(10)).steps, [Step::Issue { ends: at(40) }]);
    view.authorities.as_mut().unwrap().signing.starts = at(11);
    let steps = decide(&view, &POLICY, at(10)).steps;
    assert!(matches!(&*steps, [Step::Found { .. }]), "{steps:?}");
}

#[test]
fn a_certificate_that_somebody_made_for_a_century_keeps_its_authority_trusted_for_one_life_only() {
    let mut view = quiet();
    view.authorities = None;
    view.leaf.as_mut().unwrap().cert.ends = at(3_000_000_000);
    let ca = cert(1, 3_000_000_000);
    view.leaf.as_mut().unwrap().issuer = Some(ca);
    let steps = decide(&view, &POLICY, at(10)).steps;
    assert_eq!(
        steps,
        [Step::Found {
            old: vec![ca.id],
            until: at(40)
        }]
    );
}

/// One CA or certificate of the world.
#[derive(Clone, Debug)]
struct Signed {
    cert: Cert,
    issuer: Option<Cert>,
}

/// A cluster: what is stored, what API servers know of it, what replicas of the webhook serve.
#[derive(Clone, Debug, Default)]
struct World {
    now: i64,
    made: u8,
    stored: View,
    leaf: Option<Signed>,
    /// Old states of the bundles, by the second they were written; an API server sees those up to its lag.
    written: Vec<(i64, Vec<Bundle>)>,
    served: [Option<Signed>; 2],
    taken_up: [i64; 2],
    /// When somebody last damaged something.
    damaged: i64,
    passes: u32,
}

/// How late watches may be, in seconds.
const LAG: i64 = 2;

impl World {
    fn make(&mut self, ends: Timestamp) -> Cert {
        self.made = self.made.wrapping_add(1);
        Cert {
            id: [self.made; 32],
            starts: at(self.now),
            ends,
        }
    }

    fn view(&mut self) -> View {
        let now = at(self.now);
        let mut view = self.stored.clone();
        view.leaf = self.leaf.as_ref().map(|leaf| Leaf {
            cert: leaf.cert,
            issuer: leaf.issuer,
            fits: true,
        });
        let in_all = |id: &Id| {
            view.bundles
                .iter()
                .all(|bundle| bundle.as_ref().is_some_and(|bundle| bundle.contains(id)))
        };
        let known: Vec<Id> = (0..=self.made).map(|number| [number; 32]).collect();
        for id in known {
            if in_all(&id) {
                view.trusted_since.entry(id).or_insert(now);
            } else {
                view.trusted_since.remove(&id);
            }
        }
        self.stored.trusted_since.clone_from(&view.trusted_since);
        view
    }

    fn apply(&mut self, step: Step) {
        let now = at(self.now);
        match step {
            Step::Found { old, until } => {
                let signing = self.make(after(now, POLICY.authority));
                let mut kept = Vec::new();
                for id in old {
                    // Its end is in its text.
                    kept.push(Cert {
                        id,
                        starts: Timestamp::MIN,
                        ends: until,
                    });
                }
                self.stored.authorities = Some(Authorities {
                    signing,
                    next: None,
                    old: kept,
                    old_until: Some(until),
                });
            }
            Step::Prepare => {
                let next = self.make(after(now, POLICY.authority));
                self.stored.authorities.as_mut().unwrap().next = Some(next);
            }
            Step::Promote { old_until } => {
                let known = self.stored.authorities.as_mut().unwrap();
                let next = known.next.take().unwrap();
                let before = std::mem::replace(&mut known.signing, next);
                known.old.push(before);
                known.old_until = Some(old_until);
            }
            Step::Forget => {
                let known = self.stored.authorities.as_mut().unwrap();
                let copy = known.clone();
                known.old.retain(|old| stays(&copy, old, now));
            }
            Step::Publish(trusted) => {
                for bundle in &mut self.stored.bundles {
                    *bundle = Some(trusted.clone());
                }
                self.written.push((self.now, self.stored.bundles.clone()));
            }
            Step::Issue { ends } => {
                let issuer = self.stored.authorities.as_ref().unwrap().signing;
                let cert = self.make(ends);
                self.leaf = Some(Signed {
                    cert,
                    issuer: Some(issuer),
                });
                for replica in &mut self.taken_up {
                    *replica = self.now;
                }
            }
        }
    }

    /// The operator works until nothing is to be done.
    fn work(&mut self) -> Timestamp {
        for _ in 0..12 {
            let view = self.view();
            let plan = decide(&view, &POLICY, at(self.now));
            if plan.steps.is_empty() {
                return plan.again;
            }
            self.passes += 1;
            for step in plan.steps {
                self.apply(step);
            }
        }
        panic!("it never comes to an end: {self:?}");
    }

    /// What an API server trusts that is `lag` seconds late.
    fn known(&self, lag: i64) -> Vec<Bundle> {
        let seen = self.written.iter().rev().find(|(second, _)| *second + lag <= self.now);
        seen.map(|(_, bundles)| bundles.clone()).unwrap_or_default()
    }

    /// Every API server accepts every replica, however late either is.
    fn check(&self) {
        for lag in 0..=LAG {
            for bundle in self.known(lag) {
                for served in self.served.iter().flatten() {
                    let trusted = bundle
                        .as_ref()
                        .zip(served.issuer)
                        .is_some_and(|(bundle, issuer)| bundle.contains(&issuer.id));
                    assert!(
                        trusted && served.cert.lives(at(self.now)),
                        "at {} an API server {lag} s late refuses {served:?}: {self:?}",
                        self.now
                    );
                }
            }
        }
    }

    /// A second passes. Replicas take up what is stored after their own delay.
    fn tick(&mut self, delays: [i64; 2]) {
        self.now += 1;
        for (replica, delay) in delays.into_iter().enumerate() {
            if self.leaf.is_some() && self.taken_up[replica] + delay <= self.now {
                self.served[replica].clone_from(&self.leaf);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Mischief {
    LoseAuthorities,
    LoseLeaf,
    DamageBundle(usize),
    ForeignBundle(usize),
    /// Another replica leads, which saw nothing yet.
    NewLeader,
    /// Nobody works for some seconds.
    Pause(i64),
}

fn mischief() -> impl Strategy<Value = Mischief> {
    prop_oneof![
        Just(Mischief::LoseAuthorities),
        Just(Mischief::LoseLeaf),
        (0..2usize).prop_map(Mischief::DamageBundle),
        (0..2usize).prop_map(Mischief::ForeignBundle),
        Just(Mischief::NewLeader),
        (1..4i64).prop_map(Mischief::Pause),
    ]
}

impl World {
    fn start() -> Self {
        let mut world = Self {
            stored: View {
                bundles: vec![None, None],
                ..View::default()
            },
            ..Self::default()
        };
        world.work();
        // The first certificate is read before anybody is sent to the webhook.
        for _ in 0..=LAG {
            world.tick([0, 0]);
        }
        world
    }

    fn do_harm(&mut self, harm: &Mischief) {
        match harm {
            Mischief::LoseAuthorities => {
                let known = self.stored.authorities.take();
                // What stands in the bundles can be read there.
                self.stored.found = known.into_iter().map(|known| known.signing).collect();
            }
            Mischief::LoseLeaf => self.leaf = None,
            Mischief::DamageBundle(which) => self.stored.bundles[*which] = None,
            Mischief::ForeignBundle(which) => self.stored.bundles[*which] = Some(BTreeSet::from([[255; 32]])),
            Mischief::NewLeader => self.stored.trusted_since.clear(),
            Mischief::Pause(seconds) => {
                for _ in 0..*seconds {
                    self.tick([LAG, LAG]);
                }
            }
        }
        if let Mischief::DamageBundle(_) | Mischief::ForeignBundle(_) = harm {
            self.written.push((self.now, self.stored.bundles.clone()));
            self.damaged = self.now;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn replicas_are_always_trusted_while_certificates_turn_over(
        harms in proptest::collection::vec((0..80i64, mischief()), 0..6),
        delays in proptest::array::uniform2(0..=LAG),
    ) {
        let mut world = World::start();
        let mut harms = harms.into_iter();
        let mut harm = harms.next();
        let mut quiet = 0;
        for _ in 0..400 {
            if let Some((pause, kind)) = &harm && *pause <= quiet {
                world.do_harm(kind);
                harm = harms.next();
                quiet = 0;
            }
            quiet += 1;
            world.work();
            world.tick(delays);
            // What somebody made of a bundle by hand counts until its repair has reached every API server.
            if world.damaged == 0 || world.now > world.damaged + LAG + 1 {
                world.check();
            }
        }
        // About 20 seconds for a certificate, 60 for an authority, and a handful of repairs.
        prop_assert!(world.passes < 200, "{} passes in 400 seconds", world.passes);
        prop_assert!(world.passes > 15, "{} passes in 400 seconds", world.passes);
    }
}
