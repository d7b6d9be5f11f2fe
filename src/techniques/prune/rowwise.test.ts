import { expect, test } from "vitest";
import { inverse } from "../../tensor/linalg/dense.ts";
import { solve } from "../../tensor/linalg/solve.ts";
import { random } from "../../tensor/random.ts";
import { outputError } from "../hessian.ts";
import { surgeonRows } from "./rowwise.ts";
import { excise, leastSalient } from "./surgeon.ts";

const [rows, columns, examples] = [6, 20, 64];
const r = random(2, "rowwise");
const w = r.fillNormal(new Float32Array(rows * columns));
// Inputs that hang together, one of them always 0.
const hidden = r.fillNormal(new Float64Array(examples * 8));
const mixing = r.fillNormal(new Float64Array(8 * columns));
const x = Float64Array.from({ length: examples * columns }, (_, at) => {
  const [e, i] = [Math.floor(at / columns), at % columns];
  let s = 0.3 * r.normal();
  for (let k = 0; k < 8; k++) s += hidden[e * 8 + k]! * mixing[k * columns + i]!;
  return i === 4 ? 0 : s;
});
const hessian = new Float64Array(columns ** 2);
for (let e = 0; e < examples; e++)
  for (let i = 0; i < columns; i++)
    for (let j = 0; j < columns; j++) hessian[i * columns + j]! += x[e * columns + i]! * x[e * columns + j]!;

const zeros = (a: ArrayLike<number>) => Array.from(a).filter((v) => v === 0).length;

test.each([30, 60, 96])("%i of 120 weights: so many go, for less error than magnitude's", (count) => {
  const { weights, keep } = surgeonRows(w, rows, columns, hessian, count);
  expect(zeros(keep)).toBe(count);
  keep.forEach((k, i) => {
    if (!k) expect(weights[i]).toBe(0);
  });
  const byMagnitude = w.slice();
  for (const i of [...w.keys()].sort((a, b) => Math.abs(w[a]!) - Math.abs(w[b]!)).slice(0, count)) byMagnitude[i] = 0;
  expect(outputError(w, weights, rows, hessian)).toBeLessThan(0.5 * outputError(w, byMagnitude, rows, hessian));
});

test("what stays is the least-squares solution for where it stays", () => {
  const { weights, keep } = surgeonRows(w, rows, columns, hessian, 70, 1e-6);
  for (let row = 0; row < rows; row++) {
    const stay = [...Array(columns).keys()].filter((i) => keep[row * columns + i] && i !== 4);
    const target = stay.map((i) => {
      let s = 0;
      for (let j = 0; j < columns; j++) s += hessian[i * columns + j]! * w[row * columns + j]!;
      return s;
    });
    const want = solve(
      stay.flatMap((i) => stay.map((j) => hessian[i * columns + j]!)),
      stay.length,
      target,
      1,
    );
    stay.forEach((i, k) => {
      expect(Math.abs(weights[row * columns + i]! - want[k]!)).toBeLessThan(1e-3);
    });
  }
});

test("a row alone loses the weights that optimal brain surgery takes one by one, in its order", () => {
  const h = hessian.slice();
  const mean = [...Array(columns).keys()].reduce((m, i) => m + h[i * columns + i]! / columns, 0);
  for (let i = 0; i < columns; i++) h[i * columns + i]! += i === 4 ? mean : 0.01 * mean;
  const row = Float64Array.from(w.subarray(0, columns), (v, i) => (i === 4 ? 0 : v));
  const inv = inverse(h, columns);
  const left = new Uint8Array(columns).fill(1);
  for (let count = 1; count < columns; count++) {
    excise(row, inv, left, leastSalient(row, inv, left));
    expect([...surgeonRows(w.slice(0, columns), 1, columns, hessian, count).keep]).toEqual([...left]);
  }
});

test("an input that is always 0 loses its weights first; nothing asked for, nothing else done", () => {
  const { keep } = surgeonRows(w, rows, columns, hessian, rows);
  for (let row = 0; row < rows; row++) expect(keep[row * columns + 4]).toBe(0);
  const none = surgeonRows(w, rows, columns, hessian, 0);
  expect(zeros(none.keep)).toBe(0);
  w.forEach((v, i) => {
    if (i % columns !== 4) expect(none.weights[i]).toBe(v);
  });
  expect(() => surgeonRows(w, rows, columns, new Float64Array(4), 3)).toThrow("has 400 elements; got 4");
});
