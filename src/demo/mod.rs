//! The embedded example: a small network and pictures to try it on, so that `cnncodes demo` needs no download.
//!
//! The network ([`MODEL`]) has the topology of VGG16 and was trained by `scripts/export/train_demo_network.py` on synthetic
//! images of 36 shapes, patterns and simple objects. The pictures ([`draw`], [`write_folder`]) show four other
//! classes: what the demo measures is transfer, as with an ImageNet network and a user's own photos. The textures
//! ([`write_textures`]) are the opposite case, for which the early layers of a network serve better than its top.

mod canvas;
mod draw;
mod folder;
mod subjects;
mod textures;

pub use draw::{CLASSES, DemoClass, HEIGHT, WIDTH, draw};
pub use folder::{DemoError, UNSEEN, write_folder, write_model};
pub use textures::{GRAINS, draw_texture, write_textures};

/// The demo's network as an ONNX file, under 1 MB.
///
/// Input `input`: float32, N x 3 x 64 x 64, RGB, each level x as x/127.5 - 1, the picture stretched to 64 x 64.
/// Output `probabilities`: float32, N x 36, a softmax over the classes of its training.
pub const MODEL: &[u8] = include_bytes!("../../models/demo-vgg.onnx");

#[cfg(test)]
mod tests;
