//! The three kinds that are completed and judged, each by the rules of [`spiderpool_crds::admission`].

use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use spiderpool_crds::admission::{self, Outcome, Settings, complete};
use spiderpool_crds::{SpiderIPPool, SpiderReservedIP, SpiderSubnet};

use crate::review::{Answer, Operation, Review, cause};
use crate::world::World;

/// A kind that is completed and judged.
pub(crate) trait Judged:
    Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Fills in what is missing. Gives what the object's author should look at.
    fn complete(&mut self, world: &World, settings: Settings) -> impl Future<Output = Vec<String>> + Send;

    /// Judges the object, which replaces an `old` one or is new.
    fn judge(&self, old: Option<&Self>, world: &World, settings: Settings) -> impl Future<Output = Outcome> + Send;

    /// Judges the deletion of the object.
    fn judge_deletion(&self, settings: Settings) -> Outcome;
}

impl Judged for SpiderSubnet {
    async fn complete(&mut self, _: &World, _: Settings) -> Vec<String> {
        complete::subnet(self)
    }

    async fn judge(&self, old: Option<&Self>, world: &World, settings: Settings) -> Outcome {
        world.judge_subnet(self, old, settings).await
    }

    fn judge_deletion(&self, settings: Settings) -> Outcome {
        admission::subnet_deletion(self, settings)
    }
}

impl Judged for SpiderIPPool {
    async fn complete(&mut self, world: &World, settings: Settings) -> Vec<String> {
        let subnet = world.adopting(self, settings).await;
        let subnets: Vec<&SpiderSubnet> = subnet.as_deref().into_iter().collect();
        complete::pool(self, &subnets, settings)
    }

    async fn judge(&self, old: Option<&Self>, world: &World, settings: Settings) -> Outcome {
        world.judge_pool(self, old, settings).await
    }

    fn judge_deletion(&self, settings: Settings) -> Outcome {
        admission::pool_deletion(self, settings)
    }
}

impl Judged for SpiderReservedIP {
    async fn complete(&mut self, _: &World, _: Settings) -> Vec<String> {
        complete::reserved(self)
    }

    async fn judge(&self, old: Option<&Self>, world: &World, settings: Settings) -> Outcome {
        world.judge_reserved(self, old, settings)
    }

    fn judge_deletion(&self, _: Settings) -> Outcome {
        Outcome::default()
    }
}

/// Completes an object. What cannot be read is left to those who refuse it, with better words than this program has.
pub(crate) async fn completed<K: Judged>(review: &Review, world: &World, settings: Settings) -> Answer {
    let object = match (review.operation, &review.object) {
        (Operation::Create | Operation::Update, Some(object)) => object,
        _ => return Answer::allowed(),
    };
    let Ok(before) = K::deserialize(object) else {
        return Answer::allowed();
    };
    let mut after = before.clone();
    let warnings = after.complete(world, settings).await;
    match (serde_json::to_value(&before), serde_json::to_value(&after)) {
        (Ok(before), Ok(after)) => Answer::patched(changes(&before, &after)).warn(warnings),
        _ => Answer::allowed(),
    }
}

/// The members of metadata and spec that were filled in or changed, as operations of a JSON patch. Each is written whole; all others
/// stay as they were sent.
fn changes(before: &Value, after: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    for part in ["metadata", "spec"] {
        for (name, value) in after[part].as_object().into_iter().flatten() {
            if before[part].get(name) != Some(value) {
                // In a patch this replaces what is there.
                operations.push(json!({"op": "add", "path": format!("/{part}/{name}"), "value": value}));
            }
        }
    }
    operations
}

/// Judges what happens to an object.
pub(crate) async fn judged<K: Judged>(review: &Review, world: &World, settings: Settings) -> Answer {
    let outcome = match review.operation {
        Operation::Connect => Outcome::default(),
        // What cannot be read must go away all the same.
        Operation::Delete => match old::<K>(review) {
            Ok(Some(old)) => old.judge_deletion(settings),
            Ok(None) | Err(_) => Outcome::default(),
        },
        Operation::Create | Operation::Update => match (new::<K>(review), old::<K>(review)) {
            (Ok(new), Ok(old)) => new.judge(old.as_ref(), world, settings).await,
            (Err(why), _) | (_, Err(why)) => return Answer::refused(review, "readable", 400, "BadRequest", why),
        },
    };
    let answer = match outcome.broken().next() {
        None => Answer::allowed(),
        Some(rule) => refusal::<K>(review, rule.name(), &outcome),
    };
    answer.warn(outcome.warnings)
}

fn new<K: Judged>(review: &Review) -> Result<K, String> {
    let object = review.object.as_ref();
    let object = object.ok_or_else(|| format!("the {} is missing from the request", K::kind(&())))?;
    K::deserialize(object).map_err(|error| unreadable::<K>(review, &error))
}

fn old<K: Judged>(review: &Review) -> Result<Option<K>, String> {
    let object = review.old_object.as_ref();
    if object.is_none() && review.operation == Operation::Update {
        return Err(format!(
            "what the {} replaces is missing from the request",
            K::kind(&())
        ));
    }
    let old = object.map(K::deserialize).transpose();
    old.map_err(|error| unreadable::<K>(review, &error))
}

fn unreadable<K: Judged>(review: &Review, error: &serde_json::Error) -> String {
    format!("failed to read {} {}: {error}", K::kind(&()), review.called())
}

fn refusal<K: Judged>(review: &Review, rule: &'static str, outcome: &Outcome) -> Answer {
    if outcome.refusal.is_none() {
        let causes = outcome.errors.iter();
        let causes = causes.map(|error| cause(error.kind.cause(), &error.field, error.detail()));
        return Answer::invalid(review, rule, causes.collect());
    }
    Answer::refused(
        review,
        rule,
        i32::from(outcome.code()),
        outcome.reason(),
        outcome.message(),
    )
}
