//! What the fuzzers do with bytes: the program's readers must neither panic, nor hang, nor take memory without bound.
//!
//! Plain functions, so that the test suite runs them over its seeds and libFuzzer over millions of inputs. Each says
//! whether the bytes were taken.

use std::path::Path;

use cnncodes::dataset::{Dataset, ImageArray, SourceOptions, count_images};
use cnncodes::features::FeatureFile;
use cnncodes::hdf5::Hdf5;
use cnncodes::head::Head;
use cnncodes::images::{DecodeOptions, Preprocess, PreprocessOverrides, Preset, TensorLayout, decode, sniff};
use cnncodes::network::{Catalogue, Graph, class_scores};

/// An image file: decoded and, where that works, preprocessed as each framework does.
pub fn image(data: &[u8]) -> bool {
    let options = DecodeOptions { max_pixels: 1 << 18, ..DecodeOptions::default() };
    let format = sniff(data);
    let Ok(image) = decode(data, &options) else { return false };
    assert!(format.is_some(), "an image that the listing of a folder would pass over");
    assert!(u64::from(image.width()) * u64::from(image.height()) <= options.max_pixels);
    for preset in [Preset::Torchvision, Preset::KerasCaffe, Preset::Tf] {
        let small = PreprocessOverrides { size: Some((32, 24)), ..PreprocessOverrides::default() };
        let recipe = Preprocess::preset(preset).unwrap().with(&small).unwrap();
        let mut tensor = vec![f32::NAN; recipe.tensor_len()];
        if recipe.apply(&image, TensorLayout::Nchw, &mut tensor).is_ok() {
            assert!(tensor.iter().all(|value| value.is_finite()), "a value that is not finite");
        }
    }
    true
}

/// A list of images: a CSV manifest or paths.
pub fn list(data: &[u8]) -> bool {
    let mut taken = false;
    for null in [false, true] {
        let options = SourceOptions { null, ..SourceOptions::default() };
        let Ok(set) = Dataset::from_list(data, &options) else { continue };
        taken = true;
        let names: Vec<&str> = set.samples.iter().map(|sample| sample.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "names out of order, or one twice");
        assert!(
            set.samples.iter().all(|sample| sample.label.is_none_or(|label| label < set.class_names.len()))
        );
    }
    taken
}

/// A tar shard; that images lie within it is asserted where they are listed.
pub fn shard(data: &[u8]) -> bool {
    let (images, _) = count_images(data);
    assert!(images <= data.len() / 512, "more members than headers fit");
    images > 0
}

/// Nodes that make an input of four channels and another type.
const MOST_FOR_INPUT: usize = 8;

/// A network: read, its layers listed, and cut at some of them, as it is and with layers of this program's own. ONNX Runtime is not involved.
pub fn network(data: &[u8]) -> bool {
    let file = on_disk(data);
    let Ok(graph) = Graph::open(file.path()) else { return false };
    let catalogue = Catalogue::of(&graph, &Default::default());
    let tensors: Vec<&String> = catalogue.layers.iter().map(|layer| &layer.tensor).collect();
    if let Some(inside) = graph.input_normalisation() {
        assert!(inside.scale.iter().all(|scale| *scale != 0.0), "a division by zero");
    }
    if let Some(scores) = class_scores(&graph) {
        assert!(graph.producer(&scores.tensor).is_some(), "scores that no node makes");
    }
    let penultimate = catalogue.penultimate().map(|layer| &layer.tensor);
    // Of three channels of 32-bit floats a cut graph makes what the graph itself reads.
    let most = graph.nodes().len() + MOST_FOR_INPUT;
    for tensor in tensors.iter().rev().take(3).chain(tensors.first()).chain(&penultimate) {
        if let Ok(cut) = graph.truncate(&[tensor]) {
            assert!(cut.nodes <= most, "a cut graph is larger than the whole");
        }
        let size = (graph.input().width.unwrap_or(64), graph.input().height.unwrap_or(64));
        let size = (u32::try_from(size.0).unwrap_or(64), u32::try_from(size.1).unwrap_or(64));
        if let Ok(cut) = graph.truncate_for_processor(&[tensor], size) {
            // Some of them only change the layout.
            assert!(cut.ops.len() <= cut.nodes && cut.nodes <= 4 * most, "more layers than nodes");
        }
    }
    true
}

/// A features file: opened, and all of its features read, at once and in parts.
pub fn features(data: &[u8]) -> bool {
    let file = on_disk(data);
    let Ok(opened) = FeatureFile::open(file.path()) else { return false };
    let known = -1..opened.class_names().len() as i64;
    assert!(opened.labels().iter().all(|label| known.contains(label)));
    assert_eq!((opened.labels().len(), opened.sha256().len()), (opened.rows(), opened.rows()));
    for layer in opened.layers() {
        let name = Some(layer.spec.layer.as_str());
        let _ = opened.first_non_finite(name);
        let Ok(features) = opened.read_layer(name) else { continue };
        for (row, whole) in features.rows().into_iter().enumerate().take(8) {
            let mut part = vec![0.0; features.ncols()];
            opened.read_rows(name, row..row + 1, &mut part).unwrap();
            assert!(
                part.iter().zip(whole).all(|(a, b)| a.to_bits() == b.to_bits()),
                "a row differs from itself"
            );
        }
    }
    true
}

/// A head: read, and asked what it makes of features.
pub fn head(data: &[u8]) -> bool {
    let file = on_disk(data);
    let Ok(head) = Head::load(file.path()) else { return false };
    let features = ndarray::Array2::from_elem((2, head.model.columns()), 0.5);
    if let Ok(ranked) = head.ranked(features.view()) {
        assert!(
            ranked.iter().flatten().all(|(class, p)| *class < head.model.class_names.len() && !p.is_nan())
        );
    }
    if let Some(novelty) = &head.model.novelty {
        let _ = novelty.distances(features.view());
    }
    true
}

/// An HDF5 file of anything: its arrays of images and its labels.
pub fn array(data: &[u8]) -> bool {
    let file = on_disk(data);
    let path: &Path = file.path();
    let Ok(hdf5) = Hdf5::open(path) else { return false };
    let mut taken = ImageArray::open(path, None, None).is_ok();
    let _ = hdf5.attributes();
    for name in hdf5.datasets().unwrap_or_default().iter().take(16) {
        let Ok(array) = ImageArray::open(path, Some(name), None) else { continue };
        for row in [0, array.rows() / 2, array.rows() - 1] {
            let Ok((_, image)) = array.read(row) else { continue };
            assert!(image.width() > 0 && image.height() > 0);
            taken = true;
        }
        for labels in ["y", "name", "pets"] {
            let _ = array.labels(None, labels);
        }
    }
    taken
}

fn on_disk(data: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, data).unwrap();
    file
}
