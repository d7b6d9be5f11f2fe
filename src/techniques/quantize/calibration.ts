/** Calibration: the range each quantized value gets, from one pass over the data. */
import type { Dataset } from "../../data/dataset.ts";
import type { Model, Value } from "../../ir/graph.ts";
import { observe } from "../../runtime/observe.ts";
import { averageRange, type Histogram, histogram, minMax, percentile, type Range } from "../../runtime/observers.ts";
import { entropyRange } from "./entropy.ts";
import { type IntType, levelsOf } from "./scheme.ts";
import { squaredErrorRange } from "./squarederror.ts";

export const methods = ["minmax", "movingAverage", "mean", "percentile", "entropy", "mse"] as const;

export interface CalibrationOptions {
  readonly calibration: (typeof methods)[number];
  /** Share of elements inside the range, percent. */
  readonly percentile: number;
  readonly activationType: IntType;
  /** Ranges centred on 0. */
  readonly symmetric: boolean;
  readonly threads: number;
  readonly progress?: (done: number, of: number) => void;
}

/** Weight of a new example in a moving average of ranges; ONNX Runtime's. */
export const averagingConstant = 0.01;

/** The ranges of values, in one pass. Averages are over examples, each run by itself. */
export function calibrate(model: Model, values: Iterable<Value>, data: Dataset, o: CalibrationOptions): Promise<Map<Value, Range>> {
  const options = { threads: o.threads, ...(o.progress ? { progress: o.progress } : {}) };
  switch (o.calibration) {
    case "minmax":
      return observe(model, values, data, minMax, options);
    case "movingAverage":
      return observe(model, values, data, averageRange({ constant: averagingConstant }), { ...options, batchSize: 1 });
    case "mean":
      return observe(model, values, data, averageRange(), { ...options, batchSize: 1 });
    default:
      return observe(model, values, data, histogram({ bins: 4096 }), options).then(
        (seen) => new Map([...seen].map(([v, h]) => [v, rangeOf(h, o)])),
      );
  }
}

/** The range a histogram gives. */
export function rangeOf(h: Histogram, o: Pick<CalibrationOptions, "calibration" | "percentile" | "activationType" | "symmetric">): Range {
  if (h.n === 0) return h;
  if (o.calibration === "entropy") return entropyRange(h, levelsOf(o.activationType));
  if (o.calibration === "mse") return squaredErrorRange(h, o.activationType, o.symmetric);
  const outside = (1 - o.percentile / 100) / 2;
  return { n: h.n, min: percentile(h, outside), max: percentile(h, 1 - outside) };
}
