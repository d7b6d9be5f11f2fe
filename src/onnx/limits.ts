/** Bounds on what a file from a stranger may claim. Each is far above any real model and far below what would hurt. */
export const limits = {
  /** Dimensions of a tensor. NumPy stops at 64. */
  dims: 64,
  /** Elements of a tensor stored sparsely, made dense on reading: 2^30 (4 GiB of float32) is beyond what ONNX Runtime loads. */
  sparseElements: 2 ** 30,
  /** The same for strings, each of which is an object. */
  sparseStrings: 2 ** 20,
  /** A main file: protobuf itself ends at 2 GiB. It also ends at 100 levels of messages, which is 33 subgraphs in one another. */
  fileBytes: 2 ** 31 - 1,
  /** A main file with its weights up to here is written in one piece; beyond, the weights go to a file of their own. */
  inlineBytes: 1.9e9,
} as const;
