/** Made-up inputs that suit a session of transformers.js: ids of the vocabulary, masks of ones, empty or zero caches and states. */
import type { Batch } from "../data/dataset.ts";
import type { Model, Node, Value } from "../ir/graph.ts";
import { constantOf } from "../ir/walk.ts";
import { sampleFeeds } from "../runtime/shapes.ts";
import { type DType, isFloat, sizeOf } from "../tensor/dtype.ts";
import { random } from "../tensor/random.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";

/** config.json, or a part of it. */
export type Config = Readonly<Record<string, unknown>>;

/** Parts of a config that describe one of several models. */
const parts = ["text_config", "decoder", "language_config", "vision_config", "encoder", "audio_config", "llm_config", "phi_config"];

/** The first number under one of `names`, in the config or in one of its parts. */
function numberIn(config: Config, ...names: readonly string[]): number | null {
  for (const c of [config, ...parts.map((p) => config[p] as Config | undefined)])
    for (const n of names) {
      const x = (c as Config | undefined)?.[n];
      if (typeof x === "number" && x > 0) return x;
    }
  return null;
}

/** Sizes of one set of inputs. */
interface Sizes {
  /** Tokens fed, tokens already in the cache, tokens of the encoder's. */
  readonly tokens: number;
  readonly past: number;
  readonly encoder: number;
  readonly cached: boolean;
  /** Of dimensions that nothing is known of. */
  readonly open: number;
}

/** Sizes to try for dimensions that nothing is known of: models have least sizes, and sizes that must divide. */
export const openSizes = [16, 32, 64, 224, 512] as const;

/**
 * Sets of inputs for the session file `base`: one; for a decoder with a cache, one at its start and one with a cache; for a merged decoder one
 * for each branch. `shapes`: sizes given by hand, by input; `open`: of dimensions that nothing is known of. Errors: an input of unknown rank that is in no table.
 */
export function inputsFor(
  model: Model,
  base: string,
  config: Config,
  shapes: Readonly<Record<string, readonly number[]>> = {},
  open: number = openSizes[0],
): readonly Batch[] {
  const names = model.graph.inputs.filter((v) => !v.data).map((v) => v.name);
  const caches = names.some((n) => /^past_(key_values|conv|ssm)|^past\b/.test(n));
  const positions = numberIn(config, "max_position_embeddings", "n_positions", "n_ctx", "max_target_positions") ?? 1024;
  const tokens = Math.max(1, Math.min(open, positions - 1));
  const encoder = Math.min(open, positions);
  const start: Sizes = { tokens, past: 0, encoder, cached: false, open };
  const next: Sizes = { tokens: 1, past: Math.min(4, Math.max(1, positions - 1)), encoder, cached: true, open };
  const sets = !caches ? [start] : /with_past/.test(base) ? [next] : [start, next];
  return sets.map((sizes, i) => oneSet(model, config, sizes, shapes, i));
}

function oneSet(model: Model, config: Config, sizes: Sizes, given: Readonly<Record<string, readonly number[]>>, seed: number): Batch {
  const feeds: Record<string, Tensor> = {};
  const unknown: Value[] = [];
  const { past, tokens } = sizes;
  for (const v of model.graph.inputs) {
    if (v.data || !v.type) continue;
    const { dtype } = v.type;
    const shape =
      given[v.name] ?? v.type.shape?.map((d, axis) => (typeof d === "number" ? d : sizeFor(v.name, d ?? "", axis, config, sizes)));
    const r = random(seed, v.name);
    const fill = (at: (i: number) => number) => {
      feeds[v.name] = tensor(
        dtype,
        shape!,
        Array.from({ length: sizeOf(shape!) }, (_, i) => at(i)),
      );
    };
    if (v.name === "use_cache_branch") feeds[v.name] = tensor("bool", shape ?? [1], [sizes.cached ? 1 : 0]);
    else if (!shape) unknown.push(v);
    else if (/mask$/.test(v.name)) fill(() => 1);
    else if (/(input|decoder|token|text).*_ids$|^input_ids$/.test(v.name) && !/type_ids|position/.test(v.name)) {
      const rows = vocabularyOf(v, config);
      fill(() => r.below(rows));
    } else if (/position_ids$/.test(v.name)) fill((i) => past + (i % tokens));
    else if (/type_ids$/.test(v.name)) fill(() => 0);
    else if (/^past|state$/.test(v.name) && !/hidden_state/.test(v.name)) feeds[v.name] = zeros(dtype, shape);
    else if (/num_logits_to_keep|cache_position/.test(v.name)) fill((i) => (v.name === "cache_position" ? past + i : 1));
    else if (isFloat(dtype)) {
      const scale = /embeds|hidden_states/.test(v.name) ? 0.5 : /input_values|audio/.test(v.name) ? 0.1 : 1;
      const values = r.fillNormal(new Float32Array(sizeOf(shape)));
      feeds[v.name] = tensor(
        dtype,
        shape,
        values.map((x) => scale * x),
      );
    } else unknown.push(v);
  }
  if (unknown.length) {
    const known = Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, t.shape]));
    const sampled = sampleFeeds(model, { shape: { ...known, ...given }, seed });
    for (const v of unknown) feeds[v.name] = sampled[v.name]!;
  }
  return feeds;
}

function zeros(dtype: DType, shape: readonly number[]): Tensor {
  return tensor(dtype, shape, new Array<number>(sizeOf(shape)).fill(0));
}

/** The size of an open dimension, by what its input and its symbol are called. */
function sizeFor(name: string, symbol: string, axis: number, config: Config, s: Sizes): number {
  if (axis === 0 && !/position_ids/.test(name)) return 1;
  const whole = s.past + s.tokens;
  if (/^past/.test(name)) {
    if (/\.encoder\./.test(name)) return axis === 2 ? s.encoder : headSize(axis, config);
    return axis === 2 || /past|seq/.test(symbol) ? s.past : headSize(axis, config);
  }
  if (/pixel_values|^images?$/.test(name)) {
    if (axis === 1 || /channel/.test(symbol)) return numberIn(config, "num_channels") ?? 3;
    return imageSize(config);
  }
  if (/input_features/.test(name))
    return axis === 1 ? (numberIn(config, "num_mel_bins", "feature_size") ?? 80) : 2 * (numberIn(config, "max_source_positions") ?? 1500);
  if (/input_values|audio/.test(name)) return /channel/.test(symbol) ? 1 : 16_000;
  if (/encoder_hidden_states|encoder_outputs/.test(name))
    return axis === 1 ? s.encoder : (numberIn(config, "d_model", "hidden_size", "n_embd") ?? 64);
  if (/embeds|hidden_states/.test(name) && axis === 2) return numberIn(config, "hidden_size", "d_model", "n_embd") ?? 64;
  if (/state$/.test(name)) return 1;
  if (/^encoder_.*mask/.test(name)) return s.encoder;
  if (/mask$/.test(name)) return whole;
  if (/position_ids/.test(name)) return axis === 0 ? (/batch/.test(symbol) ? 1 : 3) : /batch/.test(symbol) ? 1 : s.tokens;
  if (/batch|num_/.test(symbol)) return 1;
  if (/past/.test(symbol)) return /\+|total/.test(symbol) ? whole : s.past;
  return /seq|token|len/.test(symbol) ? s.tokens : s.open;
}

function headSize(axis: number, config: Config): number {
  const heads = numberIn(config, "num_attention_heads", "n_head", "decoder_attention_heads", "num_heads") ?? 1;
  if (axis === 1) return numberIn(config, "num_key_value_heads") ?? heads;
  return numberIn(config, "head_dim") ?? (numberIn(config, "hidden_size", "n_embd", "d_model") ?? heads) / heads;
}

function imageSize(config: Config): number {
  const size = config.image_size ?? (config.vision_config as Config | undefined)?.image_size;
  if (typeof size === "number") return size;
  return Array.isArray(size) && typeof size[0] === "number" ? size[0] : 224;
}

/** Rows of the tables that ids go to, or the config's vocabulary. */
function vocabularyOf(ids: Value, config: Config): number {
  const rows: number[] = [];
  const visit = (v: Value, depth: number) => {
    for (const use of v.uses) {
      const node: Node | null = "node" in use ? use.node : null;
      if (!node) continue;
      if (node.opType === "Gather" && "node" in use && use.index === 1) {
        const table = constantOf(node.inputs[0]);
        if (table && table.shape.length === 2) rows.push(table.shape[0]!);
      } else if (depth < 4 && /^(Cast|Reshape|Unsqueeze|Squeeze|Identity|Flatten)$/.test(node.opType))
        for (const o of node.outputs) if (o) visit(o, depth + 1);
    }
  };
  visit(ids, 0);
  const told = numberIn(config, "vocab_size");
  return Math.max(1, Math.min(...rows, told ?? Infinity, rows.length || told ? Infinity : 2));
}
