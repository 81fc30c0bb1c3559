//! Draws a data set that is unlike photos, for which early layers serve better than the top of a network:
//! `textures FOLDER [PER_CLASS] [SIDE] [SEED]` writes FOLDER/CLASS/NNN.png, 60 of each class and 256 pixels wide
//! unless other numbers are given.

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, numbers)) = arguments.split_first().filter(|(_, numbers)| numbers.len() <= 3) else {
        bail!("usage: textures FOLDER [PER_CLASS] [SIDE] [SEED]");
    };
    let number = |at: usize, default: u64| numbers.get(at).map_or(Ok(default), |text| text.parse());
    let (per_class, side, seed) = (number(0, 60)?, number(1, 256)?, number(2, 0)?);
    cnncodes::demo::write_textures(
        Path::new(folder),
        usize::try_from(per_class)?,
        u32::try_from(side)?,
        seed,
    )?;
    Ok(())
}
