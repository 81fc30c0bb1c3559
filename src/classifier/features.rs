//! A head's answers for the rows of a features file, whose images need not be there.

use ndarray::ArrayView2;

use super::{Answer, AnswerOptions, ClassifyError};
use crate::feature_spec::{FeatureSpec, SpecMismatch};
use crate::features::{FeatureFile, FeatureFileError};
use crate::head::Head;

/// Values that are read at a time: 4 MiB.
const BLOCK_VALUES: usize = 1 << 20;

/// Makes sure that the features in `file` are of the kind that `wanted` says, which `holder` has.
pub(super) fn check_kind<E: From<SpecMismatch> + From<FeatureFileError>>(
    file: &FeatureFile,
    wanted: &FeatureSpec,
    holder: &str,
) -> Result<(), E> {
    let any = file.header().spec();
    // A layer of another program has no name that a file of a network could have.
    let found = if any.is_foreign() == wanted.is_foreign() { file.spec(Some(&wanted.layer))? } else { any };
    Ok(wanted.check(holder, found, file.path())?)
}

impl Head {
    /// Makes sure that the features in `file` are of the head's kind. `holder` is what messages call the head.
    ///
    /// # Errors
    /// They are of another network, layer, pooling or preprocessing, or the file lacks the layer.
    pub fn check_features(&self, file: &FeatureFile, holder: &str) -> Result<(), ClassifyError> {
        check_kind(file, &self.provenance.spec, holder)
    }

    /// Hands the answer for each row of `file` to `take`, with the image's name and in the order of the file, which is read in
    /// blocks. `holder` is what messages call the head.
    ///
    /// # Errors
    /// The features are not of the head's kind, they are not finite, the file cannot be read, or `take` fails.
    pub fn answer_features<E: From<ClassifyError>>(
        &self,
        file: &FeatureFile,
        holder: &str,
        options: AnswerOptions,
        mut take: impl FnMut(&str, Answer) -> Result<(), E>,
    ) -> Result<(), E> {
        let wanted = &self.provenance.spec;
        let layer = Some(wanted.layer.as_str());
        self.check_features(file, holder)?;
        let width = file.layer(layer).map_err(ClassifyError::from)?.width().unwrap_or(0);
        let step = (BLOCK_VALUES / width.max(1)).max(1);
        let mut values = vec![0.0; step.min(file.rows()) * width];
        for start in (0..file.rows()).step_by(step) {
            let end = file.rows().min(start + step);
            let values = &mut values[..(end - start) * width];
            file.read_rows(layer, start..end, values).map_err(ClassifyError::from)?;
            let Ok(features) = ArrayView2::from_shape((end - start, width), values) else { continue };
            for (name, answer) in file.image_names()[start..end].iter().zip(self.answers(features, options)?)
            {
                take(name, answer)?;
            }
        }
        Ok(())
    }
}
