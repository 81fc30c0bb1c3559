//! What the network runs on: the CPU, CUDA or OpenVINO, and in which precision.
//!
//! A device that was asked for and is not there is an error that says what is missing, never a silent fall-back.
//! `auto` takes CUDA where it works and the CPU elsewhere, and the choice is recorded.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ort::ep::{
    ArbitrarilyConfigurableExecutionProvider, CUDA, ExecutionProvider, ExecutionProviderDispatch, OpenVINO,
};

use super::runtime::Runtime;

/// A device as the user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// CUDA where it works, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(u16),
    /// Intel's OpenVINO on the CPU.
    OpenVino,
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

/// The precision that a network computes in. Codes of different precisions are not the same codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    Fp32,
    /// bfloat16 products with 32-bit sums: 8 bits of mantissa.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// A word that is no precision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no precision; choose fp32 or bf16")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Precision, UnknownPrecision> {
        match text {
            "fp32" => Ok(Precision::Fp32),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(UnknownPrecision(text.to_owned())),
        }
    }
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(
        "{device} cannot be used: the ONNX Runtime {version} at {} is a build without its provider; `scripts/setup --{flag}` brings one that has it, or name one with CNNCODES_ONNXRUNTIME",
        library.display()
    )]
    NotBuilt { device: Device, library: PathBuf, version: String, flag: &'static str },
    #[error("{device} cannot be used: its provider does not start; {needs}")]
    Unusable { device: Device, needs: &'static str, source: ort::Error },
    #[error("{precision} needs --device openvino; {device} computes in fp32 only")]
    Precision { device: Device, precision: Precision },
}

/// What the provider of a device needs, for its error.
pub(super) fn needs(device: Device) -> &'static str {
    match device {
        Device::Cuda(_) => {
            "it needs an NVIDIA GPU of that number with its driver, and CUDA 12 and cuDNN 9 among the libraries (LD_LIBRARY_PATH may name them)"
        }
        _ => "it needs the OpenVINO libraries beside ONNX Runtime's",
    }
}

/// The execution provider of a device; none for the CPU, which every build has.
///
/// # Errors
/// The runtime was built without it, or the precision is not to be had on it.
pub(super) fn provider(
    device: Device,
    precision: Precision,
    threads: usize,
    runtime: &Runtime,
) -> Result<Option<ExecutionProviderDispatch>, DeviceError> {
    if precision != Precision::Fp32 && device != Device::OpenVino {
        return Err(DeviceError::Precision { device, precision });
    }
    let not_built = |flag| DeviceError::NotBuilt {
        device,
        library: runtime.path.clone(),
        version: runtime.version.clone(),
        flag,
    };
    match device {
        Device::Auto | Device::Cpu => Ok(None),
        Device::Cuda(number) => {
            if !CUDA::is_available().unwrap_or(false) {
                return Err(not_built("cuda"));
            }
            // TF32, which CUDA takes for convolutions otherwise, has 10 bits of mantissa: that is not fp32.
            let cuda = CUDA::default().with_device_id(i32::from(number)).with_tf32(false);
            Ok(Some(cuda.build().error_on_failure()))
        }
        Device::OpenVino => {
            if !OpenVINO::is_available().unwrap_or(false) {
                return Err(not_built("openvino"));
            }
            // OpenVINO would choose bf16 by itself where the processor has it.
            let hint = match precision {
                Precision::Fp32 => r#"{"CPU": {"INFERENCE_PRECISION_HINT": "f32"}}"#,
                Precision::Bf16 => r#"{"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}}"#,
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
        for precision in [Precision::Fp32, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert!("fp16".parse::<Precision>().is_err());
    }
}
