/** What a compression technique is: a named, documented function Model → Model with declared parameters. */
import type { Dataset } from "../data/dataset.ts";
import { type Params, parseParams, type ValuesOf } from "../data/params.ts";
import type { Model } from "../ir/graph.ts";
import { Fault } from "../tensor/fault.ts";

/** How far a long step is: for progress lines. */
export interface Progress {
  /** What is running, e.g. "magnitude" or "fine-tuning". */
  readonly what: string;
  readonly step: number;
  readonly of: number;
  readonly loss?: number;
  readonly metric?: number;
  /** Seconds left, estimated. */
  readonly left?: number;
}

/** What a step may use of its surroundings. */
export interface Context {
  readonly seed: number;
  /** Examples with targets to train on; null where none were given. */
  readonly train: Dataset | null;
  /** Unlabelled examples to observe activations on; falls back to the training examples. */
  readonly calibration: Dataset | null;
  /** Shapes, by input name, that the model leaves open and no data tells. */
  readonly shape?: Readonly<Record<string, readonly number[]>> | undefined;
  /** The model before the first step: the default teacher. */
  readonly original: Model;
  /** Intra-op threads for sessions. */
  readonly threads: number;
  /** Loads another model a parameter names (a teacher, a student). */
  readonly load: (path: string) => Promise<Model>;
  /** A line for the report: what was done, skipped, and why. */
  readonly note: (line: string) => void;
  readonly progress: (p: Progress) => void;
}

export interface Step {
  readonly technique: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Changes `model`, a clone it owns. */
  apply(model: Model, context: Context): Promise<void>;
}

export interface Declaration<P extends Params> {
  /** Equal to the export's name. */
  readonly technique: string;
  readonly family: "quantize" | "prune" | "factorize" | "distill" | "lora";
  /** One sentence of what it does. */
  readonly doc: string;
  /** The source: paper and year. */
  readonly paper: string;
  readonly params: P;
  /** Parameter values at which nothing changes, or why there are none. */
  readonly neutral: Partial<ValuesOf<P>> | { readonly none: string };
  /** Two settings, the second one stronger: its file is not larger. */
  readonly stronger?: readonly [Partial<ValuesOf<P>>, Partial<ValuesOf<P>>];
  /** What data it cannot do without (given these parameters). */
  readonly needs?: (params: ValuesOf<P>) => readonly ("train" | "calibration")[];
  readonly apply: (model: Model, params: ValuesOf<P>, context: Context) => Promise<void>;
}

export interface Technique<P extends Params = Params> extends Omit<Declaration<P>, "apply"> {
  (params?: Partial<ValuesOf<P>>): Step;
  /** A step from JSON. Errors: unknown names, wrong values, in one line. */
  from(raw: unknown): Step;
}

export function defineTechnique<const P extends Params>(declaration: Declaration<P>): Technique<P> {
  const { apply, ...rest } = declaration;
  const from = (raw: unknown): Step => {
    const params = parseParams(declaration.technique, declaration.params, raw);
    return {
      technique: declaration.technique,
      params: params as Record<string, unknown>,
      async apply(model, context) {
        for (const need of declaration.needs?.(params) ?? []) {
          const have = need === "train" ? context.train : (context.calibration ?? context.train);
          if (!have)
            throw new Fault(
              declaration.technique,
              `needs ${need === "train" ? "training" : "calibration"} data; give --${need} (or ${need} in code)`,
            );
        }
        await apply(model, params, context);
      },
    };
  };
  return Object.assign((params?: Partial<ValuesOf<P>>) => from(params), rest, { from }) as Technique<P>;
}
