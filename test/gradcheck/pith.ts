import { float } from "../../src/ir/graph.ts";
import { numbers, type Row } from "./check.ts";

const signs = numbers([2, 3], 1, -1, 1, 1, -1, -1);

export const rows: readonly Row[] = [
  { op: "StraightThrough", domain: "pith", inputs: [[2, 3], signs], instead: { op: "Identity" } },
  {
    op: "StraightThrough",
    domain: "pith",
    inputs: [[2, 3], signs],
    attrs: { bound: float(1) },
    instead: { op: "Clip", inputs: [numbers([], -1), numbers([], 1)] },
  },
];
