//! What the fuzzers do with bytes: the program's readers must neither panic, nor hang, nor take memory without bound.
//!
//! Plain functions, so that the test suite runs them over its seeds and libFuzzer over millions of inputs. Each says
//! whether the bytes were taken.

use cnncodes::backbone::{Catalogue, Graph};
use cnncodes::images::samples::count_images;
use cnncodes::images::{
    DecodeOptions, Layout, Preprocess, PreprocessOverrides, Preset, SampleSet, SourceOptions, decode, sniff,
};

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
        if recipe.apply(&image, Layout::Nchw, &mut tensor).is_ok() {
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
        let Ok(set) = SampleSet::from_list(data, &options) else { continue };
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

/// A network: read, its layers listed, and cut at some of them, as it is and with layers of this program's own. ONNX Runtime is not involved.
pub fn network(data: &[u8]) -> bool {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, data).unwrap();
    let Ok(graph) = Graph::open(file.path()) else { return false };
    let catalogue = Catalogue::of(&graph, &Default::default());
    let tensors: Vec<&String> = catalogue.layers.iter().map(|layer| &layer.tensor).collect();
    let penultimate = catalogue.penultimate().map(|layer| &layer.tensor);
    for tensor in tensors.iter().rev().take(3).chain(tensors.first()).chain(&penultimate) {
        if let Ok(cut) = graph.truncate(&[tensor]) {
            assert!(cut.nodes <= graph.nodes().len(), "a cut graph is larger than the whole");
        }
        let size = (graph.input().width.unwrap_or(64), graph.input().height.unwrap_or(64));
        let size = (u32::try_from(size.0).unwrap_or(64), u32::try_from(size.1).unwrap_or(64));
        if let Ok(cut) = graph.truncate_for_processor(&[tensor], size) {
            // Some of them only change the layout.
            assert!(
                cut.steps.len() <= cut.nodes && cut.nodes <= 4 * graph.nodes().len(),
                "more layers than nodes"
            );
        }
    }
    true
}
