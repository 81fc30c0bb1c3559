/* Two fields of libjpeg's decoder that mozjpeg-sys keeps private. Compiled against the very headers that mozjpeg-sys
 * compiles libjpeg with, so that the compiler vouches for where they lie. What is done with them is in luma.rs. */

#include <stddef.h>
#include <stdio.h>

#define JPEG_INTERNALS
#include "jpeglib.h"

typedef boolean (*decode_mcu)(j_decompress_ptr, JBLOCKROW *);

/* Where the function stands that decodes the coefficients of the next minimum coded unit. */
decode_mcu *cnncodes_jpeg_decode_mcu(j_decompress_ptr info)
{
  return &info->entropy->decode_mcu;
}

/* The coefficients of each component of a file of several scans; NULL for a file of one. */
jvirt_barray_ptr *cnncodes_jpeg_coefficients(j_decompress_ptr info)
{
  return info->coef->coef_arrays;
}
