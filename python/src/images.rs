//! Images that Python has: paths, bytes of image files, arrays of pixels.

use cnncodes::dataset::MemoryImage;
use numpy::{PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// An image of its own name: nothing for the file at that path, or what is in memory. Pixels are copied once.
///
/// # Errors
/// It is neither bytes nor an array of the shape height x width x 3 and the type uint8.
pub fn image_of(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<MemoryImage>> {
    let Some(value) = value else { return Ok(None) };
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(MemoryImage::Encoded(bytes.as_bytes().to_vec())));
    }
    let array: PyReadonlyArray3<'_, u8> = value.extract().map_err(|_| {
        PyTypeError::new_err("an image is a path, bytes, or a uint8 array of height x width x 3")
    })?;
    let [height, width, 3] = *array.shape() else {
        return Err(PyValueError::new_err(format!(
            "an image's array has the shape height x width x 3, and this one has {:?}",
            array.shape()
        )));
    };
    let pixels: Vec<u8> = match array.as_slice() {
        Ok(pixels) => pixels.to_vec(),
        Err(_) => array.as_array().iter().copied().collect(),
    };
    let side = |side: usize| {
        u32::try_from(side)
            .ok()
            .filter(|&side| side > 0)
            .ok_or_else(|| PyValueError::new_err(format!("an image of {width} x {height} pixels is none")))
    };
    // Its length is that of the shape.
    image::RgbImage::from_raw(side(width)?, side(height)?, pixels)
        .map(|image| Some(MemoryImage::Pixels(image)))
        .ok_or_else(|| PyValueError::new_err("the array is shorter than its shape says"))
}
