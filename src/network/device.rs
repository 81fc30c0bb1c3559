//! What the network runs on: the CPU, CUDA or OpenVINO, and in which precision.
//!
//! If a device that the user asked for is not there, the error says what is missing. There is no silent fall-back. `auto` takes
//! CUDA if it works, else the CPU. The choice is recorded.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ort::ep::cuda::ConvAlgorithmSearch;
use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider, CUDA, ExecutionProvider, ExecutionProviderDispatch, OpenVINO,
};
use serde::{Deserialize, Serialize};

use super::runtime::{Runtime, provider_remedy};
use crate::messages::Cause;

/// Number of images from which a GPU pays. A GPU starts about a second later than the processor, which computes some hundred
/// images in this time (docs/bench-devices.md).
const WORTH_A_GPU: usize = 100;

/// A device as the user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// CUDA if it works and pays, else the CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(u16),
    /// Intel's OpenVINO on the CPU.
    OpenVino,
}

impl Device {
    /// The device to use for features in `precision`: [`Device::Auto`] may become another one, the others stay.
    #[must_use]
    pub fn in_precision(self, precision: Precision) -> Device {
        match (self, precision) {
            (Device::Auto, Precision::Tf32) => Device::Cuda(0),
            (Device::Auto, Precision::Bf16) => Device::OpenVino,
            (device, _) => device,
        }
    }

    /// The device to use for so many images: [`Device::Auto`] may become another one, the others stay.
    #[must_use]
    pub fn for_images(self, images: usize) -> Device {
        match self {
            Device::Auto if images < WORTH_A_GPU => Device::Cpu,
            device => device,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::OpenVino => f.write_str("openvino"),
        }
    }
}

/// A word that is no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device; choose auto, cpu, cuda, cuda:N or openvino")]
pub struct UnknownDevice(String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Device, UnknownDevice> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            "openvino" => Ok(Device::OpenVino),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Device::Cuda)
                .ok_or_else(|| UnknownDevice(text.to_owned())),
        }
    }
}

/// The precision that a network computes in. Features of different precisions are not the same features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    Fp32,
    /// TensorFloat-32 products with 32-bit sums: 11 bits of mantissa, as NVIDIA's GPUs have them from Ampere on.
    Tf32,
    /// bfloat16 products with 32-bit sums: 8 bits of mantissa.
    Bf16,
}

impl Precision {
    /// Whether `device` computes in it.
    fn is_supported_on(self, device: Device) -> bool {
        match self {
            Precision::Fp32 => true,
            Precision::Tf32 => matches!(device, Device::Cuda(_)),
            Precision::Bf16 => device == Device::OpenVino,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// A word that is no precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no precision; choose fp32, tf32 or bf16")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Precision, UnknownPrecision> {
        match text {
            "fp32" => Ok(Precision::Fp32),
            "tf32" => Ok(Precision::Tf32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(UnknownPrecision(text.to_owned())),
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
#[non_exhaustive]
pub enum DeviceError {
    #[error(
        "{device} cannot be used: the ONNX Runtime {version} at {} is a build without its provider; {remedy}, or name another one with CNNCODES_ONNXRUNTIME",
        library.display()
    )]
    NotBuilt { device: Device, library: PathBuf, version: String, remedy: String },
    #[error("{device} cannot be used: its provider does not start; {needs}")]
    Unusable { device: Device, needs: &'static str, source: Cause },
    #[error(
        "{device} does not compute in {precision}: tf32 needs --device cuda, and bf16 needs --device openvino"
    )]
    Precision { device: Device, precision: Precision },
}

/// What the provider of a device needs, for its error.
pub(super) fn needs(device: Device) -> &'static str {
    match device {
        Device::Cuda(_) => {
            "it needs an NVIDIA GPU of that number with its driver, and the CUDA and cuDNN that it was built for among the libraries (LD_LIBRARY_PATH may name their folders)"
        }
        _ => "it needs the OpenVINO libraries beside ONNX Runtime's",
    }
}

/// The execution provider of a device; none for the CPU, which every build has.
///
/// # Errors
/// The runtime was built without it, or the device does not compute in the precision.
pub(super) fn provider(
    device: Device,
    precision: Precision,
    threads: usize,
    runtime: &Runtime,
) -> Result<Option<ExecutionProviderDispatch>, DeviceError> {
    if !precision.is_supported_on(device) {
        return Err(DeviceError::Precision { device, precision });
    }
    let not_built = |provider: &str| DeviceError::NotBuilt {
        device,
        library: runtime.path.clone(),
        version: runtime.version.clone(),
        remedy: provider_remedy(provider),
    };
    match device {
        Device::Auto | Device::Cpu => Ok(None),
        Device::Cuda(number) => {
            if !CUDA::is_available().unwrap_or(false) {
                return Err(not_built("cuda"));
            }
            // CUDA takes TF32 for convolutions unless it is told otherwise. Its exhaustive search picks algorithms by measured
            // times, so runs would differ in their last bits. The heuristic is as fast and starts sooner.
            let cuda = CUDA::default()
                .with_device_id(i32::from(number))
                .with_conv_algorithm_search(ConvAlgorithmSearch::Heuristic)
                .with_tf32(precision == Precision::Tf32);
            Ok(Some(cuda.build().error_on_failure()))
        }
        Device::OpenVino => {
            if !OpenVINO::is_available().unwrap_or(false) {
                return Err(not_built("openvino"));
            }
            // OpenVINO chooses bf16 by itself if the processor has it.
            let hint = match precision {
                Precision::Bf16 => r#"{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}"#,
                Precision::Fp32 | Precision::Tf32 => r#"{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}"#,
            };
            let openvino = OpenVINO::default()
                .with_device_type("CPU")
                .with_num_threads(threads)
                .with_arbitrary_config("load_config", hint);
            Ok(Some(openvino.build().error_on_failure()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, Precision};

    #[test]
    fn words_and_devices_correspond() {
        for (text, device) in [
            ("auto", Device::Auto),
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("openvino", Device::OpenVino),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:99999"] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{error}");
        }
        for precision in [Precision::Fp32, Precision::Tf32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert!("fp16".parse::<Precision>().is_err());
    }

    #[test]
    fn auto_leaves_few_images_to_the_processor() {
        assert_eq!([1, 99].map(|images| Device::Auto.for_images(images)), [Device::Cpu; 2]);
        assert_eq!(Device::Auto.for_images(100), Device::Auto);
        assert_eq!(Device::Cuda(1).for_images(1), Device::Cuda(1));
        assert_eq!(Device::OpenVino.for_images(1), Device::OpenVino);
    }

    #[test]
    fn every_precision_has_its_devices() {
        let had = |precision: Precision| {
            [Device::Cpu, Device::Cuda(0), Device::OpenVino].map(|device| precision.is_supported_on(device))
        };
        assert_eq!(had(Precision::Fp32), [true, true, true]);
        assert_eq!(had(Precision::Tf32), [false, true, false]);
        assert_eq!(had(Precision::Bf16), [false, false, true]);
        for precision in [Precision::Tf32, Precision::Bf16] {
            assert!(precision.is_supported_on(Device::Auto.in_precision(precision)));
            assert_eq!(Device::Cpu.in_precision(precision), Device::Cpu);
        }
        assert_eq!(Device::Auto.in_precision(Precision::Fp32), Device::Auto);
    }
}
