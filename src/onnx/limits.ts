/** Bounds on what a file from a stranger may claim. Each is far above any real model and far below what would hurt. */
export const limits = {
  /** Deepest nesting of subgraphs. ONNX Runtime itself refuses long before. */
  subgraphDepth: 64,
  /** Dimensions of a tensor. NumPy stops at 64. */
  dims: 64,
  /** Elements of a tensor stored sparsely, made dense on reading: 2^31 (8 GiB of float32) is beyond what ONNX Runtime loads. */
  sparseElements: 2 ** 31,
  /** A main file: protobuf itself ends at 2 GiB. */
  fileBytes: 2 ** 31 - 1,
  /** Weights up to here are written inside the main file, leaving room for the rest of it below 2 GiB. */
  inlineWeights: 1.9e9,
} as const;
