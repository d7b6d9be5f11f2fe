/** Every gradient rule against central differences. Rows stand by family in gradcheck/, as the rules do in src/ops/. */
import { expect, test } from "vitest";
import { domains } from "../src/ops/index.ts";
import * as activation from "./gradcheck/activation.ts";
import * as arithmetic from "./gradcheck/arithmetic.ts";
import { gradcheck, nameOf, type Row, subjectOf } from "./gradcheck/check.ts";
import * as gather from "./gradcheck/gather.ts";
import * as linear from "./gradcheck/linear.ts";
import * as loss from "./gradcheck/loss.ts";
import * as math from "./gradcheck/math.ts";
import * as microsoft from "./gradcheck/microsoft.ts";
import * as normalization from "./gradcheck/normalization.ts";
import * as pith from "./gradcheck/pith.ts";
import * as quantized from "./gradcheck/quantized.ts";
import * as reduction from "./gradcheck/reduction.ts";
import * as shape from "./gradcheck/shape.ts";
import * as windows from "./gradcheck/windows.ts";

const rows: readonly Row[] = [
  activation,
  arithmetic,
  gather,
  linear,
  loss,
  math,
  microsoft,
  normalization,
  pith,
  quantized,
  reduction,
  shape,
  windows,
].flatMap((f) => f.rows);

test.for(rows.map((r) => [nameOf(r), r] as const))("%s", async ([, row]) => {
  const { error, tolerance, worst } = await gradcheck(subjectOf(row));
  expect(error, worst).toBeLessThan(tolerance);
});

test("every gradient rule has a row", () => {
  // QuantizeLinear's output is no float: it stands in gradcheck.quantized.test.ts.
  const have = new Set([...rows.map((r) => `${r.domain ?? ""}.${r.op}`), ".QuantizeLinear"]);
  const owed = Object.entries(domains).flatMap(([domain, ops]) =>
    Object.entries(ops).flatMap(([name, op]) => (op.vjp && !have.has(`${domain}.${name}`) ? [`${domain}.${name}`] : [])),
  );
  expect(owed).toEqual([]);
});
