/** The tester tested: wrong rules must fail the check. */
import { expect, test } from "vitest";
import { keepsZero, multiplies } from "../src/ops/axes.ts";
import { domains } from "../src/ops/index.ts";
import type { Op } from "../src/ops/op.ts";
import { binary, unary } from "../src/ops/rule.ts";
import { gradcheck, type Row, subjectOf } from "./gradcheck/check.ts";

async function errorWith(row: Row, planted: Op) {
  const ops = domains[""]!;
  const right = ops[row.op]!;
  ops[row.op] = planted;
  try {
    return await gradcheck(subjectOf(row));
  } finally {
    ops[row.op] = right;
  }
}

const tanh: Row = { op: "Tanh", inputs: [[2, 3]] };
const product: Row = { op: "Mul", inputs: [[2, 3], [3]] };

const plants: readonly (readonly [string, Row, Op])[] = [
  ["0.1 % off", tanh, unary(keepsZero, ({ b, y, g, k }) => b.mul(g, b.mul(k(1.001), b.sub(k(1), b.mul(y, y)))))],
  [
    "0.1 % off, in float32",
    { ...tanh, float32: true },
    unary(keepsZero, ({ b, y, g, k }) => b.mul(g, b.mul(k(1.001), b.sub(k(1), b.mul(y, y))))),
  ],
  ["wrong sign", tanh, unary(keepsZero, ({ b, y, g, k }) => b.mul(g, b.sub(b.mul(y, y), k(1))))],
  ["ignores g", tanh, unary(keepsZero, ({ b, y, k }) => b.sub(k(1), b.mul(y, y)))],
  [
    "one operand 0.1 % off",
    product,
    binary(
      multiplies,
      ({ b, g, z }) => b.mul(g, z),
      ({ b, g, x, k }) => b.mul(b.mul(g, x), k(0.999)),
    ),
  ],
  ["forgets to undo broadcasting", product, { vjp: ({ node, g, b }) => [b.mul(g[0]!, node.inputs[1]!), b.mul(g[0]!, node.inputs[0]!)] }],
  [
    "averages where it should sum",
    product,
    {
      vjp: ({ node, g, b }) => [
        b.mul(g[0]!, node.inputs[1]!),
        b.op("ReduceMean", [b.mul(g[0]!, node.inputs[0]!)], { axes: [0], keepdims: 0 }),
      ],
    },
  ],
];

test.for(plants)("a rule that is %s fails", async ([, row, op]) => {
  const { error, tolerance } = await errorWith(row, op);
  expect(error).toBeGreaterThan(2 * tolerance);
});

test("a rule that returns nothing fails", async () => {
  await expect(errorWith(tanh, { vjp: () => [null] })).rejects.toThrow("no gradient flows to x0");
});

test("an op without a rule is refused by name", async () => {
  await expect(errorWith(tanh, {})).rejects.toThrow('grad: no gradient rule for Tanh (node "pith/Tanh")');
});

test("the right rules pass with room", async () => {
  for (const row of [tanh, product]) {
    const { error, tolerance } = await gradcheck(subjectOf(row));
    expect(error).toBeLessThan(tolerance / 10);
  }
});
