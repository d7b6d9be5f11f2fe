/** Bounds on what a file from a stranger may claim. Each is far above any real model and far below what would hurt. */
export const limits = {
  /** Dimensions of a tensor. NumPy stops at 64. */
  dims: 64,
  /** Elements of a tensor stored sparsely, made dense on reading: 2^30 (4 GiB of float32) is beyond what ONNX Runtime loads. */
  sparseElements: 2 ** 30,
  /** The same for strings, each of which is an object. */
  sparseStrings: 2 ** 20,
  /** Messages in one another, protobuf's own limit: 33 subgraphs. */
  messageDepth: 100,
  /** Nodes, attributes, types, names …: each becomes an object. A model of 100,000 nodes with all its shapes has 1,100,000. */
  parts: 2 ** 21,
  /** Numbers (or, in packed fields, bytes of numbers) in lists that are parsed: attributes of tree ensembles have some ten millions. */
  numbers: 2 ** 26,
  /** A main file: protobuf itself ends at 2 GiB. */
  fileBytes: 2 ** 31 - 1,
  /** A main file with its weights up to here is written in one piece; beyond, the weights go to a file of their own. */
  inlineBytes: 1.9e9,
} as const;
