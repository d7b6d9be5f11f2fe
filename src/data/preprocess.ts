/** Named preprocessings: each a declared function Dataset → Dataset, written as `scale:by=255` on a command line. */
import { type DType, dtypes, sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { bytesOf, numbersOf, reshape as reshaped, type Tensor, tensor } from "../tensor/tensor.ts";
import type { Dataset } from "./dataset.ts";
import { called, choice, declare, int, number, type Param, type Params, text, type ValuesOf } from "./params.ts";

export interface Preprocessing {
  readonly name: string;
  readonly params: Readonly<Record<string, unknown>>;
  apply(data: Dataset): Dataset;
}

interface Declaration<P extends Params> {
  readonly name: string;
  readonly doc: string;
  readonly params: P;
  /** One array of some examples, stacked along axis 0. */
  readonly apply: (t: Tensor, params: ValuesOf<P>) => Tensor;
}

const of = text("", { doc: "the array it works on; default: every array but labels", expects: "an array's name" });

function define<const P extends Params>({ name, doc, params, apply }: Declaration<P>) {
  return declare(name, doc, { of, ...params }, (values): Preprocessing => {
    const { of: array } = values as { readonly of: string };
    return {
      name,
      params: values,
      apply(data) {
        if (array && !data.names.includes(array))
          throw new Fault(name, `the data has no array "${array}"; it has ${data.names.join(", ")}`);
        const concerned = data.names.filter((n) => (array ? n === array : n !== "labels"));
        return {
          ...data,
          take(indices) {
            const batch = { ...data.take(indices) };
            for (const n of concerned) batch[n] = apply(batch[n]!, values as unknown as ValuesOf<P>);
            return batch;
          },
        };
      },
    };
  });
}

/** Numbers in a row: [0.5, 0.5, 0.5] in JSON and code, 0.5/0.5/0.5 on a command line. */
function list(initial: readonly number[], options: { readonly doc: string }): Param<readonly number[]> {
  return {
    default: initial,
    doc: options.doc,
    expects: "numbers with / between them",
    parse(raw) {
      const parts = typeof raw === "string" ? raw.split("/").map((s) => (s.trim() ? Number(s) : Number.NaN)) : raw;
      return Array.isArray(parts) && parts.length && parts.every((x) => Number.isFinite(x)) ? (parts as number[]) : undefined;
    },
  };
}

export const scale = define({
  name: "scale",
  doc: "Divides by a number, as float32: bytes by 255 lie in 0 to 1.",
  params: { by: number(255, { doc: "the divisor" }) },
  apply(t, { by }) {
    const x = numbersOf(t);
    return tensor(
      "float32",
      t.shape,
      new Float32Array(x).map((v) => v / by),
    );
  },
});

export const meanStd = define({
  name: "meanStd",
  doc: "(x − mean) / std, as float32, for the whole array or for each channel.",
  params: {
    mean: list([0], { doc: "one number, or one for each channel" }),
    std: list([1], { doc: "one number, or one for each channel" }),
    axis: int(1, { min: 1, doc: "the axis of the channels, counted from the axis of examples, 0: in NCHW 1, in NHWC 3" }),
  },
  apply(t, { mean, std, axis }) {
    const channels = t.shape[axis] ?? 1;
    for (const [what, values] of Object.entries({ mean, std }))
      if (values.length !== 1 && values.length !== channels)
        throw new Fault("meanStd", `${what} needs 1 number or ${channels}, one for each channel of [${t.shape}]; got ${values.length}`);
    const inner = sizeOf(t.shape.slice(axis + 1));
    const x = numbersOf(t);
    const at = (values: readonly number[], c: number) => values[values.length === 1 ? 0 : c]!;
    const out = new Float32Array(x.length);
    for (let i = 0; i < x.length; i++) {
      const c = Math.floor(i / inner) % channels;
      out[i] = (x[i]! - at(mean, c)) / at(std, c);
    }
    return tensor("float32", t.shape, out);
  },
});

export const layout = define({
  name: "layout",
  doc: "Reorders images between NHWC (files, canvases) and NCHW (most ONNX models).",
  params: { to: choice(["nchw", "nhwc"], { doc: "the order wanted; the other one is what the array has" }) },
  apply(t, { to }) {
    if (t.shape.length !== 4) throw new Fault("layout", `takes arrays of 4 axes; got [${t.shape}]`);
    const [n, a, b, c] = t.shape as [number, number, number, number];
    // One transpose per example: [rows, columns] → [columns, rows].
    const [rows, columns] = to === "nchw" ? [a * b, c] : [a, b * c];
    const width = dtypes[t.dtype].bits / 8;
    const from = bytesOf(t);
    const out = new Uint8Array(from.length);
    const size = rows * columns;
    for (let i = 0; i < n; i++)
      for (let r = 0; r < rows; r++)
        for (let k = 0; k < columns; k++)
          for (let w = 0; w < width; w++) out[(i * size + k * rows + r) * width + w] = from[(i * size + r * columns + k) * width + w]!;
    return { dtype: t.dtype, shape: to === "nchw" ? [n, c, a, b] : [n, b, c, a], data: out };
  },
});

export const cast = define({
  name: "cast",
  doc: "Changes the element type; integers are rounded half to even and saturated.",
  params: {
    to: choice(["float32", "float16", "float64", "uint8", "int8", "int16", "uint16", "int32", "int64", "bool"], {
      doc: "the element type wanted",
    }),
  },
  apply: (t, { to }) => tensor(to as DType, t.shape, numbersOf(t)),
});

export const reshape = define({
  name: "reshape",
  doc: "Gives every example another shape with as many elements: 28x28 digits as 784, or as 1x28x28.",
  params: { to: sizes("784", { doc: "the shape of one example" }) },
  apply: (t, { to }) => reshaped(t, [t.shape[0]!, ...to.split("x").map(Number)]),
});

/** A shape as text: 1x28x28. */
function sizes(initial: string, options: { readonly doc: string }): Param<string> {
  return {
    default: initial,
    doc: options.doc,
    expects: "sizes with x between them",
    parse: (raw) => (typeof raw === "string" && /^\d+(x\d+)*$/.test(raw) ? raw : typeof raw === "number" ? String(raw) : undefined),
  };
}

export const preprocessings = { scale, meanStd, layout, cast, reshape } as const;

/** A preprocessing from text: `scale:by=255`, `meanStd:mean=0.5/0.5/0.5,std=0.2/0.2/0.2`, `layout:to=nchw,of=image`. Errors: an unknown name, a wrong parameter. */
export function preprocessing(call: string): Preprocessing {
  return called<Preprocessing>("preprocess", preprocessings, call);
}

/** The dataset after these preprocessings, one after the other; examples are worked on as they are taken. */
export function preprocess(data: Dataset, steps: readonly (Preprocessing | string)[]): Dataset {
  return steps.reduce((d, s) => (typeof s === "string" ? preprocessing(s) : s).apply(d), data);
}
