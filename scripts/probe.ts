/**
 * Measures what a runtime takes: opens and runs a small model for every op, version, element type and width that matters, and writes
 * src/lint/runtimes/<runtime>.generated.ts. `npx tsx --conditions=source scripts/probe.ts [facts] [node] [wasm]`; about two minutes each. facts:
 * limits and times alone, on a machine that is quiet.
 * Every probe runs in a child process, which is started again behind a probe that ends it.
 */
import { execFileSync, fork } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { cloneModel, type Model } from "../src/ir/graph.ts";
import { measured } from "../src/lint/runtime.ts";
import { typesOf } from "../src/lint/types.ts";
import { opName, variantOf } from "../src/lint/variant.ts";
import { writeModel } from "../src/onnx/write.ts";
import { type DType, dtypes } from "../src/tensor/dtype.ts";
import { numbersOf, type Tensor, valuesOf, wrap } from "../src/tensor/tensor.ts";
import { factsOf } from "./probe/facts.ts";
import { opProbes, type Probe } from "./probe/ops.ts";
import { quantizedProbes } from "./probe/quantized.ts";

type Runtime = "node" | "wasm";
type Ort = typeof import("onnxruntime-node");

/** What came of one probe. */
export interface Outcome {
  readonly op: string;
  readonly version: number;
  readonly variant: string;
  readonly outcome: string;
  /** Values of the first output, for later probes of the same op to be compared with. */
  readonly values?: readonly number[];
  readonly error?: number;
  readonly said?: string;
}

const scratch = mkdtempSync(join(tmpdir(), "pith-probe-"));

/** Runs models on one of the runtimes. */
export interface Engine {
  readonly runtime: Runtime;
  readonly version: string;
  run(model: Model, feeds: Readonly<Record<string, Tensor>>, options?: Record<string, unknown>): Promise<Tensor>;
  /** A function that runs the model once, for timing. */
  timed(
    model: Model,
    feeds: Readonly<Record<string, Tensor>>,
    options?: Record<string, unknown>,
  ): Promise<{ run: () => Promise<void>; end: () => Promise<void> }>;
  /** Whether the runtime put Casts around what it has no float16 kernel for. */
  casts(model: Model): Promise<boolean>;
}

async function engineOf(runtime: Runtime): Promise<Engine> {
  const lines: string[] = [];
  // Where it prints: from the CommonJS module, which can be changed.
  if (runtime === "wasm")
    createRequire(import.meta.url)("node:fs").writeSync = (_: number, line: string) => {
      lines.push(line);
      return line.length;
    };
  const ort = (runtime === "node" ? await import("onnxruntime-node") : await import("onnxruntime-web")) as unknown as Ort;
  if (runtime === "wasm") (ort.env as unknown as { wasm: { numThreads: number } }).wasm.numThreads = 1;
  const settings = { executionProviders: [runtime === "node" ? "cpu" : "wasm"], logSeverityLevel: 4 as const, intraOpNumThreads: 1 };
  const open = (model: Model, options: Record<string, unknown>) =>
    ort.InferenceSession.create(writeModel(model), { ...settings, ...options });
  const given = (feeds: Readonly<Record<string, Tensor>>) =>
    Object.fromEntries(
      Object.entries(feeds).map(([n, t]) => [n, new ort.Tensor(t.dtype as "float32", valuesOf(t) as Float32Array, t.shape as number[])]),
    );
  return {
    runtime,
    version: `onnxruntime-${runtime === "node" ? "node" : "web"} ${ort.env.versions[runtime === "node" ? "node" : "web"]}`,
    async run(model, feeds, options = {}) {
      const session = await open(model, { graphOptimizationLevel: "disabled", ...options });
      try {
        const t = Object.values(await session.run(given(feeds)))[0]!;
        return wrap(t.type as DType, t.dims, t.data as Float32Array);
      } finally {
        await session.release();
      }
    },
    async timed(model, feeds, options = {}) {
      const session = await open(model, options);
      const fed = given(feeds);
      return { run: async () => void (await session.run(fed)), end: () => session.release() };
    },
    async casts(model) {
      const graphOptimizationLevel = "disabled";
      const optimizedModelFilePath = join(scratch, `${process.pid}.onnx`);
      for (const output of [true, false]) {
        const bare = uncast(model, output);
        lines.length = 0;
        try {
          const report = runtime === "wasm" ? { logSeverityLevel: 0 } : { optimizedModelFilePath };
          await (await open(bare, { graphOptimizationLevel, ...report })).release();
        } catch (e) {
          // A type that cannot be an output.
          if (output) continue;
          throw e;
        }
        if (runtime === "node") return readFileSync(optimizedModelFilePath).includes("InsertedPrecisionFreeCast");
        // There is no file to look into, but the log says how many nodes there are in the end.
        const count = /Number of nodes: (\d+)/.exec(lines.join("\n"))?.[1];
        if (!count) throw new Error("the log does not say how many nodes there are");
        return Number(count) !== bare.graph.nodes.size;
      }
      throw new Error("it opened before");
    },
  };
}

/** The model with float16 inputs and (if `output`) whatever output, instead of Casts at its ends, of which the runtime takes some away. */
function uncast(model: Model, output: boolean): Model {
  const bare = cloneModel(model);
  const { graph } = bare;
  const last = graph.outputs[0]!.producer!;
  if (output && last.opType === "Cast") {
    const inner = last.inputs[0]!;
    graph.setOutput(0, inner);
    graph.remove(last);
  }
  for (const x of graph.inputs) {
    const [use] = x.uses;
    if (!use || !("node" in use) || use.node.opType !== "Cast" || use.node.int("to") !== dtypes.float16.code) continue;
    const cast = use.node;
    x.type = { dtype: "float16", shape: x.shape };
    cast.outputs[0]!.replaceUses(x);
    graph.remove(cast);
  }
  return bare;
}

const tolerance = (type: string) =>
  type.startsWith("float16") ? 1e-2 : type.startsWith("bfloat16") ? 6e-2 : type === "float64" ? 5e-3 : 1e-3;
/** Rounding on codes may fall to the other side. */
const codes = /^(QLinear|QuantizeLinear)/;
const chance = /^(Random|Bernoulli|Multinomial)/;

/** Greatest difference as a share of the greatest value. */
function distance(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let [worst, most] = [0, 1e-9];
  for (let i = 0; i < want.length; i++) {
    if (Number.isNaN(want[i]!) && Number.isNaN(got[i]!)) continue;
    if (want[i] === got[i]) continue;
    worst = Math.max(worst, Math.abs(got[i]! - want[i]!));
    most = Math.max(most, Math.abs(want[i]!));
  }
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst / most;
}

async function outcomeOf(engine: Engine, p: Probe, reference: ReadonlyMap<string, readonly number[]>): Promise<Outcome> {
  const variant = variantOf(p.node, typesOf(p.model)) ?? "?";
  const row = { op: p.op, version: p.version, variant };
  if (opName(p.node) !== p.op) throw new Error(`${p.op} is called ${opName(p.node)}`);
  let values: number[];
  try {
    values = Array.from(numbersOf(await engine.run(p.model, p.feeds)));
  } catch (e) {
    const said = (e instanceof Error ? e.message : String(e))
      .replace(/^Can't create a session\. /, "")
      .split("\n")[0]!
      .slice(0, 300);
    // A missing kernel of an op that this one is taken apart into is its own lack; that of a Cast around it says nothing.
    if (/Could not find an implementation|Failed to find kernel/.test(said))
      return { ...row, outcome: p.node.opType !== "Cast" && /'pith\/Cast/.test(said) ? "untried" : "none", said };
    if (/deprecated/.test(said)) return { ...row, outcome: "gone", said };
    // Refused by the definition of the op, not by the runtime.
    if (
      /is invalid\.|Type Error|not a registered function|Unrecognized attribute|expected type|TypeInferenceError|ShapeInferenceError/.test(
        said,
      )
    )
      return { ...row, outcome: "invalid", said };
    return { ...row, outcome: "fails", said };
  }
  const key = `${p.op} ${p.version}`;
  const want = p.expected ?? (chance.test(p.op) || !/^(b?float|double)/.test(variant) ? null : reference.get(key));
  const error = want ? distance(values, want) : 0;
  const allowed = codes.test(p.op) ? 1.01 / Math.max(1, ...Array.from(want ?? [], Math.abs)) : tolerance(variant);
  if (error > Math.max(allowed, tolerance(variant))) {
    // Sums of 8-bit products are rough, not wrong.
    return { ...row, outcome: error < 0.05 ? "rough" : "wrong", error, values };
  }
  if (p.op !== "Cast" && /^float16(\/|$)/.test(variant)) if (await engine.casts(p.model)) return { ...row, outcome: "cast", values };
  return { ...row, outcome: "ok", error, values };
}

function* probes(): Generator<Probe> {
  yield* opProbes();
  yield* quantizedProbes();
}

/** In a child: the probes from `start` on, each outcome sent as it comes. */
async function child(runtime: Runtime, start: number): Promise<void> {
  const engine = await engineOf(runtime);
  const reference = new Map<string, readonly number[]>();
  const send = (m: unknown) => new Promise<void>((resolve) => process.send!(m, () => resolve()));
  await send({ version: engine.version });
  let i = 0;
  for (const p of start === Number.POSITIVE_INFINITY ? [] : probes()) {
    const variant = variantOf(p.node, typesOf(p.model)) ?? "?";
    if (i >= start || variant === "float32") {
      await send({ begun: i, op: p.op, version: p.version, variant });
      const o = await outcomeOf(engine, p, reference);
      if (variant === "float32" && o.values) reference.set(`${p.op} ${p.version}`, o.values);
      if (i >= start) await send({ done: i, row: { ...o, values: undefined } });
    }
    i++;
  }
  await send({ facts: await factsOf(engine) });
  process.disconnect();
}

interface Report {
  version?: string;
  begun?: number;
  done?: number;
  row?: Outcome;
  facts?: Readonly<Record<string, number>>;
  op?: string;
  variant?: string;
}

async function measure(runtime: Runtime, factsOnly: boolean): Promise<void> {
  const found: Outcome[] = [];
  let [version, next, facts] = ["", factsOnly ? Number.POSITIVE_INFINITY : 0, null as Readonly<Record<string, number>> | null];
  while (!facts) {
    let begun: Report | null = null;
    await new Promise<void>((resolve, reject) => {
      const c = fork(import.meta.filename, ["--child", runtime, String(next)], {
        execArgv: ["--conditions=source", "--import", "tsx"],
        stdio: ["ignore", "ignore", "ignore", "ipc"],
      });
      c.on("message", (m: Report) => {
        if (m.version && !m.op) version = m.version;
        if (m.begun !== undefined) begun = m;
        if (m.row) {
          found.push(m.row);
          next = m.done! + 1;
          if (next % 500 === 0) process.stderr.write(`${runtime}: ${next}\n`);
        }
        if (m.facts) facts = m.facts;
      });
      c.on("error", reject);
      c.on("close", () => resolve());
    });
    if (facts) break;
    const b = begun as (Report & { version: number }) | null;
    if (!b) throw new Error(`${runtime}: the process ends before the first probe`);
    process.stderr.write(`${runtime}: ended at ${b.op} ${b.version} ${b.variant}\n`);
    if (b.begun! < next) throw new Error(`${runtime}: ends while measuring facts`);
    found.push({ op: b.op!, version: b.version as number, variant: b.variant!, outcome: "crash" });
    next = b.begun! + 1;
  }
  const path = join(import.meta.dirname, `../src/lint/runtimes/${runtime}.generated.ts`);
  const rows = factsOnly ? measured[runtime].rows.trim() : rowsOf(found);
  writeFileSync(path, text(version, rows, facts));
  execFileSync("npx", ["biome", "check", "--write", path], { stdio: "ignore" });
  if (process.env.PROBE_LOG) writeFileSync(process.env.PROBE_LOG, found.map((f) => JSON.stringify(f)).join("\n"));
}

/** The same variants in fewer words: "a/x", "a/y", "b/x", "b/y" are "a,b/x,y". */
function factored(variants: readonly string[]): string[] {
  let tuples = variants.map((v) => v.split("/"));
  for (let at = tuples[0]!.length - 1; at >= 0; at--) {
    const groups = new Map<string, string[][]>();
    for (const t of tuples) {
      const key = t.filter((_, i) => i !== at).join("/");
      groups.set(key, [...(groups.get(key) ?? []), t]);
    }
    tuples = [...groups.values()].map((g) => g[0]!.with(at, g.map((t) => t[at]!).join(",")));
  }
  return tuples.map((t) => t.join("/"));
}

/** Rows, one a line: op, versions, then outcomes with their variants. Versions that do the same share a line; what a definition does not allow is left out. */
function rowsOf(found: readonly Outcome[]): string {
  const ops = new Map<string, Map<number, Map<string, string[]>>>();
  for (const { op, version: v, variant, outcome } of found) {
    if (outcome === "invalid" && !variant.includes("/")) continue; // what a definition does not allow is what its line does not name
    const versions = ops.get(op) ?? new Map<number, Map<string, string[]>>();
    ops.set(op, versions);
    const outcomes = versions.get(v) ?? new Map<string, string[]>();
    versions.set(v, outcomes);
    const list = outcomes.get(outcome) ?? [];
    outcomes.set(outcome, list);
    if (!list.includes(variant)) list.push(variant);
  }
  const lines: string[] = [];
  for (const [op, versions] of ops) {
    const same = new Map<string, number[]>();
    for (const [v, outcomes] of versions) {
      const line = [...outcomes].map(([o, variants]) => `${o} ${factored(variants).join(" ")}`).join("; ");
      same.set(line, [...(same.get(line) ?? []), v]);
    }
    for (const [line, vs] of same) lines.push(`${op} ${vs.join(",")}: ${line}`);
  }
  return lines.join("\n");
}

function text(version: string, rows: string, facts: Readonly<Record<string, number>>): string {
  const numbers = Object.entries(facts).map(([k, v]) => `    ${JSON.stringify(k)}: ${Number(v.toPrecision(3))},`);
  return `/** What ${version} takes, measured: see scripts/probe.ts. */
import type { Measured } from "../runtime.ts";

const measured: Measured = {
  runtime: "${version}",
  machine: ${JSON.stringify(`${cpus()[0]?.model.trim()}, Node ${process.versions.node}`)},
  facts: {
${numbers.join("\n")}
  },
  rows: \`
${rows}
\`,
};
export default measured;
`;
}

if (process.argv[2] === "--child") await child(process.argv[3] as Runtime, Number(process.argv[4]));
else {
  const [facts, ...rest] = process.argv[2] === "facts" ? process.argv.slice(2) : ["", ...process.argv.slice(2)];
  for (const r of rest.length ? (rest as Runtime[]) : (["node", "wasm"] as const)) await measure(r, facts === "facts");
}
if (existsSync(scratch)) rmSync(scratch, { recursive: true });
