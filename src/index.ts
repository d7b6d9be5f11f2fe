/** pith as a library. */
export { check } from "./ir/check.ts";
export type { Attr, Dim, Graph, Model, Node, TensorType, Value } from "./ir/graph.ts";
export { select } from "./ir/select.ts";
export { readModel } from "./onnx/read.ts";
export { writeModel } from "./onnx/write.ts";
export { Fault } from "./tensor/fault.ts";
export type { Tensor } from "./tensor/tensor.ts";
export { tensor } from "./tensor/tensor.ts";
