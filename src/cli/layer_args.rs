//! Arguments of the commands that compute features: which network, which of its layers, and how images are prepared.

use crate::extract::WantedLayer;
use crate::images::{DEFAULT_MAX_PIXELS, PreprocessOverrides};
use crate::network::{Catalogue, Graph, Layer, Model, ModelsFolder, Pooling, Precision};

/// What to compute.
#[derive(Debug, clap::Args)]
pub struct LayerArgs {
    /// Model, by its name in models/ [default: the only one]
    #[arg(short, long, value_name = "NAME")]
    model: Option<String>,
    /// Layer, or several separated by commas (`cnncodes layers` lists them) [default: the model's own, or the
    /// penultimate]
    #[arg(short, long = "layer", value_name = "LAYER", value_delimiter = ',')]
    layers: Vec<String>,
    /// Pooling of maps: none (whole), flatten, avg, max, gem, or the means of a grid such as 2x2. Of a transformer's
    /// tokens also cls (the class token), mean (of the patches) or cls+mean [default: none for maps, for tokens cls or
    /// mean, whichever the network's own head reads]
    #[arg(long, value_name = "POOLING")]
    pool: Option<Pooling>,
    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    pub max_pixels: u64,
    /// Ignore the EXIF orientation
    #[arg(long)]
    ignore_orientation: bool,
    /// Reduce large JPEGs while they are decoded: faster for photos of many megapixels, with slightly different
    /// features. It is recorded, so that a head fitted to such features decodes its images in the same way
    #[arg(long)]
    fast_decode: bool,
}

/// The network and the layers that were named.
pub struct NamedLayers {
    pub model: Model,
    pub graph: Graph,
    pub layers: Vec<WantedLayer>,
    /// The pooling that was asked for, where it is another than a layer's own.
    pub unusual_pooling: Option<Pooling>,
}

impl LayerArgs {
    /// Opens the network and finds the layers, whose features are to be computed in `precision`.
    pub fn find(&self, models: &ModelsFolder, precision: Precision) -> anyhow::Result<NamedLayers> {
        let model = models.find(self.model.as_deref())?;
        let graph = model.open()?;
        let layers = Catalogue::of(&graph, &model.manifest.aliases).wanted(&model, &self.layers)?;
        let is_unusual = |pooling: &Pooling| layers.iter().any(|layer| layer.default_pooling() != *pooling);
        let unusual_pooling = self.pool.filter(is_unusual);
        let preprocess = model.manifest.preprocess.with(&PreprocessOverrides {
            exif_orientation: self.ignore_orientation.then_some(false),
            dct_scaling: self.fast_decode.then_some(true),
            ..Default::default()
        })?;
        let wanted = |layer: Layer| {
            let pooling = self.pool.unwrap_or_else(|| layer.default_pooling());
            WantedLayer::new(&model, layer, pooling, &preprocess, precision)
        };
        let layers = layers.into_iter().map(wanted).collect();
        Ok(NamedLayers { model, graph, layers, unusual_pooling })
    }
}
