/** Which widths and kinds of codes go together, and on what they run. */
import { Fault } from "../../tensor/fault.ts";
import type { IntType } from "./scheme.ts";

/** What decides the codes; null: from the rest. */
export interface Wanted {
  readonly mode: "dynamic" | "static";
  readonly target: "cpu" | "tensorrt";
  readonly format: "qdq" | "qoperator";
  readonly activationType: IntType | null;
  readonly weightType: IntType;
  readonly activations: "asymmetric" | "symmetric";
  readonly weights: "symmetric" | "asymmetric";
  readonly granularity: "channel" | "tensor";
  readonly reduceRange: boolean;
  readonly minRange: number;
}

/** The same, decided. */
export interface Widths {
  readonly activationType: IntType;
  readonly weightType: IntType;
  /** Activations centred on 0. */
  readonly symmetric: boolean;
  readonly symmetricWeights: boolean;
  readonly granularity: "channel" | "tensor";
  readonly reduceRange: boolean;
  readonly minRange: number;
  /** Codes are handed from layer to layer: there are integer kernels for them, and the runtime places no pairs itself. */
  readonly chains: boolean;
  readonly integerBias: boolean;
}

const wide = (t: IntType) => t.endsWith("16");

/** Errors: what does not go together. */
export function widthsOf(p: Wanted): Widths {
  const cpu = p.target === "cpu";
  const activationType = p.activationType ?? (cpu ? "uint8" : "int8");
  const fail = (why: string) => {
    throw new Fault("int8", why);
  };
  const types = `activationType=${activationType}, weightType=${p.weightType}`;
  if (p.mode === "dynamic") {
    if (!cpu) fail("target=tensorrt needs mode=static; got mode=dynamic");
    if (activationType !== "uint8" || wide(p.weightType))
      fail(`mode=dynamic has kernels for uint8 inputs and 8-bit weights only; got ${types}`);
    if (p.format === "qoperator") fail("format=qoperator needs mode=static (dynamic files hold operators anyway); got mode=dynamic");
  }
  if (!cpu && (activationType !== "int8" || p.weightType !== "int8" || p.weights !== "symmetric"))
    fail(`target=tensorrt takes symmetric int8 codes only; got ${types}, weights=${p.weights}`);
  const integers = !wide(activationType) && !wide(p.weightType) && !(activationType === "int8" && p.weightType === "uint8");
  if (p.format === "qoperator") {
    if (!cpu) fail("target=tensorrt takes format=qdq only; got qoperator");
    if (!integers) fail(`format=qoperator has kernels for uint8 × int8, uint8 × uint8 and int8 × int8 only; got ${types}`);
  }
  return {
    activationType,
    weightType: p.weightType,
    symmetric: p.activations === "symmetric" || !cpu,
    symmetricWeights: p.weights === "symmetric",
    granularity: p.granularity,
    reduceRange: p.reduceRange,
    minRange: p.minRange,
    chains: cpu && integers,
    integerBias: cpu && integers,
  };
}

/** What is to be known of the widths chosen, in a line; null: nothing. */
export function cautionOf(w: Widths, p: Wanted): string | null {
  if (wide(w.activationType) || wide(w.weightType))
    return `${w.activationType} × ${w.weightType}: ONNX Runtime has no integer kernels for 16 bits on CPUs; it computes in floats between the codes, so the file is smaller and no faster`;
  if (w.activationType === "int8" && w.weightType === "uint8")
    return "int8 × uint8: ONNX Runtime has no kernels for it; it computes in floats between the codes";
  if (w.activationType === "int8" && p.target === "cpu") return "int8 activations are slower than uint8 on x86 CPUs";
  return null;
}
