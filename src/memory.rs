//! Amounts of memory, as users write them and as the machine has them.

use std::{fmt, str::FromStr};

/// Where the machine does not say how much memory it has.
const UNKNOWN: usize = 4 << 30;

/// A number of bytes; by default half of the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimit(usize);

impl MemoryLimit {
    /// The number of bytes.
    pub fn bytes(self) -> usize {
        self.0
    }
}

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(physical().unwrap_or(UNKNOWN) / 2)
    }
}

impl FromStr for MemoryLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, f64); 9] = [
            ("KiB", 1024.0),
            ("MiB", 1_048_576.0),
            ("GiB", 1_073_741_824.0),
            ("TiB", 1_099_511_627_776.0),
            ("kB", 1e3),
            ("MB", 1e6),
            ("GB", 1e9),
            ("TB", 1e12),
            ("B", 1.0),
        ];
        let ends_with = |unit: &str| text.to_ascii_lowercase().ends_with(&unit.to_ascii_lowercase());
        let found = UNITS.iter().find(|(unit, _)| ends_with(unit));
        let number = found.and_then(|(unit, factor)| {
            let number: f64 = text[..text.len() - unit.len()].trim().parse().ok()?;
            Some(number * factor)
        });
        match number {
            Some(bytes) if bytes.is_finite() && bytes >= 1.0 => Ok(Self(bytes as usize)),
            _ => Err("expected a number with a unit, such as 2GiB or 500MB".to_owned()),
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.0 as f64 / 1_048_576.0;
        if mebibytes >= 1024.0 {
            write!(f, "{:.1} GiB", mebibytes / 1024.0)
        } else {
            write!(f, "{mebibytes:.0} MiB")
        }
    }
}

/// Bytes of the machine's memory, or of the container's share of it.
fn physical() -> Option<usize> {
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<usize>().ok());
    limit.into_iter().chain(installed()).min()
}

#[cfg(unix)]
fn installed() -> Option<usize> {
    // SAFETY: sysconf only reads its argument.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    usize::try_from(pages).ok()?.checked_mul(usize::try_from(size).ok()?).filter(|&bytes| bytes > 0)
}

#[cfg(not(unix))]
fn installed() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("2GiB".parse(), Ok(MemoryLimit(2 << 30)));
        assert_eq!("1.5 gb".parse(), Ok(MemoryLimit(1_500_000_000)));
        assert_eq!("500MB".parse(), Ok(MemoryLimit(500_000_000)));
        assert_eq!("4096B".parse(), Ok(MemoryLimit(4096)));
        for wrong in ["2", "", "GiB", "-1GiB", "0MB", "NaN GiB", "2 potatoes"] {
            assert!(wrong.parse::<MemoryLimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_told_in_binary_units() {
        assert_eq!(MemoryLimit(2 << 30).to_string(), "2.0 GiB");
        assert_eq!(MemoryLimit(300 << 20).to_string(), "300 MiB");
    }

    #[test]
    fn the_default_is_some_of_the_memory() {
        assert!(MemoryLimit::default().bytes() >= 1 << 24);
    }
}
