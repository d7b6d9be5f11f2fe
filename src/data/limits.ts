/** Bounds on what a data file from a stranger may claim, checked before anything is allocated. */
export const limits = {
  /** Dimensions of an array: NumPy's own bound. */
  dims: 64,
  /** Bytes of an .npy header. Version 1 cannot be longer; NumPy refuses more than 10,000 characters. */
  npyHeader: 65_535,
  /** Bytes of a safetensors header: the reference implementation's bound. */
  safetensorsHeader: 100_000_000,
  /** Pixels of one image of a folder, told by its header before it is decoded: about 11,500 × 11,500. */
  imagePixels: 2 ** 27,
  /** Pixels along a side that images may be resized to. */
  imageSide: 16_384,
  /** Bytes that all members of one archive, or all images of a folder, may unpack to. Above it, an uncompressed .npy is the better file. */
  unpacked: 2 ** 32,
  /** Deflate cannot do better than 1032 to 1, so a member that claims more lies about its size. */
  deflateRatio: 1032,
} as const;
