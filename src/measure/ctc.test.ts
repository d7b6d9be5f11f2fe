import { expect, test } from "vitest";
import { fromArrays } from "../data/dataset.ts";
import { newModel } from "../ir/graph.ts";
import { Build } from "../ops/build.ts";
import { numbersOf, tensor } from "../tensor/tensor.ts";
import { change, evaluate } from "./accuracy.ts";
import { characterError, ctcGreedy, editDistance, encodeText } from "./ctc.ts";

/** Scores whose likeliest classes are `path`. */
const scores = (paths: number[][], classes = 4) =>
  tensor(
    "float32",
    [paths.length, paths[0]!.length, classes],
    paths.flatMap((p) => p.flatMap((c) => Array.from({ length: classes }, (_, i) => (i === c ? 0.7 : 0.1)))),
  );

test("repeats merge, unless a blank stands between them", () => {
  expect(
    ctcGreedy(
      scores([
        [1, 1, 0, 1, 2, 2, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [3, 2, 3, 3, 3, 0, 3],
      ]),
    ),
  ).toEqual([[1, 1, 2], [], [3, 2, 3, 3]]);
  expect(ctcGreedy(scores([[3, 0, 3]]), 3)).toEqual([[0]]);
  expect(() => ctcGreedy(tensor("float32", [2, 2], [1, 2, 3, 4]))).toThrow("scores must have the shape [n, steps, classes]; got [2,2]");
});

test("edit distances", () => {
  const of = (a: string, b: string) => editDistance(Buffer.from(a), Buffer.from(b));
  expect(of("kitten", "sitting")).toBe(3);
  expect(of("", "abc")).toBe(3);
  expect(of("abc", "")).toBe(3);
  expect(of("abc", "abc")).toBe(0);
  expect(of("flaw", "lawn")).toBe(2);
});

test("text as classes", () => {
  const characters = ["blank", "a", "b", " "];
  const t = encodeText(["ab", "b a b"], characters);
  expect(t.shape).toEqual([2, 5]);
  expect(Array.from(numbersOf(t))).toEqual([1, 2, -100, -100, -100, 2, 3, 1, 3, 2]);
  expect(() => encodeText(["abc"], characters)).toThrow('text: "c" in "abc" is not among the model\'s 4 characters');
});

test("the error rate weighs lines by their characters", async () => {
  const model = newModel("reader");
  const x = model.graph.input("x", "float32", ["n", 4, 4]);
  model.graph.addOutput(Build.of(model).op("Identity", [x]));
  const labels = encodeText(["abc", "a"], ["blank", "a", "b", "c"]);
  const read = (paths: number[][]) => fromArrays({ x: scores(paths), labels });
  const right = await evaluate(
    model,
    read([
      [1, 2, 0, 3],
      [1, 1, 1, 1],
    ]),
    characterError(),
  );
  const wrong = await evaluate(
    model,
    read([
      [1, 2, 0, 0],
      [2, 0, 0, 0],
    ]),
    characterError(),
  );
  expect(right.measurement.value).toBe(0);
  // One character of three lost, one of one wrong.
  expect(wrong.measurement).toMatchObject({ value: 50, unit: "%", n: 2 });
  expect(change(right, wrong)).toMatchObject({ metric: "characterErrorChange", value: 50, unit: "points" });
});
