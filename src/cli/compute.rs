//! Arguments of every command that runs a network: what it runs on.

use std::fmt;
use std::num::NonZero;
use std::str::FromStr;

use super::show;
use crate::extract::fallback_note;
use crate::network::{Backbone, Device, Precision, SessionSettings};

/// What a network runs on.
#[derive(Debug, clap::Args)]
pub struct ComputeArgs {
    /// Device that runs the network: auto, cpu, cuda, cuda:N or openvino. auto takes a device with the requested
    /// precision; in fp32 it takes CUDA if it works and there are 100 images or more, otherwise the CPU
    #[arg(long, value_name = "DEVICE", default_value_t = Device::Auto)]
    device: Device,
    /// Precision: fp32, tf32 (CUDA) or bf16 (OpenVINO). tf32 and bf16 are up to twice as fast; their features differ
    /// by 0.1 to 1 % (VGG, ResNet) or more (MobileNetV2 in bf16: 23 %) [default: that of the head's features, or
    /// fp32]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
    /// Threads for the network and for decoding [default: every core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl ComputeArgs {
    /// Threads, where the user said how many.
    pub fn threads(&self) -> Option<usize> {
        self.threads.map(usize::from)
    }

    /// What a session is to be opened with.
    pub fn settings(&self) -> SessionSettings {
        self.settings_in(Precision::Fp32)
    }

    /// As [`settings`](Self::settings), in `precision` unless the user said another.
    pub fn settings_in(&self, precision: Precision) -> SessionSettings {
        let precision = self.precision.unwrap_or(precision);
        SessionSettings {
            threads: self.threads(),
            sessions: None,
            device: self.device.in_precision(precision),
            precision,
            shared_cores: false,
            runtime_only: false,
        }
    }
}

/// Images a run of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// Chosen from the machine and the network.
    Auto,
    Images(NonZero<u16>),
}

impl BatchSize {
    /// The number, where the user gave one.
    pub fn images(self) -> Option<usize> {
        match self {
            Self::Auto => None,
            Self::Images(images) => Some(usize::from(images.get())),
        }
    }
}

impl FromStr for BatchSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Images)
                .map_err(|_| "expected auto or a number from 1 to 65535".to_owned()),
        }
    }
}

impl fmt::Display for BatchSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Images(images) => write!(f, "{images}"),
        }
    }
}

/// Says why `auto` did not take the CUDA provider that is there.
pub fn warn_of_fallback(backbone: &Backbone) {
    if let Some(note) = fallback_note(backbone) {
        show::warning(&note);
    }
}
