//! Weights of classes by their names, as users give them.

use std::str::FromStr;

use super::TrainingError;
use crate::head::ClassWeights;

/// How much an image weighs, by its class.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ClassWeighting {
    /// All images weigh the same.
    #[default]
    Uniform,
    /// All classes weigh the same.
    Balanced,
    /// The weight of an image of each named class; 1 for the others.
    Given(Vec<(String, f64)>),
}

impl FromStr for ClassWeighting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let weight = |part: &str| {
            let (class, weight) = part
                .rsplit_once('=')
                .ok_or_else(|| format!("`{part}` is not CLASS=WEIGHT, such as cats=2"))?;
            match weight.trim().parse::<f64>() {
                Ok(weight) if weight.is_finite() && weight > 0.0 => Ok((class.trim().to_owned(), weight)),
                _ => Err(format!("the weight of `{class}` is `{weight}`, but must be a number above 0")),
            }
        };
        match text {
            "uniform" => Ok(Self::Uniform),
            "balanced" => Ok(Self::Balanced),
            given => given.split(',').map(weight).collect::<Result<_, _>>().map(Self::Given),
        }
    }
}

impl ClassWeighting {
    /// The weights of these classes.
    ///
    /// # Errors
    /// [`TrainingError::UnknownClass`].
    pub fn of_classes(&self, class_names: &[String]) -> Result<ClassWeights, TrainingError> {
        let Self::Given(given) = self else {
            return Ok(if *self == Self::Balanced { ClassWeights::Balanced } else { ClassWeights::Uniform });
        };
        let mut weights = vec![1.0; class_names.len()];
        for (class, weight) in given {
            let Some(index) = class_names.iter().position(|name| name == class) else {
                return Err(TrainingError::UnknownClass {
                    class: class.clone(),
                    classes: class_names.to_vec(),
                });
            };
            weights[index] = *weight;
        }
        Ok(ClassWeights::Given(weights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_of_named_classes() {
        let names = ["cats", "dogs", "a=b"].map(String::from);
        let weights = |text: &str| text.parse::<ClassWeighting>().unwrap().of_classes(&names);
        assert_eq!(weights("balanced").unwrap(), ClassWeights::Balanced);
        assert_eq!(weights("uniform").unwrap(), ClassWeights::Uniform);
        assert_eq!(weights("dogs=2.5, a=b=3").unwrap(), ClassWeights::Given(vec![1.0, 2.5, 3.0]));
        let unknown = weights("cat=2").unwrap_err().to_string();
        assert!(unknown.contains("`cat`") && unknown.contains("cats, dogs, a=b"), "{unknown}");
        assert!("cats".parse::<ClassWeighting>().unwrap_err().contains("CLASS=WEIGHT"));
        for bad in ["cats=0", "cats=-1", "cats=much", "cats=inf"] {
            assert!(bad.parse::<ClassWeighting>().unwrap_err().contains("above 0"), "{bad}");
        }
    }
}
