import { tensor } from "../../src/tensor/tensor.ts";
import { numbers, type Row } from "./check.ts";

const labels = tensor("int64", [3], [1, 3, 0]);
const map = tensor("int32", [2, 2], [1, 2, 0, 2]);
const weights = numbers([4], 0.5, 2, 1, 0.25);

export const rows: readonly Row[] = ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"].flatMap((op): Row[] => [
  { op, inputs: [[3, 4], labels] },
  { op, inputs: [[3, 4], labels, weights] },
  { op, inputs: [[3, 4], labels, weights], attrs: { reduction: "sum" } },
  { op, inputs: [[2, 3, 2], map], attrs: { reduction: "none" } },
  { op, inputs: [[2, 3, 2], map], attrs: { ignore_index: 2 } },
  { op, inputs: [[2, 3, 2], map, numbers([3], 0.5, 2, 1)], attrs: { ignore_index: 1 } },
  ...(op === "SoftmaxCrossEntropyLoss" ? [{ op, inputs: [[3, 4], labels], outputs: 2 }] : []),
]);
