//! Grafana's dashboards and the rules, put to a real Prometheus that scrapes nodes under load: every query gives data, and what goes
//! wrong is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parlance_redis_rig::Server;
use parlance_tests::prometheus::Prometheus;
use parlance_tests::{Gateway, Options};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::dashboards_load::{Load, trouble};

/// Debug builds of everything on a machine that does something else besides.
const PATIENCE: Duration = Duration::from_secs(90);
/// What Grafana puts in for the time it shows.
const TIMES: [(&str, &str); 3] = [("$__rate_interval", "20s"), ("$__range", "1m"), ("$__interval", "5s")];

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/parlance")
}

/// The query as Grafana sends it for somebody who has chosen everything.
fn filled_in(query: &str, variables: &[String]) -> Result<String> {
    let mut text =
        TIMES.iter().fold(query.to_owned(), |text, (variable, value)| text.replace(variable, value));
    for name in variables {
        text = text.replace(&format!("${name}"), ".*");
    }
    ensure!(!text.contains('$'), "a variable that the dashboard does not have: {text}");
    Ok(text)
}

/// Every query of every dashboard, by where it stands.
fn queries() -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let mut files = 0;
    for entry in std::fs::read_dir(chart().join("dashboards"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        files += 1;
        let dashboard: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let list = dashboard["templating"]["list"].as_array().context("no variables")?;
        let variables: Vec<String> =
            list.iter().filter_map(|one| one["name"].as_str()).map(str::to_owned).collect();
        for panel in dashboard["panels"].as_array().context("no panels")? {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{}: {} {}", dashboard["title"], panel["title"], target["refId"]);
                let query = target["expr"].as_str().context("no query")?;
                all.insert(place, filled_in(query, &variables)?);
            }
        }
    }
    ensure!(files == 4 && all.len() > 80, "{files} dashboards with {} queries", all.len());
    Ok(all)
}

/// What the variables of the dashboards choose from: metrics and their labels.
fn choices() -> Result<BTreeSet<(String, String)>> {
    let mut all = BTreeSet::new();
    for name in ["overview", "dialects", "redis", "slo"] {
        let text = std::fs::read(chart().join(format!("dashboards/{name}.json")))?;
        let dashboard: Value = serde_json::from_slice(&text)?;
        for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
            let Some(query) = variable["definition"].as_str() else { continue };
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inside.and_then(|inside| inside.rsplit_once(", ")).context("no label")?;
            let metric = metric.split('{').next().unwrap_or_default();
            all.insert((metric.to_owned(), label.to_owned()));
        }
    }
    Ok(all)
}

/// Waits until each query gives at least one number, and says which do not.
async fn until_all_give_data(prometheus: &Prometheus, mut open: BTreeMap<String, String>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut without = BTreeMap::new();
        for (place, query) in open {
            let series = prometheus.query(&query).await.with_context(|| place.clone())?;
            // A quantile of nothing, and a share of nothing, are no data either.
            if !series.iter().any(|(_, value)| value.is_finite()) {
                without.insert(place, query);
            }
        }
        if without.is_empty() {
            return Ok(());
        }
        let list: String = without.iter().map(|(place, query)| format!("{place}: {query}\n")).collect();
        ensure!(Instant::now() < deadline, "{} queries give no data:\n{list}", without.len());
        open = without;
        sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until an expression gives a series; what it gives.
async fn until_some(prometheus: &Prometheus, expression: &str) -> Result<Vec<(Value, f64)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let series = prometheus.query(expression).await?;
        if !series.is_empty() {
            return Ok(series);
        }
        ensure!(Instant::now() < deadline, "nothing: {expression}");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn node(redis: &Server, extra: &[(&str, &str)]) -> Result<Gateway> {
    let options = Options::default()
        .env("PARLANCE_REDIS_URL", &redis.url())
        .env("PARLANCE_TIMINGS_TYPING_TTL_MS", "1000");
    Gateway::start(extra.iter().fold(options, |options, (name, value)| options.env(name, value))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_gives_data_under_load_and_trouble_is_seen() -> Result<()> {
    let redis = Server::standalone().await?;
    // An outbox shows nothing of itself where there is none.
    let free = [("PARLANCE_NO_LIMITS", "true"), ("PARLANCE_OUTBOX_STREAM", "outbox")];
    let (a, b) = (node(&redis, &free).await?, node(&redis, &free).await?);
    // As shipped, with its limits.
    let strict = node(&redis, &[("PARLANCE_LIMITS_OUTBOX_BYTES", "65536")]).await?;
    let rules = [chart().join("rules/parlance.yaml").canonicalize()?];
    let targets = [&a, &b, &strict].map(Gateway::internal_address);
    let Some(prometheus) = Prometheus::start(&rules, &targets).await? else { return Ok(()) };

    let load = Load::start(&a, &b).await?;
    let mut all = queries()?;
    for (metric, label) in choices()? {
        // There is no namespace here; the choice of all then means that there need not be one.
        if label != "namespace" {
            all.insert(
                format!("choice of {label}"),
                format!("count by ({label}) ({metric}{{{label}!=\"\"}})"),
            );
        }
    }
    all.extend(recorded(&prometheus).await?);
    until_all_give_data(&prometheus, all).await?;
    load.went_well().await?;

    trouble(&strict).await?;
    let node = format!("instance=\"{}\"", strict.internal_address());
    // Also the first of each is an increase: every series was there before.
    for seen in [
        format!("sum(increase(parlance_token_failures_total{{{node}}}[1m])) > 0"),
        format!("sum(increase(parlance_refusals_total{{{node}}}[1m])) > 0"),
        format!("sum(increase(parlance_rate_limited_total{{{node},dialect=\"famly\"}}[1m])) > 0"),
        format!("sum(increase(parlance_slow_consumers_total{{{node}}}[1m])) > 0"),
        "sum(increase(parlance_forwarded_total[5m])) > 0".to_owned(),
    ] {
        until_some(&prometheus, &seen).await?;
    }
    // A node that is gone is missed, and an alert is on its way.
    let gone = b.internal_address().to_owned();
    drop(b);
    let alert = until_some(&prometheus, "ALERTS{alertname=\"ParlanceNodeDown\"}").await?;
    ensure!(alert.len() == 1 && alert[0].0["instance"] == gone.as_str(), "{alert:?}");
    Ok(())
}

/// What the rules record, as Prometheus itself has read them, which must have met no error.
async fn recorded(prometheus: &Prometheus) -> Result<BTreeMap<String, String>> {
    let read = prometheus.ask("/api/v1/rules").await?;
    let groups = read["groups"].as_array().context("no groups")?;
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array()).flatten().collect();
    let (recording, alerting): (Vec<&Value>, Vec<&Value>) =
        rules.into_iter().partition(|rule| rule["type"] == "recording");
    ensure!(alerting.len() > 20 && recording.len() >= 10, "{read}");
    let mut all = BTreeMap::new();
    for rule in recording {
        let name = rule["name"].as_str().context("no name")?.to_owned();
        all.insert(format!("rule {name}"), name);
    }
    // An alert has no data while all is well; that it can be asked for is tried all the same.
    for rule in alerting {
        prometheus.query(rule["query"].as_str().context("no query")?).await?;
    }
    Ok(all)
}

#[test]
fn a_variable_that_is_not_there_is_noticed() {
    let variables = ["job".to_owned()];
    assert_eq!(filled_in("a{job=~\"$job\"}[$__range]", &variables).unwrap(), "a{job=~\".*\"}[1m]");
    assert!(filled_in("a{node=~\"$node\"}", &variables).is_err());
}
