//! Graphs whose convolutions are computed by layers of this program, against ONNX Runtime alone.

use cnncodes::network::graph::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto,
    type_proto,
};
use cnncodes::network::{Backbone, Graph, Layer, SessionSettings, profile::Profile};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

const SIDE: usize = 24;
const IMAGES: usize = 3;

/// An ONNX graph in the making, with seeded weights.
struct Net {
    graph: GraphProto,
    random: Xoshiro256PlusPlus,
}

fn attribute(name: &str, value: &[i64]) -> AttributeProto {
    let single = matches!(name, "group" | "axis" | "ceil_mode" | "keepdims");
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(if single { AttributeType::Int } else { AttributeType::Ints }.into()),
        i: single.then(|| value[0]),
        ints: if single { Vec::new() } else { value.to_vec() },
        ..Default::default()
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::String.into()),
        s: Some(value.as_bytes().to_vec()),
        ..Default::default()
    }
}

/// The layer whose activations are `tensor`.
fn layer(tensor: &str) -> Layer {
    Layer::of_tensor(tensor, "", false)
}

impl Net {
    /// With an input `image`, n x 3 x [`SIDE`] x [`SIDE`], or channels last.
    fn new(channels_last: bool) -> Net {
        let dim = |value| tensor_shape_proto::Dimension { value: Some(value), ..Default::default() };
        let side = || dim(tensor_shape_proto::dimension::Value::DimValue(SIDE as i64));
        let batch = dim(tensor_shape_proto::dimension::Value::DimParam("n".to_owned()));
        let channels = dim(tensor_shape_proto::dimension::Value::DimValue(3));
        let dims = if channels_last {
            vec![batch, side(), side(), channels]
        } else {
            vec![batch, channels, side(), side()]
        };
        let tensor = type_proto::Tensor {
            elem_type: Some(DataType::Float.into()),
            shape: Some(TensorShapeProto { dim: dims }),
        };
        let input = ValueInfoProto {
            name: Some("image".to_owned()),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let graph = GraphProto { name: Some("net".to_owned()), input: vec![input], ..Default::default() };
        Net { graph, random: Xoshiro256PlusPlus::seed_from_u64(1) }
    }

    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> String {
        self.graph.node.push(NodeProto {
            op_type: Some(op.to_owned()),
            name: Some(output.to_owned()),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.to_owned()],
            attribute,
            ..Default::default()
        });
        output.to_owned()
    }

    fn constant(&mut self, name: &str, dims: &[i64], values: Vec<f32>) -> String {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(DataType::Float.into()),
            float_data: values,
            ..Default::default()
        });
        name.to_owned()
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: vec![values.len() as i64],
            data_type: Some(DataType::Int64.into()),
            int64_data: values.to_vec(),
            ..Default::default()
        });
        name.to_owned()
    }

    fn numbers(&mut self, len: usize, from: f32, to: f32) -> Vec<f32> {
        (0..len).map(|_| self.random.random_range(from..to)).collect()
    }

    /// A convolution of `input` to `outputs` channels, with weights that keep numbers of about one size.
    fn conv(
        &mut self,
        input: &str,
        [outputs, inputs_of_group, kernel]: [usize; 3],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> String {
        let count = inputs_of_group * kernel * kernel;
        let bound = (6.0 / count as f32).sqrt();
        let weights = self.numbers(outputs * count, -bound, bound);
        let dims = [outputs, inputs_of_group, kernel, kernel].map(|dim| dim as i64);
        let weights = self.constant(&format!("{output}.weight"), &dims, weights);
        let bias = self.numbers(outputs, -0.3, 0.3);
        let bias = self.constant(&format!("{output}.bias"), &[outputs as i64], bias);
        self.node("Conv", &[input, &weights, &bias], output, attributes)
    }

    /// A 3x3 convolution that keeps the size.
    fn same(&mut self, input: &str, [outputs, inputs]: [usize; 2], output: &str) -> String {
        self.conv(input, [outputs, inputs, 3], output, vec![attribute("pads", &[1; 4])])
    }

    fn relu(&mut self, input: &str) -> String {
        self.node("Relu", &[input], &format!("{input}.relu"), Vec::new())
    }

    /// Normalises a batch of so many channels.
    fn normalise(&mut self, input: &str, channels: usize) -> String {
        let mut names = vec![input.to_owned()];
        for (name, from, to) in
            [("scale", 0.5, 1.5), ("shift", -0.3, 0.3), ("mean", -0.3, 0.3), ("variance", 0.5, 2.0)]
        {
            let values = self.numbers(channels, from, to);
            names.push(self.constant(&format!("{input}.{name}"), &[channels as i64], values));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.node("BatchNormalization", &names, &format!("{input}.normalised"), Vec::new())
    }

    /// A stem that every net starts with: 3 to 96 channels.
    fn stem(&mut self, image: &str) -> String {
        let stem = self.same(image, [96, 3], "stem");
        self.relu(&stem)
    }

    /// The graph with `taps` for its outputs, and the folder of its file.
    fn open(mut self, taps: &[&str]) -> (tempfile::TempDir, Graph) {
        let output = |tap: &&str| ValueInfoProto { name: Some((*tap).to_owned()), ..Default::default() };
        self.graph.output = taps.iter().map(output).collect();
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(13) }],
            graph: Some(self.graph),
            ..Default::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        std::fs::write(&path, model.encode_to_vec()).unwrap();
        let graph = Graph::open(&path).unwrap();
        (folder, graph)
    }

    /// What own layers give for `taps`, which must be used, and ONNX Runtime alone: the same but for rounding.
    fn check(self, what: &str, taps: &[&str]) {
        let channels_last = self.graph.node[0].op_type() == "Transpose";
        let (_folder, graph) = self.open(taps);
        let layers: Vec<Layer> = taps.iter().copied().map(layer).collect();
        let images: Vec<f32> = {
            let len = IMAGES * 3 * SIDE * SIDE;
            let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
            (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
        };
        assert_eq!(channels_last, graph.input().layout == cnncodes::images::TensorLayout::Nhwc);
        let run = |threads: usize, runtime_only: bool| {
            let settings = SessionSettings { threads: Some(threads), runtime_only, ..Default::default() };
            let size = (SIDE as u32, SIDE as u32);
            let mut backbone = Backbone::open(&graph, &layers, size, &settings).unwrap();
            assert_eq!(backbone.own_layers() == 0, runtime_only, "{what}");
            let shapes: Vec<Vec<usize>> = backbone.taps().iter().map(|tap| tap.shape.clone()).collect();
            let features: Vec<Vec<f32>> =
                backbone.run(&images).unwrap().iter().map(|features| features.to_vec()).collect();
            (shapes, features)
        };
        let (shapes, expected) = run(1, true);
        for threads in [1, 2] {
            let (own_shapes, found) = run(threads, false);
            assert_eq!(own_shapes, shapes, "{what}");
            for ((found, expected), tap) in found.iter().zip(&expected).zip(taps) {
                let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                assert_eq!(found.len(), expected.len(), "{what} {tap}");
                for (found, expected) in found.iter().zip(expected) {
                    let error = (found - expected).abs() / largest;
                    assert!(error < 5e-6, "{what} {tap}: {found}, not {expected}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn chains_with_pooling_and_normalisation() {
    let mut net = Net::new(false);
    let x = net.stem("image");
    let x = net.same(&x, [96, 96], "a");
    let x = net.normalise(&x, 96);
    let x = net.relu(&x);
    let x = net.node(
        "MaxPool",
        &[&x],
        "pool",
        vec![attribute("kernel_shape", &[3, 3]), attribute("strides", &[2, 2]), attribute("pads", &[1; 4])],
    );
    let x = net.same(&x, [40, 96], "b");
    let x = net.relu(&x);
    let x = net.node("GlobalAveragePool", &[&x], "mean", Vec::new());
    net.node("Flatten", &[&x], "flat", Vec::new());
    net.check("a chain", &["flat"]);
}

#[test]
fn layers_on_the_way_leave_the_graph_as_they_are() {
    let mut net = Net::new(false);
    let stem = net.stem("image");
    let a = net.same(&stem, [96, 96], "a");
    let a = net.normalise(&a, 96);
    let a = net.relu(&a);
    let b = net.same(&a, [96, 96], "b");
    net.same(&b, [96, 96], "c");
    // The sums of a convolution before its normalisation, a layer that others read, the first and the last.
    net.check("taps", &["a", "stem.relu", "a.normalised.relu", "c"]);
}

#[test]
fn residual_sums_of_every_kind() {
    let mut net = Net::new(false);
    let stem = net.stem("image");
    // With what came in, with another convolution, and with itself.
    let a = net.same(&stem, [96, 96], "a");
    let sum = net.node("Add", &[&a, &stem], "sum.a", Vec::new());
    let sum = net.relu(&sum);
    let b = net.same(&sum, [64, 96], "b");
    let c = net.conv(&sum, [64, 96, 1], "c", Vec::new());
    let sum = net.node("Add", &[&c, &b], "sum.bc", Vec::new());
    let d = net.same(&sum, [64, 64], "d");
    let sum = net.node("Add", &[&d, &d], "sum.dd", Vec::new());
    let sum = net.relu(&sum);
    // With one number for each channel, which is no map of the same size.
    let e = net.same(&sum, [64, 64], "e");
    let mean = net.node("GlobalAveragePool", &[&e], "mean", Vec::new());
    let f = net.same(&e, [64, 64], "f");
    let sum = net.node("Add", &[&f, &mean], "sum.mean", Vec::new());
    // Of two that are both read elsewhere.
    let g = net.same(&sum, [64, 64], "g");
    let h = net.same(&sum, [64, 64], "h");
    let sum = net.node("Add", &[&g, &h], "sum.gh", Vec::new());
    let sum = net.relu(&sum);
    net.node("Concat", &[&sum, &g, &h], "all", vec![attribute("axis", &[1])]);
    net.check("sums", &["all", "sum.mean"]);
}

#[test]
fn bounds_windows_and_paddings() {
    let mut net = Net::new(false);
    let x = net.stem("image");
    let least = net.constant("least", &[], vec![0.0]);
    let most = net.constant("most", &[], vec![0.7]);
    let x = net.same(&x, [96, 96], "a");
    let x = net.node("Clip", &[&x, &least, &most], "a.clip", Vec::new());
    let x =
        net.conv(&x, [96, 96, 3], "b", vec![text("auto_pad", "SAME_UPPER"), attribute("strides", &[2, 2])]);
    let x = net.node("Clip", &[&x, "", &most], "b.clip", Vec::new());
    let x = net.conv(&x, [96, 1, 3], "c", vec![attribute("pads", &[0, 1, 2, 1]), attribute("group", &[96])]);
    let x = net.relu(&x);
    let x = net.conv(&x, [96, 96, 3], "d", vec![attribute("pads", &[2, 0, 0, 2])]);
    let x = net.conv(&x, [96, 96, 2], "e", vec![text("auto_pad", "SAME_LOWER")]);
    net.conv(&x, [50, 96, 3], "f", vec![text("auto_pad", "VALID")]);
    net.check("windows", &["f"]);
}

#[test]
fn what_is_not_known_here_stays_with_the_runtime() {
    let mut net = Net::new(false);
    let x = net.stem("image");
    let x = net.same(&x, [96, 96], "a");
    let x = net.same(&x, [96, 96], "b");
    // Dilated, of three groups, with strides that differ; a pooling that rounds up, and one whose padding fills a window.
    let dilated = net.conv(
        &x,
        [96, 96, 3],
        "dilated",
        vec![attribute("pads", &[2; 4]), attribute("dilations", &[2, 2])],
    );
    let grouped =
        net.conv(&x, [96, 32, 3], "grouped", vec![attribute("pads", &[1; 4]), attribute("group", &[3])]);
    let x = net.node("Concat", &[&dilated, &grouped, &x], "cat", vec![attribute("axis", &[1])]);
    let x = net.same(&x, [96, 288], "c");
    let x = net.node("Sigmoid", &[&x], "c.sigmoid", Vec::new());
    let x = net.conv(&x, [96, 96, 3], "d", vec![attribute("strides", &[1, 2])]);
    let ceil =
        vec![attribute("kernel_shape", &[2, 2]), attribute("strides", &[2, 2]), attribute("ceil_mode", &[1])];
    net.node("MaxPool", &[&x], "pool", ceil);
    net.check("the runtime's", &["pool", "c"]);
}

/// How many layers there are in the place of the graph's own nodes.
fn layers_in(net: Net, tap: &str) -> usize {
    let (_folder, graph) = net.open(&[tap]);
    graph.truncate_for_processor(&[tap], (SIDE as u32, SIDE as u32)).unwrap().ops.len()
}

#[test]
fn the_size_of_a_map_behind_any_operation_is_known() {
    let behind = |convolutions: usize| {
        let mut net = Net::new(false);
        let x = net.stem("image");
        let x = net.same(&x, [96, 96], "a");
        let scales = net.constant("scales", &[4], vec![1.0, 1.0, 2.0, 2.0]);
        let mut x = net.node("Resize", &[&x, "", &scales], "larger", Vec::new());
        for index in 0..convolutions {
            x = net.same(&x, [96, 96], &format!("b{index}"));
        }
        (net, x)
    };
    let (net, last) = behind(3);
    net.check("an enlarged map", &[&last]);
    let count = |convolutions| {
        let (net, last) = behind(convolutions);
        layers_in(net, &last)
    };
    assert_eq!(count(4), count(3) + 1);
}

#[test]
fn a_net_with_hardly_any_3x3_convolutions_stays_with_the_runtime() {
    let net = |others: usize| {
        let mut net = Net::new(false);
        let mut x = net.same("image", [96, 3], "stem");
        x = net.same(&x, [96, 96], "a");
        for index in 0..others {
            x = net.conv(&x, [96, 96, 1], &format!("b{index}"), Vec::new());
        }
        (net, x)
    };
    let (few, last) = net(9);
    assert_ne!(layers_in(few, &last), 0);
    // The 3x3 convolution between 96 channels does 9 of 199 multiply-adds, of which it saves 5.4: less than a twentieth.
    let (many, last) = net(190);
    assert_eq!(layers_in(many, &last), 0);
}

#[test]
fn channels_are_scaled_and_shifted_as_keras_writes_it() {
    let mut net = Net::new(true);
    let x = net.node("Transpose", &["image"], "planes", vec![attribute("perm", &[0, 3, 1, 2])]);
    let mut x = net.same(&x, [96, 3], "stem");
    for (round, name) in ["a", "b", "c"].into_iter().enumerate() {
        let factors = net.numbers(96, 0.5, 1.5);
        let factors = net.constant(&format!("{name}.factors"), &[1, 96, 1, 1], factors);
        let summands = net.numbers(96, -0.3, 0.3);
        let summands = net.constant(&format!("{name}.summands"), &[96, 1, 1], summands);
        let half = net.constant(&format!("{name}.half"), &[], vec![0.5]);
        x = net.node("Mul", &[&x, &factors], &format!("{name}.scaled"), Vec::new());
        x = net.node("Add", &[&summands, &x], &format!("{name}.shifted"), Vec::new());
        x = net.node("Mul", &[&half, &x], &format!("{name}.halved"), Vec::new());
        x = net.relu(&x);
        if round == 1 {
            // Padding by an operation of its own, and a change of form that changes nothing.
            let pads = net.integers("pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
            x = net.node("Pad", &[&x, &pads], "padded", Vec::new());
            let form = net.integers("form", &[-1, 96, SIDE as i64 + 2, SIDE as i64 + 2]);
            x = net.node("Reshape", &[&x, &form], "reshaped", Vec::new());
            let window = vec![attribute("kernel_shape", &[3, 3]), attribute("strides", &[2, 2])];
            x = net.node("MaxPool", &[&x], "pool", window);
        }
        x = net.same(&x, [96, 96], name);
    }
    // By row and by column, which no weight can take in.
    let rows = net.numbers(12, 0.5, 1.5);
    let rows = net.constant("rows", &[12, 1], rows);
    net.node("Mul", &[&x, &rows], "by.row", Vec::new());
    net.check("Keras's way", &["by.row", "b.halved.relu"]);
}

#[test]
fn images_with_channels_last_are_transposed_first() {
    let mut net = Net::new(true);
    let x = net.node("Transpose", &["image"], "planes", vec![attribute("perm", &[0, 3, 1, 2])]);
    let x = net.stem(&x);
    let x = net.same(&x, [96, 96], "a");
    let x = net.same(&x, [96, 96], "b");
    net.node("Transpose", &[&x], "last", vec![attribute("perm", &[0, 2, 3, 1])]);
    net.check("channels last", &["last"]);
}

#[test]
fn the_networks_that_are_fuzzed_have_layers_in_them() {
    let path = crate::common::fixture("fixtures/fuzz/network/convolutions.onnx");
    let graph = Graph::open(&path).unwrap();
    let last = graph.outputs().next().unwrap();
    let cut = graph.truncate_for_processor(&[last], (64, 64)).unwrap();
    assert!(cut.ops.len() > 5, "{} layers", cut.ops.len());
    assert_eq!(graph.truncate(&[last]).unwrap().ops.len(), 0);
}

#[test]
fn weights_that_are_passed_on_are_weights() {
    let of = |passed_on: usize| {
        let mut net = Net::new(false);
        let weights = net.numbers(8 * 27, -0.2, 0.2);
        let mut name = net.constant("weights", &[8, 3, 3, 3], weights);
        for pass in 0..passed_on {
            name = net.node("Identity", &[&name], &format!("pass.{pass}"), Vec::new());
        }
        let conv = net.node("Conv", &["image", &name], "conv", vec![attribute("pads", &[1; 4])]);
        let (_folder, graph) = net.open(&[&conv]);
        assert!(graph.is_constant(&name) && !graph.is_constant("image") && !graph.is_constant(&conv));
        let size = (SIDE as u32, SIDE as u32);
        (Profile::measure(&graph, &[layer(&conv)], size).unwrap().total(), graph.constant_shape(&name))
    };
    for passed_on in [0, 1, 3] {
        assert_eq!(of(passed_on), ((8 * 27 * SIDE * SIDE) as u64, Some(vec![8, 3, 3, 3])), "{passed_on}");
    }
}

#[test]
fn constants_that_enlarge_a_map_leave_its_size_unknown() {
    let mut net = Net::new(false);
    let stem = net.stem("image");
    let wide = net.same(&stem, [32, 96], "wide");
    let pooled = net.node("GlobalAveragePool", &[&wide], "pooled", Vec::new());
    let values = net.numbers(32 * 7 * 7, -1.0, 1.0);
    let grid = net.constant("grid", &[1, 32, 7, 7], values);
    // 1 x 1 becomes 7 x 7.
    let sum = net.node("Add", &[&pooled, &grid], "sum", Vec::new());
    let after = net.same(&sum, [32, 32], "after");
    let values = net.numbers(32, -1.0, 1.0);
    let shift = net.constant("shift", &[32, 1, 1], values);
    let shifted = net.node("Mul", &[&shift, &after], "shifted", Vec::new());
    let last = net.same(&shifted, [16, 32], "last");
    net.check("a constant that enlarges", &[&wide, &last]);
}
