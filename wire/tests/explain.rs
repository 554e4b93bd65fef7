//! The JSON of explanations, which tools read.

use spiderpool_wire::{ExplainedAddress, Explanation, FamilyExplanation, PoolExplanation};

#[test]
fn an_explanation_is_written_without_what_is_not_there() {
    let pool = |name: &str, verdict: &str, reason: &str| PoolExplanation {
        name: name.to_owned(),
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
    };
    let explanation = Explanation {
        pod_namespace: "retail".to_owned(),
        pod_name: "shop-1".to_owned(),
        pod_uid: "u".to_owned(),
        node: "n1".to_owned(),
        nic: "eth0".to_owned(),
        level: "IPPool".to_owned(),
        origin: "annotation".to_owned(),
        families: vec![FamilyExplanation {
            version: 4,
            asked: vec!["a".to_owned(), "b".to_owned()],
            would_get: Some(ExplainedAddress {
                address: "10.77.1.10".to_owned(),
                ip_pool: "b".to_owned(),
            }),
            pools: vec![
                pool("b", PoolExplanation::CHOSEN, ""),
                pool("a", "Disabled", "Disabled: IPPool a is disabled"),
            ],
            ..FamilyExplanation::default()
        }],
        ..Explanation::default()
    };
    let text = r#"{"podNamespace":"retail","podName":"shop-1","podUID":"u","node":"n1","nic":"eth0","level":"IPPool","origin":"annotation","families":[{"version":4,"asked":["a","b"],"wouldGet":{"address":"10.77.1.10","ipPool":"b"},"pools":[{"name":"b","verdict":"Chosen"},{"name":"a","verdict":"Disabled","reason":"Disabled: IPPool a is disabled"}]}]}"#;
    assert_eq!(serde_json::to_string(&explanation).unwrap(), text);
    assert_eq!(serde_json::from_str::<Explanation>(text).unwrap(), explanation);
}
