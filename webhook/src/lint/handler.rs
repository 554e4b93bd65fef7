//! The API server's question about a workload, and the answer.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use spiderpool_crds::conf::AnnotationPolicy;

use super::{Lint, Mistake, lint};
use crate::review::{Answer, Review, cause, shortened};

/// Path of the questions.
pub const PATH: &str = "/validate-workloads";

/// Groups of the kinds that are looked at. Other groups have kinds of the same names.
const GROUPS: [&str; 3] = ["", "apps", "batch"];

/// Most mistakes of one object that a refusal names. The next are named when these are mended.
const MOST_TOLD: usize = 10;
/// Most characters of a value that a refusal repeats.
const MOST_QUOTED: usize = 200;

/// Answers about workloads and pods.
pub fn router(policy: AnnotationPolicy) -> Router {
    Router::new().route(PATH, post(review)).with_state(policy)
}

async fn review(State(policy): State<AnnotationPolicy>, review: Review) -> Response {
    let answer = answer(policy, &review);
    review.reply(answer)
}

fn answer(policy: AnnotationPolicy, review: &Review) -> Answer {
    let known = GROUPS.contains(&review.kind.group.as_str());
    let Some(object) = review.object.as_ref().filter(|_| known) else {
        return Answer::allowed();
    };
    let Lint { errors, warnings } = lint(&review.kind.kind, object, review.old_object.as_ref());
    match (policy, errors.first()) {
        (AnnotationPolicy::Enforce, Some(first)) => {
            let rule = first.rule;
            let refused = |Mistake {
                               field, value, message, ..
                           }: &Mistake| {
                let value = shortened(value, MOST_QUOTED);
                cause(
                    "FieldValueInvalid",
                    field,
                    format!("Invalid value: {value:?}: {message}"),
                )
            };
            let causes = errors.iter().take(MOST_TOLD).map(refused).collect();
            let more = errors.iter().skip(MOST_TOLD).map(Mistake::to_string);
            Answer::invalid(review, rule, causes).warn(more.chain(warnings))
        }
        (AnnotationPolicy::Enforce | AnnotationPolicy::Warn, _) => {
            let mistakes = errors.iter().map(Mistake::to_string);
            Answer::allowed().warn(mistakes.chain(warnings))
        }
    }
}
