/**
 * What stays makes up for what went: layer by layer, weights are fitted by least squares so that the net comes back to what it computed before
 * channels or blocks were removed (He et al. 2017, Channel Pruning for Accelerating Very Deep Neural Networks, sections 3.1 to 3.3; Luo et al. 2017, ThiNet).
 */
import type { Dataset } from "../../data/dataset.ts";
import { cloneModel, type Model, type Node, type Value } from "../../ir/graph.ts";
import { Build } from "../../ops/build.ts";
import { type Observer, observe } from "../../runtime/observe.ts";
import { sizeOf } from "../../tensor/dtype.ts";
import { floatsOf, type Tensor, tensor } from "../../tensor/tensor.ts";
import { copyNodes } from "../../transform/inline.ts";
import { dropDefault } from "../../transform/weights.ts";
import { leave } from "../left.ts";
import { elementsOf } from "../matrix.ts";
import { inputKey, rowsOf } from "../moments.ts";
import { sampled, shapes } from "../sample.ts";
import { stagesOf } from "../stages.ts";
import type { Context } from "../technique.ts";
import type { WeightLayer } from "../weightlayers.ts";
import { layoutOf, scattered } from "./layout.ts";
import { corrected, type Sums } from "./leastsquares.ts";
import { axisOf, type Site, sitesOf } from "./sites.ts";

/** The model before the removal, whose values have the names that they have in the one after it, and which positions of them stayed. */
export interface Former {
  readonly model: Model;
  /** null: all. */
  readonly kept: (value: Value, axis: number) => readonly number[] | null;
  /** Values that now stand for others: name now → name of what is read in its place in the former model. */
  readonly stands?: ReadonlyMap<string, string>;
}

export interface Fitting {
  /** The ridge, as a share of the mean square of a layer's inputs. Default 1e-3. */
  readonly damp?: number;
}

/** Most passes over the data. */
const passes = 64;
/** Bytes of sums at a time, and of Convs' patches. */
const [perPass, perRun] = [1e9, 128e6];
/** Rows that are enough for a layer of few inputs, rows for each input, and examples that are taken whatever rows they have. */
const [enoughRows, rowsPerInput, fewest] = [16384, 8, 32];
/** Of so many batches one is held out to see whether a solution serves. */
const parts = 5;
/** Differences that are rounding, as shares of the outputs' energy. */
const rounding = 1e-9;

/** Fits the model's layers, first the ones nearest to the inputs, and says in notes how far the layers' outputs were off and are. */
export async function reconstruct(
  model: Model,
  former: Former,
  data: Dataset,
  context: Pick<Context, "threads" | "note" | "progress">,
  { damp = 1e-3 }: Fitting = {},
): Promise<void> {
  const { note, threads } = context;
  const shapeOf = await shapes(model, data, threads);
  const { sites, left } = sitesOf(model, shapeOf);
  const stages = stagesOf(
    model,
    sites.map((s) => s.layer),
    passes,
  );
  const siteOf = new Map(sites.map((s) => [s.layer, s]));
  const [before, after] = [[] as number[], [] as number[]];
  let most = 0;
  for (const [step, stage] of stages.entries()) {
    context.progress({ what: "fitting what stays", step, of: stages.length });
    const undone = new Set(stages.slice(step).flatMap((list) => list.map((l) => l.node)));
    for (const part of partsOf(stage)) {
      const points = new Map(part.map((l) => siteOf.get(l)!).map((s) => [s, pointOf(s, undone)]));
      const sample = sampled(data, enough([...points.keys()], shapeOf, data.length));
      most = Math.max(most, sample.length);
      const seen = await sumsOf(model, former, points, sample, shapeOf, threads);
      for (const [site, s] of seen) {
        const off = s.all > 0 ? s.lack / s.all : 0;
        if (off <= rounding) continue;
        const sums = [s.fit, s.held].flatMap((h) => [h.gram, h.cross]);
        if (!sums.every((m) => m.every(Number.isFinite))) {
          leave(left, "its inputs or outputs are not all finite", site.layer.node);
          continue;
        }
        const { rows } = site.layer.matrix;
        const columns = site.layer.matrix.columns + (site.bias ? 1 : 0);
        const { delta, gain } = corrected(s.fit, s.held, { rows, columns, bias: site.bias !== null, damp });
        before.push(off);
        after.push((s.lack - gain) / s.all);
        if (gain > 0) change(site, delta, columns, note);
      }
    }
  }
  for (const [why, names] of left)
    note(`not fitted: ${names.length > 5 ? `${names.slice(0, 4).join(", ")} and ${names.length - 4} more` : names.join(", ")}: ${why}`);
  if (before.length)
    note(
      `${before.length} layers fitted to the outputs from before, on up to ${most} examples: mean squared error on held-out ones ${percent(mean(before))} → ${percent(mean(after))} of the outputs' energy`,
    );
}

/** Where a site's outputs are compared: behind the sum, so that what the other summand lacks is made up for too, unless that is still to be fitted. */
function pointOf({ own, sum }: Site, undone: ReadonlySet<Node>): Value {
  return sum && ![...sum.behind].some((n) => undone.has(n)) ? sum.value : own;
}

const mean = (xs: readonly number[]) => xs.reduce((a, x) => a + x, 0) / xs.length;
const percent = (x: number) => `${+(100 * x).toPrecision(3)} %`;

/** Layers of a stage in parts whose sums fit into memory. */
function partsOf(stage: readonly WeightLayer[]): WeightLayer[][] {
  const out: WeightLayer[][] = [];
  let bytes = Infinity;
  for (const l of stage) {
    const size = 16 * l.matrix.columns * (l.matrix.columns + l.matrix.rows);
    if (bytes + size > perPass) {
      out.push([]);
      bytes = 0;
    }
    out.at(-1)!.push(l);
    bytes += size;
  }
  return out;
}

/** Rows of inputs that a layer has for one example. */
function rowsPerExample({ layer }: Site, shapeOf: (v: Value) => readonly number[] | null): number {
  const shape = shapeOf(layer.node.outputs[0]!) ?? [1];
  return layer.op === "Conv" ? sizeOf(shape.slice(2)) : sizeOf(shape.slice(0, -1));
}

function enough(sites: readonly Site[], shapeOf: (v: Value) => readonly number[] | null, most: number): number {
  let n = fewest;
  for (const s of sites) n = Math.max(n, Math.max(enoughRows, rowsPerInput * s.layer.matrix.columns) / rowsPerExample(s, shapeOf));
  return Math.min(most, Math.ceil(n));
}

interface Seen {
  readonly fit: Sums;
  readonly held: Sums;
  /** On the held-out rows: Σ‖r‖², and of how much. */
  readonly lack: number;
  readonly all: number;
}

interface Halves {
  batches: number;
  readonly fit: Float64Array<ArrayBuffer>;
  readonly held: Float64Array<ArrayBuffer>;
}

const halves: Observer<Halves> = {
  init: (shape) => ({ batches: 0, fit: new Float64Array(sizeOf(shape)), held: new Float64Array(sizeOf(shape)) }),
  update(s, x) {
    const values = floatsOf(x);
    const into = s.batches++ % parts === 1 ? s.held : s.fit;
    for (let i = 0; i < into.length; i++) into[i]! += values[i]!;
    return s;
  },
};

/** What sites' layers read and what their points lack, from both nets side by side in one graph. */
async function sumsOf(
  model: Model,
  former: Former,
  points: ReadonlyMap<Site, Value>,
  data: Dataset,
  shapeOf: (v: Value) => readonly number[] | null,
  threads: number,
): Promise<Map<Site, Seen>> {
  const were = new Map<Value, Value>();
  const probe = cloneModel(former.model, were);
  const named = new Map([...were.values()].map((v) => [v.name, v]));
  const now = new Map<Value, Value | null>();
  for (const v of model.graph.inputs) if (!v.data) now.set(v, named.get(v.name)!);
  copyNodes(model.graph, probe.graph, now, "after");
  const b = new Build(probe.graph, probe.opsets.get("") ?? 1, "reconstruct");
  const grams = new Map<string, { rows: Value; gram: Value }>();
  const watched = new Map<Site, { gram: Value; cross: Value; energy: Value }>();
  let elements = 1;
  for (const [site, point] of points) {
    const { layer } = site;
    const { columns, rows } = layer.matrix;
    const stride = strideOf(site, shapeOf, data.length);
    const key = `${inputKey(layer)}|${site.bias ? 1 : 0}`;
    if (layer.op === "Conv") elements = Math.max(elements, rowsPerExample(site, shapeOf) * columns);
    let x = grams.get(key);
    if (!x) {
      let xs = thinned(b, rowsOf(b, layer, now.get(layer.node.inputs[0]!)!), stride);
      if (site.bias) xs = b.op("Concat", [xs, onesBeside(b, xs)], { axis: 1 });
      x = { rows: xs, gram: b.matmul(b.transpose(xs, [1, 0]), xs) };
      grams.set(key, x);
    }
    const shape = shapeOf(point)!;
    const axis = axisOf(layer, shape);
    const perm = layer.op === "Conv" ? [0, ...shape.map((_, i) => i).slice(2), 1] : null;
    const flat = (v: Value) => {
      const float = b.cast(v, "float32");
      return thinned(b, b.reshape(perm ? b.transpose(float, perm) : float, [-1, rows]), stride);
    };
    const was = named.get(former.stands?.get(point.name) ?? point.name);
    if (!was) continue;
    const kept = former.kept(point, axis);
    const wanted = flat(kept ? b.op("Gather", [was, b.i64(kept)], { axis }) : was);
    const lack = b.sub(wanted, flat(now.get(point)!));
    const energyOf = (v: Value) => b.reshape(b.sum(b.mul(v, v), [0, 1]), [1]);
    watched.set(site, {
      gram: x.gram,
      cross: b.matmul(b.transpose(x.rows, [1, 0]), lack),
      energy: b.op("Concat", [energyOf(lack), energyOf(wanted)], { axis: 0 }),
    });
  }
  const batchSize = Math.max(1, Math.min(32, Math.floor((data.length - 1) / parts), Math.floor(perRun / (4 * elements))));
  const values = [...watched.values()].flatMap((w) => [w.gram, w.cross, w.energy]);
  const seen = await observe(probe, values, data, halves, { threads, batchSize });
  const out = new Map<Site, Seen>();
  for (const [site, w] of watched) {
    const [gram, cross, energy] = [seen.get(w.gram), seen.get(w.cross), seen.get(w.energy)];
    if (!gram || !cross || !energy || energy.batches < 2) continue;
    const half = (k: "fit" | "held") => ({ gram: gram[k], cross: cross[k] });
    out.set(site, { fit: half("fit"), held: half("held"), lack: energy.held[0]!, all: energy.held[1]! });
  }
  return out;
}

/** One row of so many, where a Conv has more places than there is use for; odd, so that all columns of an image come up. */
function strideOf(site: Site, shapeOf: (v: Value) => readonly number[] | null, examples: number): number {
  const rows = rowsPerExample(site, shapeOf);
  const wanted = 2 * Math.max(enoughRows, rowsPerInput * site.layer.matrix.columns);
  const stride = Math.floor((rows * examples) / wanted);
  return Math.max(1, Math.min(stride - (1 - (stride % 2)), rows));
}

function thinned(b: Build, rows: Value, stride: number): Value {
  if (stride === 1) return rows;
  return b.opset < 10 ? rows : b.op("Slice", [rows, b.i64([0]), b.i64([2 ** 31]), b.i64([0]), b.i64([stride])]);
}

/** A column of ones as long as the rows. */
function onesBeside(b: Build, rows: Value): Value {
  const first = b.op("Gather", [rows, b.i64([0])], { axis: 1 });
  return b.add(b.mul(first, b.f32(0)), b.f32(1));
}

/** Adds Δ, which is meant for the point, to the layer's weight and, its last column, to the bias. */
function change({ layer, weight, bias, scale }: Site, delta: Float64Array, columns: number, note: (line: string) => void): void {
  const { rows, columns: inputs } = layer.matrix;
  const w = elementsOf(layer.matrix);
  const share = (r: number, k: number) => (scale[r] ? delta[r * columns + k]! / scale[r]! : 0);
  for (let r = 0; r < rows; r++) for (let k = 0; k < inputs; k++) w[r * inputs + k]! += share(r, k);
  write(weight.value, scattered(w, layoutOf(weight)!), note);
  if (bias) {
    const b = floatsOf(bias.value.data!);
    write(
      bias.value,
      b.map((x, r) => x + bias.by[r]! * share(r, inputs)),
      note,
    );
  }
}

function write(v: Value, values: Float32Array, note: (line: string) => void): void {
  const { dtype, shape }: Tensor = v.data!;
  v.graph.setData(v, tensor(dtype, shape, values));
  if (dropDefault(v.graph, v)) note(`"${v.name}" is no longer an input that callers may override`);
}
