import { ints, positive, type Row } from "./check.ts";

const names = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"];

export const rows: readonly Row[] = names.flatMap((name): Row[] => {
  const op = `Reduce${name}`;
  // Axes are an input from opset 13 (ReduceSum) and 18 (the others) on.
  const opset = 18;
  const x = (...shape: number[]) => (name === "LogSum" ? positive(...shape) : shape);
  const old: Row[] = name === "Sum" ? [] : [{ op, inputs: [x(2, 3, 2)], attrs: { axes: [0, -1], keepdims: 0 }, note: "axes as attribute" }];
  return [
    { op, opset, inputs: [x(2, 3, 2), ints(1)] },
    { op, opset, inputs: [x(2, 3, 2), ints(-1, 0)], attrs: { keepdims: 0 } },
    { op, opset, inputs: [x(2, 3, 2)] },
    { op, opset, inputs: [x(2, 3)], attrs: { keepdims: 0 } },
    { op, opset, inputs: [x(2, 3)], attrs: { noop_with_empty_axes: 1 } },
    ...old,
  ];
});
