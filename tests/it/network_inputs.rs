//! Inputs whose dimensions are open: where their channels are, and that the features are those of onnxruntime in Python
//! (`scripts/reference/make_input_fixtures.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cnncodes::images::{Preprocess, Preset, TensorLayout};
use cnncodes::network::{Backbone, Catalogue, Graph, SessionSettings};
use predicates::prelude::*;
use predicates::str::contains;

use crate::common::{cnncodes, fixture, python};

const SIDE: usize = 32;

fn path(name: &str) -> PathBuf {
    fixture("fixtures/graphs").join(format!("input_{name}.onnx"))
}

/// The first seeded image, in the layout of `graph`.
fn image(graph: &Graph) -> Vec<f32> {
    let bytes = std::fs::read(fixture("fixtures/graphs/images.f32")).unwrap();
    let nchw: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let pixels = SIDE * SIDE;
    match graph.input().layout {
        TensorLayout::Nchw => nchw[..3 * pixels].to_vec(),
        TensorLayout::Nhwc => (0..3 * pixels).map(|index| nchw[index % 3 * pixels + index / 3]).collect(),
    }
}

#[test]
fn open_dimensions_are_told_by_the_first_convolution_or_the_inputs_name() {
    let text = std::fs::read_to_string(fixture("reference/inputs.json")).unwrap();
    let expected: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
    let layouts = [
        ("pixel_values", TensorLayout::Nchw),
        ("channels_last", TensorLayout::Nhwc),
        ("mean_and_deviation", TensorLayout::Nchw),
        ("by_name", TensorLayout::Nchw),
    ];
    for (name, layout) in layouts {
        let graph = Graph::open(&path(name)).unwrap();
        assert_eq!(graph.input().layout, layout, "{name}");
        assert_eq!((graph.input().height, graph.input().width), (None, None), "{name}");
        let output = graph.outputs().next().unwrap().to_owned();
        let catalogue = Catalogue::of(&graph, &BTreeMap::new());
        let layer = catalogue.find(name, &output).unwrap().clone();
        let settings = SessionSettings { threads: Some(1), ..Default::default() };
        let mut backbone = Backbone::open(&graph, &[layer], (SIDE as u32, SIDE as u32), &settings).unwrap();
        let found: Vec<f32> = backbone.run(&image(&graph)).unwrap()[0].iter().copied().collect();
        for (value, expected) in found.iter().zip(&expected[name]) {
            assert!((value - expected).abs() < 1e-5 * (1.0 + expected.abs()), "{name} {found:?}");
        }
    }
}

#[test]
fn the_layout_is_asked_for_only_if_nothing_in_the_graph_says_it() {
    let folder = tempfile::tempdir().unwrap();
    let add = |file: &Path, options: &[&str]| {
        let mut command = cnncodes(folder.path());
        command
            .args(["models", "add"])
            .arg(file)
            .args(["--preprocess", "tf", "--force"])
            .args(options)
            .assert()
    };
    add(&path("unsaid"), &[]).code(2).stderr(
        contains("does not say where the channels of its input \"image\" are (its shape is ? x ? x ? x ?)")
            .and(contains("--layout nchw")),
    );
    add(&path("unsaid"), &["--layout", "nchw"]).success().stdout(contains("input N x 3 x H x W, tf"));
    // The manifest keeps it, and every later command opens the network with it.
    let layers =
        cnncodes(folder.path()).args(["layers", "input_unsaid", "--format", "json"]).assert().success();
    let layers: serde_json::Value = serde_json::from_slice(&layers.get_output().stdout).unwrap();
    assert_eq!(layers[0]["shape"], serde_json::json!([3]));
    add(&path("unsaid"), &["--layout", "nhwc"]).success().stdout(contains("input N x H x W x 3"));

    add(&path("pixel_values"), &[]).success().stdout(contains("input N x 3 x H x W"));
    add(&path("pixel_values"), &["--layout", "nchw"]).success();
    add(&path("channels_last"), &["--layout", "nchw"])
        .code(2)
        .stderr(contains("the graph says that its input is N x H x W x 3; leave out --layout"));
    add(&path("four_channels"), &[]).success();
}

#[test]
fn normalisation_at_the_beginning_of_a_graph_is_recognised() {
    let inside = |name: &str| Graph::open(&path(name)).unwrap().input_normalisation();
    let close = |found: [f64; 3], expected: [f64; 3]| {
        let near = |(found, expected): (f64, f64)| (found - expected).abs() < 1e-6 * expected.abs();
        assert!(found.into_iter().zip(expected).all(near), "{found:?} {expected:?}");
    };
    let tf = inside("channels_last").unwrap();
    close(tf.scale, [1.0 / 127.5; 3]);
    close(tf.offset, [-1.0; 3]);
    assert!(tf.wants_levels());
    assert_eq!(tf.describe(), "(x - 127.5) / 127.5");
    let imagenet = inside("mean_and_deviation").unwrap();
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    close(imagenet.scale, std.map(|std| 1.0 / (255.0 * std)));
    close(imagenet.offset, std::array::from_fn(|channel| -mean[channel] / std[channel]));
    assert_eq!(imagenet.describe(), "(x - 123.675 116.28 103.53) / 58.395 57.12 57.375");
    for name in ["pixel_values", "by_name"] {
        assert_eq!(inside(name), None, "{name}");
    }
}

/// Networks of one, four and five channels whose first layer gives back what it reads, in three forms, and two photos.
const GREY_NETWORKS: &str = r#"
import numpy as np, os
from PIL import Image
import onnx
from onnx import TensorProto, helper, numpy_helper
one = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "one")
several = [numpy_helper.from_array(np.eye(count, dtype=np.float32).reshape(count, count, 1, 1), f"of{count}") for count in (4, 5)]
def save(name, kind, shape, nodes):
    image = helper.make_tensor_value_info("image", kind, shape)
    result = helper.make_tensor_value_info("seen", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "grey", [image], [result], [one, *several])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), name + ".onnx")
conv = lambda source, weights="one": helper.make_node("Conv", [source, weights], ["seen"], name="conv")
save("planes", TensorProto.FLOAT, ["n", 1, 24, 32], [conv("image")])
save("last", TensorProto.FLOAT, ["n", None, None, 1], [helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]), conv("first")])
save("bytes", TensorProto.UINT8, ["n", None, None, None], [helper.make_node("Cast", ["image"], ["wide"], to=TensorProto.FLOAT), conv("wide")])
save("alpha", TensorProto.FLOAT, ["n", None, 24, 32], [conv("image", "of4")])
save("five", TensorProto.FLOAT, ["n", None, 24, 32], [conv("image", "of5")])
os.mkdir("photos")
for index in range(2):
    random = np.random.default_rng(index)
    Image.fromarray(random.integers(0, 256, (50 + index, 70, 3), np.uint8)).save(f"photos/{index}.png")
"#;

/// What they see is Pillow's, to the bit.
const GREY_IS_PILLOWS: &str = r#"
import h5py, numpy as np
from PIL import Image
levels = [Image.open(f"photos/{index}.png").resize((32, 24), Image.Resampling.BILINEAR).convert("L") for index in range(2)]
levels = np.stack([np.asarray(level, np.float32) for level in levels])
photos = [Image.open(f"photos/{index}.png").resize((32, 24), Image.Resampling.BILINEAR) for index in range(2)]
photos = np.stack([np.asarray(photo, np.float32).transpose(2, 0, 1) for photo in photos])
opaque = np.full((2, 1, 24, 32), 255, np.float32)
alpha = np.concatenate([photos, opaque], 1) / np.float32(127.5) - 1
for name, expected in {"alpha": alpha, "planes": levels / np.float32(127.5) - 1, "last": levels / np.float32(127.5) - 1, "bytes": levels}.items():
    with h5py.File(f"{name}.h5") as file:
        (found,) = [data[()] for data in file["layers"].values()] if "layers" in file else [file["codes"][()]]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected, name)
"#;

#[test]
fn networks_of_one_channel_see_pillows_grey_levels_and_those_of_four_an_opaque_alpha() {
    let folder = tempfile::tempdir().unwrap();
    if !python("a_network_of_one_channel", folder.path(), GREY_NETWORKS) {
        return;
    }
    let levels = ["--divisor", "1", "--mean", "0"];
    for (name, normalisation) in [("planes", &[][..]), ("last", &[]), ("bytes", &levels), ("alpha", &[])] {
        let network = format!("{name}.onnx");
        let mut add = cnncodes(folder.path());
        add.args(["models", "add", &network, "--preprocess", "tf", "--stretch", "--size", "32x24"]);
        let order = if name == "alpha" { "RGB" } else { "GREY" };
        add.args(normalisation).assert().success().stdout(contains(order));
        let output = format!("{name}.h5");
        let mut extract = cnncodes(folder.path());
        extract
            .args(["extract", "photos", "--model", name, "--layer", "seen", "--pool", "none", "-o", &output]);
        extract.assert().success();
    }
    assert!(python("a_network_of_one_channel", folder.path(), GREY_IS_PILLOWS));
    let mut five = cnncodes(folder.path());
    five.args(["models", "add", "five.onnx", "--preprocess", "tf"]);
    five.assert().code(2).stderr(contains("its first convolution reads 5 channels"));
    // Where the colours have several means, alpha has none.
    assert_eq!(Preprocess::preset(Preset::Torchvision).unwrap().opaque_alpha(), 1.0);
    // Colours are no input of a grey network, and grey has one mean.
    let mut several = cnncodes(folder.path());
    several.args([
        "models",
        "add",
        "planes.onnx",
        "--preprocess",
        "torchvision",
        "--size",
        "32x24",
        "--force",
    ]);
    several.assert().code(2).stderr(contains("grey images have one mean and one deviation"));
    let manifest = folder.path().join("models/planes.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("channel_order = \"grey\"", "channel_order = \"rgb\"")).unwrap();
    let mut colours = cnncodes(folder.path());
    colours.args(["extract", "photos", "--model", "planes", "--layer", "seen", "--force"]);
    colours
        .assert()
        .code(2)
        .stderr(contains("the graph reads one channel").and(contains("--channel-order grey")));
}
