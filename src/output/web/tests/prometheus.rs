//! A strict reader of Prometheus' text format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub struct Metric {
    pub kind: String,
    /// Name with suffix, labels, value.
    pub samples: Vec<(String, Labels, f64)>,
}

/// Metrics by name. Panics at whatever the format does not allow, or promtool would complain of.
pub fn parse(text: &str) -> BTreeMap<String, Metric> {
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    let mut series = BTreeSet::new();
    let (mut current, mut helped) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && !metrics.contains_key(name), "{line}");
            helped = name.into();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(helped, name, "HELP comes right before TYPE");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            let new = Metric { kind: kind.into(), samples: Vec::new() };
            assert!(metrics.insert(name.into(), new).is_none(), "{name} twice");
            current = name.into();
        } else {
            let (name, labels, value) = sample(line);
            let metric = metrics.get_mut(&current).unwrap_or_else(|| panic!("no TYPE before {line}"));
            let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{name} among {current}"));
            match metric.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            assert!(series.insert((name.clone(), labels.clone())), "twice: {line}");
            assert!(metric.kind == "gauge" || value >= 0.0, "{line}");
            metric.samples.push((name, labels, value));
        }
    }
    metrics.iter().filter(|(_, m)| m.kind == "histogram").for_each(|(name, m)| check_histogram(name, m));
    metrics
}

fn check_histogram(name: &str, metric: &Metric) {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (_, labels, value) in metric.samples.iter().filter(|s| s.0.ends_with("_bucket")) {
        let mut labels = labels.clone();
        let bound = number(&labels.remove("le").unwrap());
        buckets.entry(labels).or_default().push((bound, *value));
    }
    for (labels, buckets) in buckets {
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {labels:?}: {buckets:?}");
        let last = buckets.last().unwrap();
        assert_eq!(last.0, f64::INFINITY);
        let of = |suffix: &str| {
            let is_it = |s: &&(String, Labels, f64)| s.0 == format!("{name}{suffix}") && s.1 == labels;
            metric.samples.iter().find(is_it).unwrap().2
        };
        assert_eq!(of("_count"), last.1);
        assert!(of("_sum").is_finite());
    }
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        text => {
            assert!(text.starts_with(|c: char| c.is_ascii_digit() || c == '-'), "{text}");
            text.parse().unwrap()
        }
    }
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, more) = rest.split_once("=\"").unwrap();
            assert!(is_name(label), "{line}");
            let (mut value, mut chars) = (String::new(), more.char_indices());
            rest = loop {
                match chars.next().unwrap() {
                    (at, '"') => break &more[at + 1..],
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("\\{c} in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.into(), value).is_none(), "{line}");
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap();
    (name.into(), labels, number(value))
}
