import { expect, test } from "vitest";
import { float } from "../src/ir/graph.ts";
import { domains } from "../src/ops/index.ts";
import { dtypes } from "../src/tensor/dtype.ts";
import { tensor } from "../src/tensor/tensor.ts";
import { gradcheck, nameOf, type Row, subjectOf } from "./gradcheck.ts";
import { resizeRows, windowRows } from "./gradcheck.windows.ts";

const ints = (...values: number[]) => tensor("int64", [values.length], values);
const positive = (...shape: number[]) => ({ shape, from: 0.3, to: 3 });

const rows: readonly Row[] = [
  ...["Add", "Sub", "Mul"].flatMap((op): Row[] => [
    {
      op,
      inputs: [
        [2, 3],
        [2, 3],
      ],
    },
    { op, inputs: [[2, 3], [3]] },
    {
      op,
      inputs: [
        [2, 1, 3],
        [4, 1],
      ],
    },
    { op, inputs: [[], [2, 2]] },
    { op, inputs: [[2, 3], 0], note: "shared" },
  ]),
  { op: "Div", inputs: [[2, 3], positive(2, 3)] },
  { op: "Div", inputs: [[3], positive(2, 1)] },
  { op: "Div", inputs: [positive(4), 0], note: "shared" },
  ...["Neg", "Exp", "Sigmoid", "Tanh", "Relu", "Identity"].map((op): Row => ({ op, inputs: [[2, 3]] })),
  { op: "Log", inputs: [positive(2, 3)] },
  { op: "Cast", inputs: [[2, 3]], attrs: { to: dtypes.float64.code }, float32: true },
  { op: "Softmax", inputs: [[2, 5]] },
  { op: "Softmax", inputs: [[2, 3, 2]], attrs: { axis: 1 } },
  { op: "LogSoftmax", inputs: [[2, 5]] },
  { op: "LogSoftmax", inputs: [[2, 3, 2]], attrs: { axis: -2 } },
  { op: "Dropout", inputs: [[2, 3]] },
  { op: "Dropout", inputs: [[2, 3], tensor("float32", [], [0.5]), tensor("bool", [], [0])], outputs: 2 },
  { op: "Reshape", inputs: [[2, 6], ints(3, -1)] },
  { op: "Flatten", inputs: [[2, 2, 3]] },
  { op: "Flatten", inputs: [[2, 2, 3]], attrs: { axis: 0 } },
  { op: "Squeeze", inputs: [[2, 1, 3], ints(1)] },
  { op: "Unsqueeze", inputs: [[2, 3], ints(0, 3)] },
  { op: "Transpose", inputs: [[2, 3, 4]] },
  { op: "Transpose", inputs: [[2, 3, 4]], attrs: { perm: [1, 2, 0] } },
  ...["ReduceSum", "ReduceMean"].flatMap((op): Row[] => {
    const opset = op === "ReduceSum" ? 17 : 18;
    return [
      { op, opset, inputs: [[2, 3, 2], ints(1)] },
      { op, opset, inputs: [[2, 3, 2], ints(-1, 0)], attrs: { keepdims: 0 } },
      { op, opset, inputs: [[2, 3, 2]] },
      { op, opset, inputs: [[2, 3]], attrs: { keepdims: 0 } },
      { op, opset, inputs: [[2, 3]], attrs: { noop_with_empty_axes: 1 } },
    ];
  }),
  { op: "ReduceMean", inputs: [[2, 3, 2]], attrs: { axes: [0, 2], keepdims: 0 }, note: "axes as attribute" },
  {
    op: "MatMul",
    inputs: [
      [2, 3],
      [3, 4],
    ],
  },
  {
    op: "MatMul",
    inputs: [
      [2, 2, 3],
      [3, 2],
    ],
  },
  {
    op: "MatMul",
    inputs: [
      [2, 2, 3],
      [2, 3, 2],
    ],
  },
  {
    op: "MatMul",
    inputs: [
      [2, 3],
      [2, 3, 2],
    ],
  },
  {
    op: "MatMul",
    inputs: [
      [2, 1, 2, 3],
      [3, 3, 2],
    ],
  },
  { op: "MatMul", inputs: [[3], [3]] },
  { op: "MatMul", inputs: [[3], [3, 2]] },
  { op: "MatMul", inputs: [[2, 3], [3]] },
  { op: "MatMul", inputs: [[2, 2, 3], [3]] },
  { op: "MatMul", inputs: [[3], [2, 3, 2]] },
  { op: "MatMul", inputs: [[3, 3], 0], note: "shared" },
  { op: "Gemm", inputs: [[2, 3], [3, 4], [4]] },
  {
    op: "Gemm",
    inputs: [
      [3, 2],
      [3, 4],
    ],
    attrs: { transA: 1, alpha: float(0.7) },
  },
  {
    op: "Gemm",
    inputs: [
      [2, 3],
      [4, 3],
      [2, 1],
    ],
    attrs: { transB: 1, beta: float(0.3) },
  },
  { op: "Gemm", inputs: [[3, 2], [4, 3], []], attrs: { transA: 1, transB: 1, alpha: float(1.5), beta: float(2) } },
  ...windowRows,
  ...resizeRows,
];

test.for(rows.map((r) => [nameOf(r), r] as const))("%s", async ([, row]) => {
  const { error, tolerance, worst } = await gradcheck(subjectOf(row));
  expect(error, worst).toBeLessThan(tolerance);
});

test("every gradient rule has a row", () => {
  const have = new Set(rows.map((r) => `${r.domain ?? ""}.${r.op}`));
  const owed = Object.entries(domains).flatMap(([domain, ops]) =>
    Object.entries(ops).flatMap(([name, op]) => (op.vjp && !have.has(`${domain}.${name}`) ? [`${domain}.${name}`] : [])),
  );
  expect(owed).toEqual([]);
});
