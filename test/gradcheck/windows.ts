/** Gradient check rows of the ops that slide windows, and of BatchNormalization. */
import { type AttrInput, float } from "../../src/ir/graph.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import type { Row } from "./check.ts";

const floats = (...values: number[]) => tensor("float32", [values.length], values);
const ints = (...values: number[]) => tensor("int64", [values.length], values);
const positive = (...shape: number[]) => ({ shape, from: 0.5, to: 1.5 });

const row =
  (op: string, more: Partial<Row> = {}) =>
  (note: string, attrs: Readonly<Record<string, AttrInput>>, ...inputs: Row["inputs"]): Row => ({ op, note, attrs, inputs, ...more });

const conv = row("Conv", { float32: true });
const transposed = row("ConvTranspose", { float32: true });
const resize = row("Resize", { float32: true, opset: 19 });
const same = { pads: [1, 1, 1, 1] };

const pools = (["MaxPool", "AveragePool"] as const).flatMap((op): Row[] => {
  const more = op === "AveragePool" ? { float32: true as const } : {};
  const pool = row(op, more);
  const pool32 = row(op, { float32: true });
  const pool19 = row(op, { ...more, opset: 19 });
  return [
    pool("disjoint", { kernel_shape: [2, 2], strides: [2, 2] }, [2, 2, 4, 6]),
    pool("odd sizes, last row and column uncovered", { kernel_shape: [2, 2], strides: [2, 2] }, [2, 2, 5, 7]),
    pool32("disjoint, float32", { kernel_shape: [2, 3], strides: [2, 3] }, [2, 2, 4, 6]),
    pool32("odd sizes, float32", { kernel_shape: [2, 2], strides: [2, 2] }, [2, 2, 5, 7]),
    pool("odd sizes, ceil", { kernel_shape: [2, 2], strides: [2, 2], ceil_mode: 1 }, [2, 2, 5, 7]),
    pool("overlap and pads", { kernel_shape: [3, 3], strides: [2, 2], ...same }, [2, 2, 7, 6]),
    pool("overlap, pads, ceil", { kernel_shape: [3, 3], strides: [2, 2], ...same, ceil_mode: 1 }, [1, 2, 6, 8]),
    pool19("overlap, pads, ceil, opset 19", { kernel_shape: [3, 3], strides: [2, 2], ...same, ceil_mode: 1 }, [1, 2, 6, 8]),
    pool("SAME_UPPER, stride 1", { kernel_shape: [3, 2], auto_pad: "SAME_UPPER" }, [2, 2, 5, 4]),
    pool("gaps between windows", { kernel_shape: [2, 2], strides: [3, 3] }, [2, 2, 7, 8]),
    pool("disjoint with pads", { kernel_shape: [2, 2], strides: [2, 2], pads: [1, 1, 1, 0] }, [1, 2, 6, 7]),
    pool("1-D overlap", { kernel_shape: [3], strides: [2] }, [2, 3, 9]),
    pool("3-D", { kernel_shape: [2, 2, 2], strides: [2, 2, 2] }, [1, 2, 4, 4, 5]),
    pool19("dilated", { kernel_shape: [2, 2], dilations: [2, 2], strides: [1, 1] }, [1, 2, 6, 5]),
  ];
});

const padded = [17, 22].flatMap((opset) => {
  const pool = row("AveragePool", { float32: true, opset });
  const include = { kernel_shape: [3, 3], strides: [2, 2], count_include_pad: 1 };
  return [
    pool(`padding counted, opset ${opset}`, { ...include, ...same }, [2, 2, 7, 8]),
    pool(`padding counted, ceil, opset ${opset}`, { ...include, ...same, ceil_mode: 1 }, [2, 2, 6, 8]),
    pool(`padding counted, SAME_UPPER, opset ${opset}`, { ...include, auto_pad: "SAME_UPPER" }, [2, 2, 6, 8]),
    pool(`no padding, ceil, opset ${opset}`, { ...include, kernel_shape: [2, 2], ceil_mode: 1 }, [2, 2, 5, 7]),
  ];
});

const norm = row("BatchNormalization");
const statistics = [floats(0.3, -0.2, 0.5), floats(0.6, 1.4, 0.9)];
const training = { training_mode: 1, momentum: float(0) };

const windowRows: readonly Row[] = [
  // Batches of 1 and 2 take shifted planes, of 8 and more the gathers; three axes the swapped convolution.
  conv("bias", {}, [2, 3, 6, 5], [4, 3, 3, 3], [4]),
  conv("same", same, [2, 6, 6, 5], [4, 6, 3, 3]),
  conv("crossed shifts", same, [8, 8, 4, 5], [6, 8, 3, 3], [6]),
  conv("crossed shifts, dilated", { ...same, dilations: [2, 1] }, [8, 6, 5, 4], [3, 6, 3, 2]),
  conv("crossed shifts, grouped", { ...same, group: 2 }, [8, 12, 4, 3], [4, 6, 3, 3]),
  conv("gathered columns, one channel", {}, [8, 1, 6, 6], [3, 1, 3, 3], [3]),
  conv("gathered columns, stride, grouped", { ...same, group: 2, strides: [2, 1] }, [8, 4, 5, 4], [4, 2, 3, 3]),
  conv("stride, dilation, asymmetric pads", { strides: [2, 3], dilations: [2, 1], pads: [1, 0, 2, 3] }, [2, 3, 10, 9], [4, 3, 3, 2]),
  conv("the same, batch 4", { strides: [2, 3], dilations: [2, 1], pads: [1, 0, 2, 3] }, [4, 2, 10, 9], [3, 2, 3, 2]),
  conv("rows no window covers", { strides: [3, 3] }, [2, 3, 10, 12], [4, 3, 2, 2]),
  conv("SAME_UPPER, stride 2", { strides: [2, 2], auto_pad: "SAME_UPPER" }, [2, 3, 7, 6], [4, 3, 3, 2]),
  conv("SAME_LOWER", { auto_pad: "SAME_LOWER" }, [2, 3, 7, 6], [4, 3, 2, 4]),
  conv("VALID", { auto_pad: "VALID" }, [2, 3, 7, 6], [4, 3, 2, 4]),
  conv("pads beyond the kernel", { pads: [2, 2, 2, 2] }, [2, 4, 5, 6], [5, 4, 2, 2]),
  conv("grouped, stride 2", { ...same, group: 2, strides: [2, 2] }, [2, 4, 5, 6], [6, 2, 3, 3], [6]),
  conv("depthwise", { ...same, group: 4 }, [2, 4, 5, 6], [4, 1, 3, 3], [4]),
  conv("depthwise, batch 8", { ...same, group: 3 }, [8, 3, 4, 4], [3, 1, 3, 3]),
  conv("depthwise, two each, stride 2", { ...same, group: 3, strides: [2, 2] }, [8, 3, 5, 6], [6, 1, 3, 3], [6]),
  conv("1×1", {}, [2, 4, 5, 6], [8, 4, 1, 1]),
  conv("1×1, stride 2", { strides: [2, 2] }, [2, 4, 5, 6], [8, 4, 1, 1]),
  conv("1-D", { strides: [2], pads: [2, 1], dilations: [2] }, [2, 4, 11], [8, 4, 3], [8]),
  conv("1-D, grouped, batch 8", { group: 2, pads: [1, 1] }, [8, 4, 6], [6, 2, 3], [6]),
  conv("3-D, grouped", { group: 2, strides: [2, 1, 1], pads: [1, 1, 0, 1, 1, 0] }, [2, 4, 5, 4, 4], [4, 2, 3, 3, 2], [4]),
  transposed("bias", {}, [2, 4, 4, 3], [4, 3, 3, 3], [3]),
  transposed(
    "stride, dilation, output padding",
    { strides: [2, 3], dilations: [2, 1], pads: [1, 0, 2, 1], output_padding: [1, 2] },
    [2, 4, 4, 3],
    [4, 3, 3, 3],
    [3],
  ),
  transposed("grouped", { ...same, group: 2, strides: [2, 2] }, [2, 4, 4, 3], [4, 3, 3, 3], [6]),
  transposed("SAME_UPPER", { strides: [2, 2], auto_pad: "SAME_UPPER" }, [2, 4, 4, 3], [4, 3, 3, 5], [3]),
  transposed("SAME_LOWER", { strides: [2, 2], auto_pad: "SAME_LOWER" }, [2, 4, 4, 3], [4, 3, 3, 5], [3]),
  transposed("output_shape", { strides: [2, 2], output_shape: [8, 6] }, [2, 4, 4, 3], [4, 3, 3, 3], [3]),
  transposed("output_shape, SAME_UPPER", { strides: [2, 2], output_shape: [8, 6], auto_pad: "SAME_UPPER" }, [2, 4, 4, 3], [4, 3, 3, 3]),
  transposed("1-D, batch 8", { strides: [2] }, [8, 4, 4], [4, 3, 3], [3]),
  transposed("3-D", { strides: [2, 1, 1] }, [1, 2, 3, 2, 2], [2, 3, 3, 2, 2], [3]),
  ...pools,
  ...padded,
  row("GlobalAveragePool", { float32: true })("", {}, [2, 3, 4, 5]),
  row("GlobalMaxPool", { float32: true })("", {}, [2, 3, 2, 5]),
  ...[3, 5].map((size) => row("LRN", { float32: true })("", { size, alpha: float(0.9), beta: float(0.6), bias: float(1.5) }, [2, 5, 3, 2])),
  norm("frozen", {}, [3, 3, 4, 2], [3], [3], ...statistics),
  norm("frozen, input only", {}, [3, 3, 4, 2], floats(1.2, -0.7, 0.8), floats(0, 1, 2), ...statistics),
  norm("frozen, its statistics too", { epsilon: float(0.01) }, [3, 3, 2], [3], [3], [3], positive(3)),
  norm("batch statistics", training, [3, 3, 4, 2], [3], [3], ...statistics),
  norm("batch statistics, of rows", training, [6, 3], [3], [3], ...statistics),
  norm("batch statistics, momentum", { training_mode: 1, epsilon: float(0.1) }, [3, 3, 4, 2], [3], [3], ...statistics),
].map((r) => (r.op === "BatchNormalization" && r.attrs?.training_mode ? { ...r, outputs: 3, through: [0] } : r));

const modes = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"];

const resizeRows: readonly Row[] = [
  ...modes.flatMap((coordinate_transformation_mode) =>
    ["nearest", "linear", "cubic"].flatMap((mode) => [
      resize("up", { mode, coordinate_transformation_mode }, [1, 2, 5, 4], null, floats(1, 1, 1.7, 2.4)),
      resize("down", { mode, coordinate_transformation_mode }, [1, 2, 7, 8], null, null, ints(1, 2, 5, 3)),
    ]),
  ),
  ...["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"].map((nearest_mode) =>
    resize("", { nearest_mode, coordinate_transformation_mode: "asymmetric" }, [1, 2, 4, 4], null, floats(1, 1, 2, 3)),
  ),
  resize("whole repeats", {}, [1, 2, 4, 4], null, floats(1, 1, 2, 3)),
  resize("1-D", { mode: "linear" }, [1, 2, 4], null, floats(1, 1, 2)),
  resize("3-D", { mode: "linear" }, [1, 2, 2, 3, 2], null, floats(1, 1, 2, 2, 2)),
  resize(
    "aspect ratio kept",
    { mode: "linear", axes: [2, 3], keep_aspect_ratio_policy: "not_larger" },
    [1, 2, 4, 3],
    null,
    null,
    ints(9, 5),
  ),
  resize("cubic inside only", { mode: "cubic", exclude_outside: 1 }, [1, 2, 4, 3], null, floats(1, 1, 2.3, 2)),
];

export const rows: readonly Row[] = [...windowRows, ...resizeRows];
