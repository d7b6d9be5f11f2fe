import { float } from "../../src/ir/graph.ts";
import type { Row } from "./check.ts";

export const rows: readonly Row[] = [
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
  ...(
    [
      ["ij,jk->ik", [2, 3], [3, 4]],
      ["ij,kj", [2, 3], [4, 3]],
      ["bhid,bhjd->bhij", [2, 2, 3, 2], [2, 2, 2, 2]],
      ["...ij,...jk->...ik", [2, 2, 3], [2, 3, 2]],
      ["bqhd,bkhd->bhqk", [1, 2, 2, 3], [1, 3, 2, 3]],
      ["i,j->ij", [2], [3]],
      ["ij,ij->", [2, 3], [2, 3]],
      ["ijk,j->i", [2, 3, 2], [3]],
    ] as const
  ).map(([equation, ...inputs]): Row => ({ op: "Einsum", note: equation, inputs, attrs: { equation } })),
  { op: "Einsum", note: "ij->ji", inputs: [[2, 3]], attrs: { equation: "ij->ji" } },
  { op: "Einsum", note: "ij->j", inputs: [[2, 3]], attrs: { equation: "ij->j" } },
  { op: "Einsum", note: "three operands", inputs: [[2, 3], [3, 2], [2]], attrs: { equation: "ij,jk,k->i" } },
];
