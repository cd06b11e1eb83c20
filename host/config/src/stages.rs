//! The stages of a job, and which needs which.
//!
//! Owns the rules for all stages together: each has its own name, masks have a bit for each, needs exist and form no
//! cycle. Never decides what may run: see the model's `Dag`.

use std::collections::BTreeMap;

use gristmill_model::{
    Condition, DiscoverSpec, Limits, Need, RetryPolicy, STAGES_MAX, StageSpec, StageTuning, When, find_cycle,
};

use crate::check::did_you_mean;
use crate::report::{Problem, Span, quoted};
use crate::resolve::{Resolver, limits};
use crate::yaml::{Node, Value};

/// A stage as the file has it. A stage that is only a name has no fields.
struct Stage<'a> {
    name: &'a str,
    span: Span,
    node: &'a Node,
}

/// A need, and its position in the file.
struct Edge {
    need: Need,
    span: Span,
}

/// Resolves all stages. Stages without a name were reported and are left out.
pub(crate) fn resolve_stages(
    resolver: &mut Resolver<'_>,
    root: &Node,
    discover: Option<&DiscoverSpec>,
) -> (Vec<StageSpec>, Vec<StageTuning>) {
    let Some(list) = root.get("stages") else { return Default::default() };
    let stages: Vec<Stage<'_>> = list.elements().iter().filter_map(stage).collect();
    check_number(list, resolver);
    let indexes = check_names(&stages, resolver);
    let mut edges: Vec<Vec<Edge>> =
        stages.iter().enumerate().map(|(index, stage)| needs(index, stage, &stages, &indexes, resolver)).collect();
    check_cycles(&stages, &mut edges, resolver);
    let specs = stages.iter().zip(edges).map(|(stage, edges)| spec(stage, edges, discover, resolver)).collect();
    let tunings = stages
        .iter()
        .map(|stage| StageTuning {
            limits: limits(stage.node.get("limits"), Limits::default()),
            retry: resolver.retry(stage.node.get("retry"), RetryPolicy::default()),
        })
        .collect();
    (specs, tunings)
}

fn stage(node: &Node) -> Option<Stage<'_>> {
    let name = if node.text().is_some() { node } else { node.get("name")? };
    Some(Stage { name: name.text()?, span: name.span, node })
}

fn check_number(list: &Node, resolver: &mut Resolver<'_>) {
    let nodes = list.elements();
    if let Some(first_beyond) = nodes.get(STAGES_MAX) {
        let message = format!("a job may have at most {STAGES_MAX} stages, this one has {}", nodes.len());
        let problem = Problem::new(first_beyond.span, message);
        resolver.problems.push(problem.hint("do more in one stage, or split the job in two".to_owned()));
    } else if nodes.is_empty() && matches!(list.value, Value::List(_)) {
        resolver.problems.push(Problem::new(list.span, "a job has at least one stage"));
    }
}

/// The index of the stage with each name: of the first one, if two have the same name.
fn check_names<'a>(stages: &[Stage<'a>], resolver: &mut Resolver<'_>) -> BTreeMap<&'a str, usize> {
    let mut indexes = BTreeMap::new();
    for (index, stage) in stages.iter().enumerate() {
        if let Some(&first) = indexes.get(stage.name) {
            let first: &Stage<'_> = &stages[first];
            let problem = Problem::new(stage.span, format!("two stages are called {}", quoted(stage.name)));
            resolver.problems.push(problem.hint(format!("the first is on line {}", first.span.line)));
        } else {
            indexes.insert(stage.name, index);
        }
    }
    indexes
}

fn needs(
    index: usize,
    stage: &Stage<'_>,
    stages: &[Stage<'_>],
    indexes: &BTreeMap<&str, usize>,
    resolver: &mut Resolver<'_>,
) -> Vec<Edge> {
    let Some(list) = stage.node.get("needs") else {
        let before = index.checked_sub(1).map(|stage| Need { stage, output: false });
        return before.map(|need| Edge { need, span: stage.span }).into_iter().collect();
    };
    let mut edges: Vec<Edge> = Vec::new();
    for node in list.elements() {
        let Some((name, span, output)) = need(node) else { continue };
        let fault = match indexes.get(name) {
            None => {
                let others = stages.iter().map(|other| other.name).filter(|other| *other != stage.name);
                let message =
                    format!("stage {} needs {}, which is no stage of this job", quoted(stage.name), quoted(name));
                Problem::new(span, message).hint(did_you_mean(name, others))
            }
            Some(&other) if stages[other].name == stage.name => {
                Problem::new(span, format!("stage {} needs itself", quoted(name)))
            }
            Some(&other) if edges.iter().any(|edge| edge.need.stage == other) => {
                Problem::new(span, format!("stage {} needs {} twice", quoted(stage.name), quoted(name)))
            }
            Some(&other) => {
                edges.push(Edge { need: Need { stage: other, output }, span });
                continue;
            }
        };
        resolver.problems.push(fault);
    }
    edges
}

/// The name in a need, its position, and whether the stage needs the output.
fn need(node: &Node) -> Option<(&str, Span, bool)> {
    match node.entries().first() {
        Some(entry) => Some((&entry.key, entry.span, entry.node.text() == Some("output"))),
        None => Some((node.text()?, node.span, false)),
    }
}

/// Reports cycles, one after the other. The needs along a cycle are removed before the next search, so that this ends.
fn check_cycles(stages: &[Stage<'_>], edges: &mut [Vec<Edge>], resolver: &mut Resolver<'_>) {
    loop {
        let needs: Vec<Vec<usize>> =
            edges.iter().map(|edges| edges.iter().map(|edge| edge.need.stage).collect()).collect();
        let Some(cycle) = find_cycle(&needs) else { return };
        let mut place = None;
        for step in cycle.windows(2) {
            let edges = &mut edges[step[0]];
            let at = edges.iter().position(|edge| edge.need.stage == step[1]);
            place = place.or(at.map(|at| edges.remove(at).span));
        }
        let names: Vec<&str> = cycle.iter().map(|&index| stages[index].name).collect();
        let problem = Problem::new(place, format!("stages need each other in a circle: {}", names.join(" → ")));
        resolver.problems.push(problem.hint("`a → b` says that `a` needs `b`".to_owned()));
    }
}

fn spec(
    stage: &Stage<'_>,
    edges: Vec<Edge>,
    discover: Option<&DiscoverSpec>,
    resolver: &mut Resolver<'_>,
) -> StageSpec {
    let node = stage.node;
    let handler = match (node.get("handler"), discover) {
        (Some(handler), _) => resolver.path(handler),
        (None, Some(discover)) => Some(discover.handler.clone()),
        (None, None) => {
            let message =
                format!("stage {} has no handler, and the job no `discover` to take it from", quoted(stage.name));
            resolver.problems.push(Problem::new(stage.span, message));
            None
        }
    };
    let inputs = node.get("inputs").map_or(&[][..], Node::elements);
    StageSpec {
        name: stage.name.to_owned(),
        handler: handler.unwrap_or_default(),
        needs: edges.into_iter().map(|edge| edge.need).collect(),
        grants: resolver.grants(node.get("grants")),
        inputs: inputs.iter().filter_map(|node| resolver.path(node)).collect(),
        version: node.get("version").and_then(Node::text).map(str::to_owned),
        when: node.get("when").map_or_else(When::default, |node| when(node, resolver)),
    }
}

fn when(node: &Node, resolver: &mut Resolver<'_>) -> When {
    let mut conditions = Vec::new();
    for entry in node.entries() {
        let values = match &entry.node.value {
            Value::List(nodes) if nodes.is_empty() => {
                let message = format!("{} must not be an empty list: no item would be taken", quoted(&entry.key));
                resolver.problems.push(Problem::new(entry.node.span, message));
                continue;
            }
            Value::List(nodes) => nodes.iter().map(Node::to_json).collect(),
            _ => vec![entry.node.to_json()],
        };
        conditions.push(Condition { pointer: entry.key.clone(), values });
    }
    When { conditions }
}
