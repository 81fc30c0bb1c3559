//! For tests: one run of a whole graph.

use ort::session::Session;
use ort::value::TensorRef;

use super::graph::proto::ModelProto;
use super::runtime;
use prost::Message;

/// The first output, float32, of a graph whose input is an image: uint8, `height` x `width` x 3.
pub(crate) fn run_on_image(model: &ModelProto, [height, width]: [usize; 2], pixels: &[u8]) -> Vec<f32> {
    let runtime = runtime::load().unwrap();
    let builder = Session::builder(&runtime.environment).unwrap();
    let mut session =
        builder.with_intra_threads(1).unwrap().commit_from_memory(&model.encode_to_vec()).unwrap();
    let image = TensorRef::from_array_view(([height, width, 3], pixels)).unwrap();
    let outputs = session.run(ort::inputs![image]).unwrap();
    outputs[0].try_extract_tensor::<f32>().unwrap().1.to_vec()
}
