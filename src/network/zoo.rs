//! Networks that can be pulled by name: the VGG16 and ResNet50 graphs of the ONNX Model Zoo, and good backbones on a hub.
//!
//! Sizes and checksums are those that the zoo itself publishes, in `ONNX_HUB_MANIFEST.json` of its repository
//! (github.com/onnx/models) at the commit [`CHECKSUMS_FROM`]. The preprocessing is that of the networks' README files
//! there: shorter side to 256, centre crop 224, RGB, ImageNet's mean and deviation, which is torchvision's. The zoo's
//! ResNet50-v2 is left out: its units begin with the activation, so that the layers named here mean something else.

use crate::images::Preset;

/// The commit of github.com/onnx/models whose `ONNX_HUB_MANIFEST.json` the sizes and checksums were read from.
pub const CHECKSUMS_FROM: &str = "06189933463e51adb5ac34a5ead67cf6a3f51e2d";

/// The licence of the zoo's VGG and ResNet, as their README files have it.
pub const LICENCE: &str = "Apache-2.0";

/// A published graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZooNetwork {
    /// The zoo's file name without `.onnx`; the number at its end is the operator set.
    pub name: &'static str,
    /// What it is, for people.
    pub network: &'static str,
    /// Folder of the zoo's repository, below `validated/vision/classification`.
    folder: &'static str,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: &'static str,
    /// Whose preprocessing the network was trained with.
    pub preprocess: Preset,
}

/// Every graph that can be pulled by name.
pub const PUBLISHED: &[ZooNetwork] = &[
    ZooNetwork {
        name: "vgg16-7",
        network: "VGG16",
        folder: "vgg",
        size: 553_437_328,
        sha256: "f20805a3ecccaa88647bbab4ad011ff2412a9838485ea844de0fcbce349820b9",
        preprocess: Preset::Torchvision,
    },
    ZooNetwork {
        name: "vgg16-12",
        network: "VGG16",
        folder: "vgg",
        size: 553_437_752,
        sha256: "722c42f53ca03a5480296bf8f9c85a151de3eed9ec982d7d2302ff6e2900c67b",
        preprocess: Preset::Torchvision,
    },
    ZooNetwork {
        name: "resnet50-v1-7",
        network: "ResNet50 v1",
        folder: "resnet",
        size: 102_583_340,
        sha256: "af16a04a6ec48ac494065d4439fe9dea590d337b9ca6dc328160ccf04a217b9c",
        preprocess: Preset::Torchvision,
    },
    ZooNetwork {
        name: "resnet50-v1-12",
        network: "ResNet50 v1",
        folder: "resnet",
        size: 102_576_593,
        sha256: "3f03fdef724b22947eed826f1eef1dc5c34151bb4c37d634f1db89dfa2dd1526",
        preprocess: Preset::Torchvision,
    },
];

/// A good frozen backbone on a hub of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnHub {
    /// The name to pull it by.
    pub name: &'static str,
    /// What it is, for people.
    pub network: &'static str,
    /// Where it is, as `hf:OWNER/REPOSITORY[:FILE]`.
    pub reference: &'static str,
    /// About how large it is, in millions of bytes.
    pub megabytes: u32,
    /// Its licence.
    pub licence: &'static str,
    /// What it is good for.
    pub good_for: &'static str,
}

/// Networks that repositories of the hub are known to hold, the smallest first. Their sizes, checksums and preprocessing are
/// what the hub says when they are pulled.
pub const ON_HUB: &[OnHub] = &[
    OnHub {
        name: "mobilenetv4-small",
        network: "MobileNetV4 Conv-S (timm)",
        reference: "hf:onnx-community/mobilenetv4_conv_small.e2400_r224_in1k",
        megabytes: 15,
        licence: "Apache-2.0",
        good_for: "small and fast; photos like ImageNet's",
    },
    OnHub {
        name: "dinov2-small",
        network: "DINOv2 ViT-S/14",
        reference: "hf:Xenova/dinov2-small",
        megabytes: 89,
        licence: "Apache-2.0",
        good_for: "photos of any kind, also unlike ImageNet's",
    },
    OnHub {
        name: "resnet-50",
        network: "ResNet50 (v1.5)",
        reference: "hf:Xenova/resnet-50",
        megabytes: 103,
        licence: "Apache-2.0",
        good_for: "the usual yardstick",
    },
    OnHub {
        name: "convnext-tiny",
        network: "ConvNeXt-T",
        reference: "hf:Xenova/convnext-tiny-224",
        megabytes: 115,
        licence: "Apache-2.0",
        good_for: "a strong convolutional network",
    },
    OnHub {
        name: "dinov3-convnext-tiny",
        network: "DINOv3 ConvNeXt-T",
        reference: "hf:onnx-community/dinov3-convnext-tiny-pretrain-lvd1689m-ONNX",
        megabytes: 112,
        licence: "DINOv3 licence: read its terms",
        good_for: "photos of any kind; earlier layers as well",
    },
    OnHub {
        name: "dinov2-base",
        network: "DINOv2 ViT-B/14",
        reference: "hf:Xenova/dinov2-base",
        megabytes: 346,
        licence: "Apache-2.0",
        good_for: "the same, better and four times slower",
    },
    OnHub {
        name: "siglip-base",
        network: "SigLIP ViT-B/16, image tower",
        reference: "hf:Xenova/siglip-base-patch16-224:onnx/vision_model.onnx",
        megabytes: 372,
        licence: "Apache-2.0",
        good_for: "things with names, scenes, drawings, text",
    },
];

impl OnHub {
    /// The network of this name.
    pub fn find(name: &str) -> Option<&'static OnHub> {
        ON_HUB.iter().find(|known| known.name == name)
    }
}

impl ZooNetwork {
    /// The graph of this name.
    pub fn find(name: &str) -> Option<&'static ZooNetwork> {
        PUBLISHED.iter().find(|published| published.name == name)
    }

    /// Where the file is served, in the order to try: the zoo's place at Hugging Face, and its Git LFS store.
    ///
    /// These follow the pattern that both places have for all of the zoo's graphs; the size and the checksum decide
    /// whether what is served there is the published file.
    pub fn urls(&self) -> [String; 2] {
        let ZooNetwork { name, folder, .. } = self;
        [
            format!("https://huggingface.co/onnxmodelzoo/{name}/resolve/main/{name}.onnx"),
            format!(
                "https://media.githubusercontent.com/media/onnx/models/main/validated/vision/classification/{folder}/model/{name}.onnx"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{ON_HUB, OnHub, PUBLISHED, ZooNetwork};

    #[test]
    fn checksums_are_whole_and_names_are_unique() {
        for published in PUBLISHED {
            assert_eq!(published.sha256.len(), 64, "{}", published.name);
            assert!(published.sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
            assert_eq!(ZooNetwork::find(published.name), Some(published), "two graphs of one name");
        }
        assert_eq!(ZooNetwork::find("resnet50-v2-7"), None);
    }

    #[test]
    fn networks_of_the_hub_have_names_of_their_own() {
        for known in ON_HUB {
            assert_eq!(OnHub::find(known.name), Some(known), "two networks of one name");
            assert_eq!(ZooNetwork::find(known.name), None);
            assert!(known.reference.starts_with("hf:"), "{}", known.reference);
        }
    }

    #[test]
    fn addresses_follow_the_name() {
        let published = ZooNetwork::find("resnet50-v1-7").unwrap();
        assert_eq!(
            published.urls(),
            [
                "https://huggingface.co/onnxmodelzoo/resnet50-v1-7/resolve/main/resnet50-v1-7.onnx",
                "https://media.githubusercontent.com/media/onnx/models/main/validated/vision/classification/resnet/model/resnet50-v1-7.onnx",
            ]
        );
    }
}
