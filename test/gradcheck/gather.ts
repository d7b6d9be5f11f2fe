import { random } from "../../src/tensor/random.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import type { Row } from "./check.ts";

const ids = (shape: number[], ...values: number[]) => tensor("int64", shape, values);
const r = random(3);
const skewed = tensor(
  "int64",
  [1024],
  Array.from({ length: 1024 }, () => r.below(2 + r.below(14))),
);

export const rows: readonly Row[] = [
  { op: "Gather", inputs: [[4, 3], ids([2, 3], 0, 3, 3, -1, 1, 3)], note: "embedding" },
  { op: "Gather", inputs: [[4, 3], tensor("int32", [3], [0, -1, 0])], attrs: { axis: 1 } },
  { op: "Gather", inputs: [[2, 3, 2], ids([], 1)], attrs: { axis: 1 }, note: "one slice" },
  { op: "Gather", inputs: [[2, 3, 2], ids([1], -1)], attrs: { axis: -1 }, note: "one slice" },
  { op: "Gather", inputs: [[16, 96], skewed], note: "many repeated ids" },
  { op: "GatherElements", inputs: [[3, 3], ids([2, 3], 0, 2, 2, 0, -1, 2)] },
  { op: "GatherElements", inputs: [[2, 3], ids([2, 2], 0, 0, 2, 1)], attrs: { axis: 1 } },
  { op: "GatherND", inputs: [[2, 3, 2], ids([3, 2], 0, 1, 0, 1, -1, -2)] },
  { op: "GatherND", inputs: [[4, 2], ids([2, 2, 1], 3, 0, 3, -1)] },
  { op: "GatherND", inputs: [[2, 3, 2], ids([2, 2, 1], 0, 0, 2, -1)], attrs: { batch_dims: 1 } },
  { op: "GatherND", inputs: [[64, 40], ids([512, 1], ...Array.from({ length: 512 }, () => r.below(5)))], note: "many repeated ids" },
  { op: "ScatterElements", inputs: [[3, 3], ids([2, 3], 0, 2, 1, 2, -3, 0), [2, 3]] },
  { op: "ScatterElements", inputs: [[2, 3], ids([2, 2], 0, 0, 2, 2), [2, 2]], attrs: { axis: 1, reduction: "add" } },
  { op: "ScatterND", inputs: [[4, 2], ids([2, 1], 3, 0), [2, 2]] },
  { op: "ScatterND", inputs: [[3, 2], ids([2, 2], 1, 0, 1, 0), [2]], attrs: { reduction: "add" } },
  { op: "TopK", inputs: [[3, 5], ids([1], 2)], outputs: 2, through: [0] },
  { op: "TopK", inputs: [[5, 2], ids([1], 3)], outputs: 2, through: [0], attrs: { axis: 0, largest: 0 } },
];
