/** The dtypes that transformers.js loads: file suffixes, and how each is made. */
import { half, integerOps, weightOnly } from "../techniques/index.ts";
import { transformersBlockList } from "../techniques/quantize/halfops.ts";
import type { Step } from "../techniques/technique.ts";

export const algorithms = ["rtn", "hqq", "gptq", "awq", "adaround"] as const;
export type Algorithm = (typeof algorithms)[number];

/** How weights are quantized, beside the dtype; null: the dtype's own. */
export interface Settings {
  /** 8 bits: a scale for each output channel; 7-bit weights. Null: by model type (see {@link perChannelDefault}). */
  readonly perChannel: boolean | null;
  readonly reduceRange: boolean | null;
  /** Columns a scale serves: 32 for q4, q2 and q1, 64 for bnb4. */
  readonly blockSize: number | null;
  readonly symmetric: boolean;
  /** Integers of 4 bits and fewer: how codes are found. All but rtn and hqq need calibration data. */
  readonly algorithm: Algorithm;
  readonly accuracyLevel: number | null;
  /** bnb4: 0 FP4, 1 NF4. */
  readonly quantType: 0 | 1;
  /** 4 bits and fewer: tables that Gather reads, too, not only those that a layer shares. */
  readonly embeddings: boolean;
  /** Op types that stay as they are. */
  readonly blockedOps: readonly string[];
  /** Do as the converter of transformers.js 3 did, where pith knows better: see {@link differences}. */
  readonly compat: boolean;
  /** For loaders on ONNX Runtime 1.30 and later only: no workarounds for what older ones could not run. */
  readonly current: boolean;
}

/** As the converter of transformers.js 3 set them. */
export const defaultSettings: Settings = {
  perChannel: null,
  reduceRange: null,
  blockSize: null,
  symmetric: true,
  algorithm: "rtn",
  accuracyLevel: null,
  quantType: 1,
  embeddings: false,
  blockedOps: [],
  compat: false,
  current: false,
};

/** What the recipe of a dtype may depend on. */
export interface Facts {
  readonly modelType: string;
  /** Op types of the model, its subgraphs' too. */
  readonly ops: ReadonlySet<string>;
  /** Weights that Gather and a layer share. */
  readonly tied: readonly string[];
  /** Tables that Gather reads, those among them. */
  readonly tables: readonly string[];
}

export interface Dtype {
  /** `onnx/<base><suffix>.onnx`. */
  readonly suffix: string;
  readonly doc: string;
  readonly steps: (settings: Settings, facts: Facts) => readonly Step[];
  /** Least agreement of the result's outputs with the original's (a cosine that lengths count in), at which it is accepted. */
  readonly agreement: number;
  readonly remark?: string;
}

/** Model types whose 8-bit weights have one scale for the tensor and all 8 bits; others get one per channel and 7 bits. */
const perTensor = new Set(
  (
    "codegen gpt2 gpt_bigcode gptj gpt-neo gpt-neox mpt bloom llama gemma opt mistral falcon phi phi3 qwen2 stablelm starcoder2 openelm mobilellm " +
    "olmo whisper vision-encoder-decoder owlv2 wavlm wav2vec2 unispeech unispeech-sat"
  ).split(" "),
);

/** Default of perChannel and reduceRange alike. */
export function perChannelDefault(modelType: string): boolean {
  return !perTensor.has(modelType);
}

/** Ops whose presence makes q8's weights unsigned, for kernels that older runtimes lack. */
const unsignedFor = ["Conv", "GroupQueryAttention", "MultiHeadAttention"];

const blocked = (ops: readonly string[]) => ops.map((o) => `op:${o}`).join(",");

function eightBits(weights: (s: Settings, f: Facts) => "int8" | "uint8"): Dtype["steps"] {
  return (s, f) => [
    integerOps({
      weights: weights(s, f),
      granularity: (s.perChannel ?? perChannelDefault(f.modelType)) ? "channel" : "tensor",
      reduceRange: s.reduceRange ?? perChannelDefault(f.modelType),
      conv: s.compat ? "integer" : "stored",
      // What the converter could not do or look at: Gemm, and how far a weight moves.
      exclude: blocked([...s.blockedOps, ...(s.compat ? ["Gemm"] : [])]),
      ...(s.compat ? { maxError: 1e9 } : {}),
    }),
  ];
}

/** The ops that older runtimes lack in 16 bits stay float32, unless the loader is current. */
const sixteenBits: Dtype["steps"] = (s) => [
  half({
    ...(s.compat ? { compat: "transformers" } : {}),
    blockOps: [...(s.current ? [] : transformersBlockList), ...s.blockedOps].join(","),
  }),
];

const matrices = { format: "nbits", conv: false } as const;

/**
 * Layers in `type`, MatMulNBits or MatMulBnb4; a table that Gather and the output layer share in the same codes for both. Those are 4-bit integers
 * where `type` is narrower, which ruins embeddings, or a float, which Gather has no form of.
 */
function blocks(type: (s: Settings) => "int4" | "int2" | "binary" | "nf4" | "fp4"): Dtype["steps"] {
  return (s, f) => {
    const t = type(s);
    const floats = t === "nf4" || t === "fp4";
    const integers = { ...matrices, symmetric: s.symmetric, accuracyLevel: s.accuracyLevel ?? 0, algorithm: s.algorithm };
    const own = floats
      ? { type: t, blockSize: s.blockSize ?? 64, conv: false }
      : { ...integers, type: t, blockSize: s.blockSize ?? 32, symmetric: s.symmetric || t === "binary" };
    if (s.compat) return [weightOnly({ ...own, embeddings: "none", exclude: ["op:Gemm", ...f.tied].join(","), maxError: 1e9 })];
    const exclude = blocked(s.blockedOps);
    const embeddings = s.embeddings ? "all" : "tied";
    if (t === "int4") return [weightOnly({ ...own, embeddings, exclude })];
    const tables = s.embeddings ? f.tables : f.tied;
    const first = weightOnly({ ...integers, type: "int4", blockSize: 32, embeddings, include: tables.join(","), exclude });
    return [...(tables.length ? [first] : []), weightOnly({ ...own, embeddings: "none", exclude })];
  };
}

const then =
  (first: Dtype["steps"], second: Dtype["steps"]): Dtype["steps"] =>
  (s, f) => [...first(s, f), ...second(s, f)];

const coarse =
  "how far it is from the original is shown and not bounded: so few bits suit weights that were trained for them; tables that the output layer shares get 4";
const carried = "1-bit codes are carried in 2 bits, as the runtime has no narrower ones: the same size as q2";

export const dtypes = {
  fp16: { suffix: "_fp16", doc: "16-bit floats inside, float32 inputs and outputs", steps: sixteenBits, agreement: 0.999 },
  q8: {
    suffix: "_quantized",
    doc: "8-bit weights, integer MatMul; signed unless the model has ops that need unsigned ones on older runtimes",
    steps: eightBits((s, f) => (!s.current && unsignedFor.some((o) => f.ops.has(o)) ? "uint8" : "int8")),
    agreement: 0.9,
  },
  int8: { suffix: "_int8", doc: "8-bit signed weights, integer MatMul", steps: eightBits(() => "int8"), agreement: 0.9 },
  uint8: { suffix: "_uint8", doc: "8-bit unsigned weights, integer MatMul", steps: eightBits(() => "uint8"), agreement: 0.9 },
  q4: { suffix: "_q4", doc: "4-bit weights in blocks of 32 (MatMulNBits)", steps: blocks(() => "int4"), agreement: 0.9 },
  q4f16: {
    suffix: "_q4f16",
    doc: "q4, and all else in 16-bit floats",
    steps: then(
      blocks(() => "int4"),
      sixteenBits,
    ),
    agreement: 0.9,
  },
  bnb4: {
    suffix: "_bnb4",
    doc: "4-bit floats in blocks of 64 (MatMulBnb4)",
    steps: blocks((s) => (s.quantType === 1 ? "nf4" : "fp4")),
    agreement: 0.9,
  },
  q2: { suffix: "_q2", doc: "2-bit weights in blocks of 32", steps: blocks(() => "int2"), agreement: -1, remark: coarse },
  q2f16: {
    suffix: "_q2f16",
    doc: "q2, and all else in 16-bit floats",
    steps: then(
      blocks(() => "int2"),
      sixteenBits,
    ),
    agreement: -1,
    remark: coarse,
  },
  q1: {
    suffix: "_q1",
    doc: "1-bit weights in blocks of 32, carried in 2-bit codes",
    steps: blocks(() => "binary"),
    agreement: -1,
    remark: `${carried}; ${coarse}`,
  },
  q1f16: {
    suffix: "_q1f16",
    doc: "q1, and all else in 16-bit floats",
    steps: then(
      blocks(() => "binary"),
      sixteenBits,
    ),
    agreement: -1,
    remark: `${carried}; ${coarse}`,
  },
} as const satisfies Record<string, Dtype>;

/** What the converter makes where nothing is said. */
export const defaultDtypes = ["fp16", "q8", "int8", "uint8", "q4", "q4f16", "bnb4"] as const satisfies readonly DtypeName[];

export type DtypeName = keyof typeof dtypes;

/** What `compat` changes back, for help and README. */
export const differences = [
  "fp16, q4f16: weights beyond 1e4 are clamped, which ruins BatchNormalizations with large variances (pith keeps in float32 what 16 bits cannot hold)",
  "q4, q4f16, bnb4, q2, q1: tables that the output layer shares stay float, and so does that layer (pith stores them once, in blocks); Gemm stays float",
  "q8, int8, uint8: Convs become ConvInteger (4–8 times slower than float; pith stores their weights in 8 bits and computes in float)",
  "q8, int8, uint8: Gemm stays float; weights that 8 bits change by more than 20 % are quantized all the same",
] as const;

/** The session files among names in `onnx/`, without ".onnx": those whose names do not end as a dtype's files do. */
export function sessionsIn(names: readonly string[]): string[] {
  const bases = names.filter((n) => n.endsWith(".onnx")).map((n) => n.slice(0, -".onnx".length));
  return bases.filter((b) => !Object.values(dtypes).some((d) => b.endsWith(d.suffix))).sort();
}
