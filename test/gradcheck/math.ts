import { dtypes } from "../../src/tensor/dtype.ts";
import { numbers, positive, type Row } from "./check.ts";

const inside = { shape: [2, 3], from: -0.8, to: 0.8 };

export const rows: readonly Row[] = [
  ...["Abs", "Exp", "Erf", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh", "Identity"].map((op): Row => ({ op, inputs: [[2, 3]] })),
  ...["Log", "Sqrt", "Reciprocal"].map((op): Row => ({ op, inputs: [positive(2, 3)] })),
  ...["Tan", "Asin", "Acos", "Atanh"].map((op): Row => ({ op, inputs: [inside] })),
  { op: "Acosh", inputs: [{ shape: [2, 3], from: 1.3, to: 4 }] },
  { op: "Cast", inputs: [[2, 3]], attrs: { to: dtypes.float64.code } },
  { op: "CastLike", inputs: [[2, 3], numbers([1], 0)] },
];
