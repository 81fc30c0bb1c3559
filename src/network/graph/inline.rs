//! Replaces `If` nodes whose condition is constant by the branch that always runs, so that its layers can be tapped.

use std::collections::{HashMap, HashSet};

use super::super::topology::attribute;
use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// Branches inside of branches are followed so deep.
const DEPTH: usize = 8;

/// Puts the nodes of every branch that is always taken in the place of its `If`.
pub(super) fn constant_branches(graph: &mut GraphProto) {
    for _ in 0..DEPTH {
        if !graph.node.iter().any(|node| node.op_type() == "If") || !inline_once(graph) {
            return;
        }
    }
}

/// Whether there was one.
fn inline_once(graph: &mut GraphProto) -> bool {
    let known = conditions(graph);
    let mut found = false;
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let condition = node.input.first().and_then(|input| known.get(input)).copied();
        let taken = condition.filter(|_| node.op_type() == "If").and_then(|condition| {
            attribute(&node, if condition { "then_branch" } else { "else_branch" })?.g.clone()
        });
        match taken {
            Some(branch) if branch.output.len() >= node.output.len() => {
                found = true;
                graph.initializer.extend(replace(&node, branch, &mut nodes));
            }
            _ => nodes.push(node),
        }
    }
    graph.node = nodes;
    found
}

/// The truth of every tensor that is one constant truth.
fn conditions(graph: &GraphProto) -> HashMap<String, bool> {
    let truth = |tensor: &TensorProto| match (&tensor.raw_data, &tensor.int32_data[..]) {
        (Some(bytes), _) if bytes.len() == 1 => Some(bytes[0] != 0),
        (None, &[value]) => Some(value != 0),
        _ => None,
    };
    let inputs: HashSet<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
    let initializers = graph
        .initializer
        .iter()
        // The value of an initializer that is an input as well is a default.
        .filter(|tensor| !inputs.contains(tensor.name()))
        .filter_map(|tensor| Some((tensor.name().to_owned(), truth(tensor)?)));
    let mut known: HashMap<String, bool> = initializers.collect();
    for node in &graph.node {
        let Some(output) = node.output.first() else { continue };
        let value = match node.op_type() {
            "Constant" => attribute(node, "value").and_then(|value| truth(value.t.as_ref()?)),
            "Identity" => node.input.first().and_then(|input| known.get(input)).copied(),
            "Not" => node.input.first().and_then(|input| known.get(input)).map(|value| !value),
            _ => None,
        };
        if let Some(value) = value {
            known.insert(output.clone(), value);
        }
    }
    known
}

/// Adds the nodes of `branch` to `nodes`, and gives its constants. What the branch makes is named after the output of `node`,
/// since other branches may use the same names; its own outputs get the names of the outputs of `node`.
fn replace(node: &NodeProto, branch: GraphProto, nodes: &mut Vec<NodeProto>) -> Vec<TensorProto> {
    let prefix = node.output.first().cloned().unwrap_or_default();
    let made = branch.node.iter().flat_map(|inner| &inner.output).cloned();
    let constants = branch.initializer.iter().map(|tensor| tensor.name().to_owned());
    let names: HashMap<String, String> = made
        .chain(constants)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let new = format!("{prefix}/{name}");
            (name, new)
        })
        .collect();
    for mut inner in branch.node {
        rename(&mut inner, &names);
        nodes.push(inner);
    }
    for (outer, inner) in node.output.iter().zip(&branch.output) {
        let inner = names.get(inner.name()).cloned().unwrap_or_else(|| inner.name().to_owned());
        nodes.push(NodeProto {
            op_type: Some("Identity".to_owned()),
            name: Some(outer.clone()),
            input: vec![inner],
            output: vec![outer.clone()],
            ..Default::default()
        });
    }
    let renamed = |mut tensor: TensorProto| {
        let name = names.get(tensor.name()).cloned();
        tensor.name = name.or(tensor.name);
        tensor
    };
    branch.initializer.into_iter().map(renamed).collect()
}

fn rename(node: &mut NodeProto, names: &HashMap<String, String>) {
    for name in node.input.iter_mut().chain(&mut node.output) {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    }
    for AttributeProto { g, graphs, .. } in &mut node.attribute {
        for graph in g.iter_mut().chain(graphs) {
            graph.node.iter_mut().for_each(|inner| rename(inner, names));
            for output in &mut graph.output {
                if let Some(new) = names.get(output.name()) {
                    output.name = Some(new.clone());
                }
            }
        }
    }
}
