//! Which parts one of several workers does.

use std::fmt;
use std::str::FromStr;

/// The share `index` of `count`: the parts whose number divided by `count` leaves `index`. Every part is in one share of a count, so
/// that another count may be used on a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    index: u64,
    count: u64,
}

/// Why a share is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShareError {
    /// The text is not a share.
    #[error("expected i/n with i from 0 to n-1, such as 0/8, or auto; not {0:?}")]
    Malformed(String),
    /// No scheduler says anything.
    #[error(
        "no scheduler says which share this is (SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX and AWS_BATCH_JOB_ARRAY_INDEX are not \
         set); write it as --shard i/n"
    )]
    NoScheduler,
    /// A variable is missing beside another.
    #[error("{present} is set, but {missing} is not; set it to the number of workers, or write --shard i/n")]
    NoCount {
        /// The variable with the worker's number.
        present: &'static str,
        /// The one with the number of workers.
        missing: &'static str,
    },
    /// A variable that holds no number.
    #[error("{name} is {value:?}, which is not a number that fits the others; write --shard i/n")]
    BadValue {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// An array of tasks with gaps.
    #[error(
        "the numbers of the Slurm array are not evenly spaced, so that they do not say which share this is; submit a range such \
         as --array=0-7, or write --shard i/n"
    )]
    Uneven,
}

impl Share {
    /// The whole plan.
    pub const ALL: Self = Self { index: 0, count: 1 };

    /// The share `index` of `count`; `None` if there is no such share.
    pub fn new(index: u64, count: u64) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// The numbers of its parts, of `parts` in all.
    pub fn parts(self, parts: u64) -> impl Iterator<Item = u64> {
        let step = usize::try_from(self.count).unwrap_or(usize::MAX);
        (self.index..parts).step_by(step)
    }

    /// The share that a scheduler gives this process: a task of a Slurm array, a pod of an indexed Kubernetes job (with
    /// `JOB_COMPLETIONS` in its environment), or a child of an AWS Batch array job. `variable` gives the value of a variable of the
    /// environment.
    ///
    /// # Errors
    /// No scheduler says anything, or what it says is not a share.
    pub fn of_scheduler(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ShareError> {
        let number = |name: &'static str| match variable(name) {
            None => Ok(None),
            Some(value) => match value.trim().parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(ShareError::BadValue { name, value }),
            },
        };
        if let Some(task) = number("SLURM_ARRAY_TASK_ID")? {
            let present = "SLURM_ARRAY_TASK_ID";
            let needed =
                |missing: &'static str| number(missing)?.ok_or(ShareError::NoCount { present, missing });
            let (first, count) = (needed("SLURM_ARRAY_TASK_MIN")?, needed("SLURM_ARRAY_TASK_COUNT")?);
            let last = number("SLURM_ARRAY_TASK_MAX")?;
            let span = last.and_then(|last| last.checked_sub(first));
            let step = match span {
                // The range says it best: Slurm gives a step of 1 for lists as well.
                Some(span) if count > 1 && span % (count - 1) == 0 => span / (count - 1),
                Some(0) | None => number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1),
                Some(_) => return Err(ShareError::Uneven),
            };
            let offset = task.checked_sub(first).filter(|offset| step > 0 && offset % step == 0);
            return offset.and_then(|offset| Self::new(offset / step, count)).ok_or(ShareError::Uneven);
        }
        for (index, count) in [
            ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
            ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"),
        ] {
            if let Some(at) = number(index)? {
                let of = number(count)?.ok_or(ShareError::NoCount { present: index, missing: count })?;
                let value = at.to_string();
                return Self::new(at, of).ok_or(ShareError::BadValue { name: index, value });
            }
        }
        Err(ShareError::NoScheduler)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            Self::new(index.trim().parse().ok()?, count.trim().parse().ok()?)
        };
        parse().ok_or_else(|| ShareError::Malformed(text.to_owned()))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Share, ShareError> {
        Share::of_scheduler(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_part_is_in_one_share() {
        for count in 1..9 {
            let mut parts: Vec<u64> =
                (0..count).flat_map(|index| Share::new(index, count).unwrap().parts(20)).collect();
            parts.sort_unstable();
            assert_eq!(parts, (0..20).collect::<Vec<_>>());
        }
        assert_eq!("2/8".parse::<Share>().unwrap().parts(20).collect::<Vec<_>>(), [2, 10, 18]);
        assert_eq!("7/8".parse::<Share>().unwrap().parts(7).count(), 0);
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "1", "8/8", "1/0", "-1/2", "a/b", "1/2/3", "1.5/2"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError::Malformed(text.to_owned())));
        }
    }

    #[test]
    fn schedulers_say_the_share() {
        let slurm = |id, min, max, count| {
            of(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_MAX", max),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_ARRAY_TASK_STEP", "1"),
            ])
        };
        assert_eq!(slurm("3", "0", "7", "8"), Ok(Share { index: 3, count: 8 }));
        assert_eq!(slurm("8", "1", "8", "8"), Ok(Share { index: 7, count: 8 }));
        // --array=10-30:10
        assert_eq!(slurm("20", "10", "30", "3"), Ok(Share { index: 1, count: 3 }));
        assert_eq!(slurm("5", "5", "5", "1"), Ok(Share { index: 0, count: 1 }));
        // --array=0,1,5: the second of three is not known from these numbers.
        assert_eq!(slurm("1", "0", "5", "3"), Err(ShareError::Uneven));
        let kubernetes = [("JOB_COMPLETION_INDEX", "2"), ("JOB_COMPLETIONS", "5")];
        assert_eq!(of(&kubernetes), Ok(Share { index: 2, count: 5 }));
        assert_eq!(
            of(&kubernetes[..1]),
            Err(ShareError::NoCount { present: "JOB_COMPLETION_INDEX", missing: "JOB_COMPLETIONS" })
        );
        let batch = [("AWS_BATCH_JOB_ARRAY_INDEX", "9"), ("AWS_BATCH_JOB_ARRAY_SIZE", "9")];
        assert_eq!(
            of(&batch),
            Err(ShareError::BadValue { name: "AWS_BATCH_JOB_ARRAY_INDEX", value: "9".to_owned() })
        );
        assert_eq!(of(&[]), Err(ShareError::NoScheduler));
    }
}
