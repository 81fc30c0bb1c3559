//! Arrays between NumPy and the library, which have different versions of ndarray.

use ndarray::{Array2, ArrayView2};
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The rows of an array, which must be C-contiguous; they are not copied.
pub fn rows<'a>(array: &'a PyReadonlyArray2<'_, f32>) -> PyResult<ArrayView2<'a, f32>> {
    let [rows, columns] = array.shape() else { return Err(not_rows()) };
    ArrayView2::from_shape((*rows, *columns), array.as_slice()?).map_err(|_| not_rows())
}

fn not_rows() -> PyErr {
    PyValueError::new_err("the array must be C-contiguous and have two dimensions")
}

/// The values as a NumPy array (n x d); they are not copied if they lie row by row, as those of the library do.
pub fn to_numpy<T: Element + Clone>(py: Python<'_>, values: Array2<T>) -> PyResult<Bound<'_, PyArray2<T>>> {
    let shape = [values.nrows(), values.ncols()];
    let in_order = values.is_standard_layout();
    let values = if in_order { values } else { values.as_standard_layout().into_owned() };
    let count = values.len();
    let (mut values, offset) = values.into_raw_vec_and_offset();
    // A part of a larger array keeps the rest of it.
    values.drain(..offset.unwrap_or(0));
    values.truncate(count);
    PyArray1::from_vec(py, values).reshape(shape)
}
