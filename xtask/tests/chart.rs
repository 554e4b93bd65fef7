//! The chart's version is the workspace's: the images that it asks for are tagged with it.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chart {
    version: String,
    app_version: String,
}

#[test]
fn the_chart_has_the_version_of_the_workspace() {
    let file = xtask::paths::checkout().join("charts/spiderpool/Chart.yaml");
    let chart: Chart = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(chart.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(chart.app_version, env!("CARGO_PKG_VERSION"));
}
