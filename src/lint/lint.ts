/** What runtimes make of a model, without running it. */
import { cloneModel, type Model } from "../ir/graph.ts";
import { stored } from "../ir/walk.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { inlineFunctions } from "../transform/inline.ts";
import { agreementFindings } from "./agreement.ts";
import { costFindings } from "./costs.ts";
import { type Documented, documented } from "./documented.ts";
import { documentFindings } from "./documents.ts";
import { type Finding, sortedFindings } from "./finding.ts";
import { kernelFindings } from "./kernels.ts";
import { type Measured, measured } from "./runtime.ts";
import { sparseFindings } from "./sparse.ts";
import { typesOf } from "./types.ts";

/** Runtimes that can be asked about: measured ones first, the others as their documents say. */
export const targets: readonly string[] = [...Object.keys(measured), ...Object.keys(documented)];

/** The target of that name, or a Fault that says which there are. */
export function targetOf(name: string): string {
  if (!targets.includes(name)) throw new Fault("target", `must be one of ${targets.join(", ")}; got ${JSON.stringify(name)}`);
  return name;
}

/**
 * What stands in the way of the model on a runtime (errors), what slows it or changes its numbers there (warnings), and what is worth
 * knowing (notes); errors first. Nothing is run: node and wasm are judged by tables measured with scripts/probe.ts, the others by their
 * documents, and each finding says which. Errors: an unknown target.
 */
export function lint(model: Model, target: string): Finding[] {
  targetOf(target);
  const flat = cloneModel(model);
  inlineFunctions(flat);
  const types = typesOf(flat);
  const m: Measured | undefined = (measured as Readonly<Record<string, Measured>>)[target];
  if (m)
    return sortedFindings([
      ...limits(model, { opset: m.facts.opset!, from: 7, ir: m.facts.ir! }, `measured, ${m.runtime}`),
      ...ends(flat, m),
      ...sizes(flat, target),
      ...sparseFindings(model, target),
      ...agreementFindings(flat, types),
      ...kernelFindings(flat, types, m),
      ...costFindings(flat, types, m),
    ]);
  const d = documented[target] as Documented;
  const basis = `documented, ${d.document}`;
  return sortedFindings([
    ...limits(model, { from: d.opsets?.[0] ?? 7, opset: d.opsets?.[1] ?? 99, ir: d.ir ?? 99 }, basis),
    ...sparseFindings(model, target),
    ...agreementFindings(flat, types),
    ...documentFindings(flat, types, d),
  ]);
}

function limits(model: Model, { opset, from, ir }: { opset: number; from: number; ir: number }, basis: string): Finding[] {
  const has = model.opsets.get("") ?? 1;
  const out: Finding[] = [];
  if (has > opset) out.push({ level: "error", what: `opset ${has}; the runtime takes up to ${opset}`, nodes: [], basis });
  if (has < from) out.push({ level: "warning", what: `opset ${has}; the runtime promises nothing below ${from}`, nodes: [], basis });
  if (model.irVersion > ir)
    out.push({ level: "error", what: `IR version ${model.irVersion}; the runtime takes up to ${ir}`, nodes: [], basis });
  return out;
}

/** Inputs and outputs of types that JavaScript cannot hold. */
function ends(model: Model, m: Measured): Finding[] {
  const narrow = (t: DType) => m.facts[`io/${t}`] !== undefined || /^(float8|float4|complex)/.test(t) || dtypes[t].bits < 8;
  const bad = [...model.graph.inputs.filter((v) => !v.data), ...model.graph.outputs].filter(
    (v) => v.type && narrow(v.type.dtype) && v.type.dtype !== "string",
  );
  return bad.map((v) => ({
    level: "error",
    what: `"${v.name}" goes in or out as ${v.type!.dtype}, which the JavaScript binding does not pass; cast it inside the model`,
    nodes: [v.name],
    basis: `measured, ${m.runtime}`,
  }));
}

/** What a browser's memory holds. */
function sizes(model: Model, target: string): Finding[] {
  let bytes = 0;
  for (const s of stored(model.graph)) bytes += s.tensor.data.byteLength;
  if (target !== "wasm" || bytes < 2e9) return [];
  return [
    {
      level: bytes > 4e9 ? "error" : "warning",
      what: `${(bytes / 1e9).toFixed(1)} GB of weights: WebAssembly has 4 GB of memory for them and all else${model.externalFiles.length ? "" : ", and a file in one piece ends at 2 GB"}`,
      nodes: [],
      basis: "the WebAssembly specification",
    },
  ];
}
