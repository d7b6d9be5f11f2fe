/** Inputs and outputs of a session, and what fits them. */
import type { InferenceSession } from "onnxruntime-common";
import type { Model, Value } from "../ir/graph.ts";
import type { DType } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface Port {
  readonly name: string;
  /** null: not a tensor, but a sequence, a map or an optional. */
  readonly dtype: DType | null;
  readonly shape: readonly (number | string | null)[];
}

/** Element types the runtime's binding passes in and out; at a 4-bit output it does not fail but ends the process. */
const passed = new Set<string>([
  "float32",
  "float64",
  "float16",
  "int8",
  "int16",
  "int32",
  "int64",
  "uint8",
  "uint16",
  "uint32",
  "uint64",
  "bool",
  "string",
] satisfies DType[]);

export function portOf(m: InferenceSession.ValueMetadata): Port {
  if (!m.isTensor) return { name: m.name, dtype: null, shape: [] };
  const shape = m.shape.map((d) => (d === "" || (typeof d === "number" && d < 0) ? null : d));
  return { name: m.name, dtype: m.type as DType, shape };
}

/** True for a tensor of a type that can be fed and fetched. */
export function passes(port: Port): boolean {
  return port.dtype !== null && passed.has(port.dtype);
}

/** Errors: a tensor of another element type or shape than the port's. */
export function expectFit(what: "input" | "output", port: Port, t: Tensor): void {
  const { name, dtype, shape } = port;
  if (!passes(port)) throw new Fault("session", `${what} "${name}" is no tensor, or of a type that this runtime does not pass in or out`);
  if (t.dtype !== dtype) throw new Fault("session", `${what} "${name}" is ${dtype}; got ${t.dtype}`);
  // A shape of no dimensions is a scalar's or an unknown one: the runtime knows.
  const fits = t.shape.length === shape.length && shape.every((d, i) => typeof d !== "number" || d === t.shape[i]);
  if (shape.length > 0 && !fits)
    throw new Fault("session", `${what} "${name}" takes the shape [${shape.map((d) => d ?? "?").join(", ")}]; got [${t.shape.join(", ")}]`);
}

/** The first input or output of a type that the binding cannot name, which it refuses with a number only. */
export function unpassable(model: Model): Value | null {
  const all = [...model.graph.inputs.filter((v) => !v.data), ...model.graph.outputs];
  return all.find((v) => v.type && !passed.has(v.type.dtype) && !v.type.dtype.endsWith("int4")) ?? null;
}
