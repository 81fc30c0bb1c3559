//! Pooling that begins inside the cut graph.
//!
//! A whole map is large, and writing it out of the runtime takes longer than some layers take to compute. So for an average or
//! a maximum, a pooling over small tiles is appended to the cut graph. The runtime pools in its own layout of the map, and only
//! one number for each tile leaves the session. The rest of the pooling is done in float64. Tiles are so small that their sums
//! in float32 are nearly exact.

use super::graph::proto::NodeProto;
use super::nodes::{int, ints, node};
use super::pool::Pooling;

/// The longest side of a tile. A sum of 16 x 16 float32 values is off by a few units in the last place.
const SIDE: usize = 16;

/// The least opset in which an average counts the padding that it is told to count.
const LEAST_OPSET: i64 = 7;

/// How a map is reduced before it leaves the session.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TilePooling {
    /// What the map becomes in the end.
    pooling: Pooling,
    /// Channels, height and width of the map.
    map: [usize; 3],
    /// Height and width of a tile.
    tile: [usize; 2],
    /// Rows and columns of tiles. The last ones may reach beyond the map, which counts as zeros in a sum.
    count: [usize; 2],
}

impl TilePooling {
    /// Whether tiles help this pooling; the others need the whole map.
    pub(super) fn serve(pooling: &Pooling) -> bool {
        matches!(pooling, Pooling::Average | Pooling::Max | Pooling::Grid(_))
    }

    /// The tiles from which `pooling` of a map of `shape` can be computed; `None` if it needs the map itself, such as for a
    /// grid with cells of different sizes.
    pub(super) fn of(pooling: Pooling, shape: &[usize], opset: i64) -> Option<TilePooling> {
        let &[_, height, width] = shape else { return None };
        let map = [shape[0], height, width];
        let covering = |length: usize| {
            let count = length.div_ceil(SIDE);
            (length.div_ceil(count), count)
        };
        // Tiles that no border of a cell cuts.
        let within_cells = |length: usize, k: usize| {
            let cell = length.is_multiple_of(k).then_some(length / k)?;
            let tile = (1..=SIDE.min(cell)).rev().find(|&side| cell.is_multiple_of(side))?;
            Some((tile, length / tile))
        };
        let ((tile_height, rows), (tile_width, columns)) = match pooling {
            Pooling::Average | Pooling::Max => (covering(height), covering(width)),
            Pooling::Grid(k) => (within_cells(height, k)?, within_cells(width, k)?),
            _ => return None,
        };
        let tiles = TilePooling { pooling, map, tile: [tile_height, tile_width], count: [rows, columns] };
        (opset >= LEAST_OPSET && tiles.tile != [1, 1]).then_some(tiles)
    }

    /// The nodes that reduce the map in `tensor`; the result is the output of the last. `prefix` makes their names
    /// unique.
    pub(super) fn nodes(&self, tensor: &str, channels_last: bool, prefix: &str) -> Vec<NodeProto> {
        let mut nodes = Vec::new();
        let mut input = tensor.to_owned();
        if channels_last {
            let perm = ints("perm", &[0, 3, 1, 2]);
            let output = format!("{prefix}/channels_first");
            nodes.push(node("Transpose", vec![input], output.clone(), vec![perm]));
            input = output;
        }
        let sides = self.tile.map(|side| side as i64);
        let mut attributes = vec![
            ints("kernel_shape", &sides),
            ints("strides", &sides),
            ints("pads", &[0, 0, self.beyond(0), self.beyond(1)]),
        ];
        let operation = match self.pooling {
            Pooling::Max => "MaxPool",
            _ => {
                attributes.push(int("count_include_pad", 1));
                "AveragePool"
            }
        };
        nodes.push(node(operation, vec![input], format!("{prefix}/{}", self.pooling), attributes));
        nodes
    }

    /// Whether the last tiles reach beyond the map.
    pub(super) fn overhang(&self) -> bool {
        (0..2).any(|side| self.beyond(side) != 0)
    }

    fn beyond(&self, side: usize) -> i64 {
        (self.count[side] * self.tile[side] - self.map[side + 1]) as i64
    }

    /// Numbers that leave the session for one image.
    pub(super) fn width(&self) -> usize {
        self.map[0] * self.count[0] * self.count[1]
    }

    /// Finishes the pooling of the reduced maps of some images, one after another, into `out`.
    pub(super) fn finish(&self, rows: &[f32], out: &mut Vec<f32>) {
        let [channels, height, width] = self.map;
        let [tile_rows, tile_columns] = self.count;
        let shape = [channels, tile_rows, tile_columns];
        if self.pooling != Pooling::Average {
            self.pooling.apply(rows, &shape, out);
            return;
        }
        let share = (self.tile[0] * self.tile[1]) as f64 / (height * width) as f64;
        out.clear();
        out.extend(rows.chunks_exact(tile_rows * tile_columns).map(|tiles| {
            let sum: f64 = tiles.iter().map(|&mean| f64::from(mean)).sum();
            (sum * share) as f32
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(pooling: Pooling, height: usize, width: usize) -> Option<([usize; 2], [usize; 2])> {
        TilePooling::of(pooling, &[8, height, width], LEAST_OPSET).map(|tiles| (tiles.tile, tiles.count))
    }

    #[test]
    fn tiles_cover_a_map_and_are_cut_by_no_border_of_a_cell() {
        assert_eq!(geometry(Pooling::Average, 112, 112), Some(([16, 16], [7, 7])));
        assert_eq!(geometry(Pooling::Max, 55, 7), Some(([14, 7], [4, 1])), "one row beyond the map");
        assert_eq!(geometry(Pooling::Average, 1000, 17), Some(([16, 9], [63, 2])));
        assert_eq!(geometry(Pooling::Grid(2), 112, 56), Some(([14, 14], [8, 4])));
        assert_eq!(geometry(Pooling::Grid(1), 17, 13), Some(([1, 13], [17, 1])));
        let overhang = |height| {
            TilePooling::of(Pooling::Max, &[8, height, 14], LEAST_OPSET).map(|tiles| tiles.overhang())
        };
        assert_eq!([overhang(28), overhang(55)], [Some(false), Some(true)]);
    }

    #[test]
    fn maps_stay_whole_where_tiles_cannot_make_what_is_wanted_of_them() {
        assert_eq!(geometry(Pooling::Grid(2), 7, 7), None, "cells overlap");
        assert_eq!(geometry(Pooling::Grid(7), 7, 7), None, "a cell is a place");
        for pooling in [Pooling::None, Pooling::Flatten, Pooling::Gem] {
            assert_eq!(geometry(pooling, 14, 14), None);
        }
        assert_eq!(TilePooling::of(Pooling::Average, &[4096], LEAST_OPSET), None, "no map");
        assert_eq!(TilePooling::of(Pooling::Average, &[8, 14, 14], LEAST_OPSET - 1), None);
    }

    #[test]
    fn what_lies_beyond_the_map_counts_for_nothing() {
        // A map of 1 x 17 ones: tiles of 1 x 9, of the second of which eight places lie within.
        let tiles = TilePooling::of(Pooling::Average, &[1, 1, 17], LEAST_OPSET).unwrap();
        let mut out = Vec::new();
        tiles.finish(&[1.0, 8.0 / 9.0], &mut out);
        assert!((out[0] - 1.0).abs() < 1e-6, "{out:?}");
        assert_eq!(out.len(), 1);
    }
}
