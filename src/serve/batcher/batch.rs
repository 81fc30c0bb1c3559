//! [`Batch`]: images that are read one beside the other, run together, and given to those who asked.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::super::metrics::Metrics;
use super::image_queue::{Asker, WantedImage};
use crate::dataset::{Dataset, InputProblem, MemoryImage};
use crate::extract::{FeatureBatch, ImageBatch, ImageReader};
use crate::messages::with_causes;
use crate::network::{BackboneError, TapOutput};

/// The features of one image, or why there are none.
pub(in crate::serve) type ImageFeatures = Result<FeatureBatch, InputProblem>;

/// An image that was read.
struct ReadImage {
    set: Dataset,
    read: ImageBatch,
    asker: Box<dyn Asker>,
}

/// Images on their way through the network. It is used again and again, and keeps its memory.
pub(super) struct Batch<'a> {
    reader: &'a ImageReader,
    /// What the network takes, image after image; it may be longer than that.
    values: Vec<f32>,
    images: Vec<ReadImage>,
}

impl<'a> Batch<'a> {
    /// An empty one, whose images `reader` reads.
    pub fn new(reader: &'a ImageReader) -> Self {
        Self { reader, values: Vec::new(), images: Vec::new() }
    }

    /// Images in it.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Reads `images`, several by the threads of `pool`. Who asked for one that cannot be read is told so.
    pub fn read(&mut self, images: Vec<WantedImage>, pool: &ThreadPool) {
        let (reader, first, len) = (self.reader, self.images.len(), self.reader.len());
        let end = (first + images.len()) * len;
        if self.values.len() < end {
            self.values.resize(end, 0.0);
        }
        let slots = &mut self.values[first * len..end];
        let read = |(image, slot): (WantedImage, &mut [f32])| read_into(slot, image, reader);
        let read: Vec<Option<ReadImage>> = if images.len() == 1 {
            images.into_iter().zip(slots.chunks_mut(len)).map(read).collect()
        } else {
            pool.install(|| images.into_par_iter().zip(slots.par_chunks_mut(len)).map(read).collect())
        };
        for (position, image) in (first..).zip(read) {
            let Some(image) = image else { continue };
            let row = self.images.len();
            if row != position {
                self.values.copy_within(position * len..(position + 1) * len, row * len);
            }
            self.images.push(image);
        }
    }

    /// Runs what was read and gives everybody the features of `layer`. The batch is empty then.
    pub fn run(
        &mut self,
        layer: &str,
        metrics: &Metrics,
        run: impl FnOnce(&[f32]) -> Result<Vec<TapOutput>, BackboneError>,
    ) {
        let count = self.images.len();
        if count == 0 {
            return;
        }
        metrics.batches.record(count);
        let values = &self.values[..count * self.reader.len()];
        let layers = catch_unwind(AssertUnwindSafe(|| run(values)))
            .map_err(|_| "the network ended by a panic; report this".to_owned())
            .and_then(|ran| ran.map_err(|error| with_causes(&error)));
        let rows = layers.and_then(|layers| {
            layers.into_iter().next().ok_or_else(|| "the network gives no features".to_owned())
        });
        let width = rows.as_ref().map_or(0, |rows| rows.len() / count);
        for (row, image) in self.images.drain(..).enumerate() {
            match &rows {
                Ok(rows) => image.give(layer, rows[row * width..(row + 1) * width].to_vec()),
                Err(error) => image.asker.take(Err(error.clone())),
            }
        }
    }
}

impl ReadImage {
    /// Gives its features to who asked.
    fn give(self, layer: &str, features: Vec<f32>) {
        let Self { set, read, asker } = self;
        let samples: Vec<_> = set.samples.iter().collect();
        let width = features.len();
        let batch = FeatureBatch::new(&samples, read, features, (layer, width), |_| {});
        asker.take(batch.map_err(|error| with_causes(&error)).map(|mut batch| match batch.problems.pop() {
            Some(problem) => Err(problem),
            None => Ok(batch),
        }));
    }
}

/// Reads an image into its place in a batch. None if it cannot be read, which who asked is told.
fn read_into(slot: &mut [f32], image: WantedImage, reader: &ImageReader) -> Option<ReadImage> {
    let WantedImage { name, bytes, asker } = image;
    let set = Dataset::from_images([(name, Some(MemoryImage::Encoded(bytes.into())))]);
    match catch_unwind(AssertUnwindSafe(|| reader.read_into(slot, &set.samples.get(0)))) {
        Ok(Ok(read)) => Some(ReadImage { set, read, asker }),
        Ok(Err(problem)) => {
            asker.take(Ok(Err(problem)));
            None
        }
        Err(_) => {
            asker.take(Err("reading the image ended by a panic; report this".to_owned()));
            None
        }
    }
}
