/** Recipes: steps as JSON, and as text on a command line. Names, ranges and defaults come from the techniques' own declarations. */
import { parseCall } from "../data/params.ts";
import * as all from "../techniques/index.ts";
import type { Step, Technique } from "../techniques/technique.ts";
import { Fault } from "../tensor/fault.ts";

/** A step as JSON: the technique's name beside its parameters; those left out have their defaults. */
export type StepJson = Readonly<{ technique: string } & Record<string, unknown>>;

/** A recipe as JSON. */
export interface RecipeJson {
  readonly seed?: number;
  readonly steps: readonly StepJson[];
}

export interface Recipe {
  /** null: the recipe does not say. */
  readonly seed: number | null;
  readonly steps: readonly Step[];
}

/** Techniques by name. */
export type Techniques = Readonly<Record<string, Technique>>;

/** The techniques of pith. */
export const techniques: Techniques = { ...(all as unknown as Techniques) };

/** The technique of that name. Errors: there is none. */
export function techniqueOf(name: string, known: Techniques = techniques): Technique {
  const t = Object.hasOwn(known, name) ? known[name] : undefined;
  if (!t) throw new Fault("recipe", `unknown technique "${name}"; there are ${Object.keys(known).join(", ")}`);
  return t;
}

/** A recipe from JSON. Errors: unknown keys, techniques and parameters, wrong values, no steps, each in one line. */
export function parseRecipe(raw: unknown, known: Techniques = techniques): Recipe {
  const { seed = null, steps, ...rest } = object("recipe", raw);
  const [extra] = Object.keys(rest);
  if (extra !== undefined) throw new Fault("recipe", `unknown key "${extra}"; it takes steps and seed`);
  if (!Array.isArray(steps) || steps.length === 0)
    throw new Fault(
      "recipe",
      `steps must be a list of at least one step like {"technique": "int8"}; got ${JSON.stringify(steps) ?? "nothing"}`,
    );
  if (seed !== null && !Number.isSafeInteger(seed)) throw new Fault("recipe", `seed must be a whole number; got ${JSON.stringify(seed)}`);
  return { seed: seed as number | null, steps: steps.map((s, i) => parseStepJson(s, `recipe, step ${i + 1}`, known)) };
}

function parseStepJson(raw: unknown, where: string, known: Techniques): Step {
  const { technique, ...params } = object(where, raw);
  if (typeof technique !== "string") throw new Fault(where, `technique must be a name; got ${JSON.stringify(technique) ?? "nothing"}`);
  return techniqueOf(technique, known).from(params);
}

function object(where: string, raw: unknown): Record<string, unknown> {
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    throw new Fault(where, `must be an object; got ${JSON.stringify(raw) ?? "nothing"}`);
  return raw as Record<string, unknown>;
}

/** A recipe as JSON with every parameter spelled out, so that later defaults do not change it. */
export function recipeJson(steps: readonly Step[], seed?: number): RecipeJson {
  return { ...(seed === undefined ? {} : { seed }), steps: steps.map(stepJson) };
}

/** A step as JSON. */
export function stepJson(step: Step): StepJson {
  return { technique: step.technique, ...step.params };
}

/** A step from text: `magnitude:sparsity=0.9,scope=global`. A comma parts parameters only where a `name=` follows, so selectors may hold commas. */
export function parseStep(text: string, known: Techniques = techniques): Step {
  const { name, values } = parseCall(text);
  return techniqueOf(name, known).from(values);
}

/** A step in short, as one writes it: only what differs from the defaults. */
export function stepText(step: Step, known: Techniques = techniques): string {
  const declared = Object.hasOwn(known, step.technique) ? known[step.technique]!.params : {};
  const given = Object.entries(step.params).filter(([k, v]) => !Object.is(v, declared[k]?.default));
  return given.length ? `${step.technique}:${given.map(([k, v]) => `${k}=${v}`).join(",")}` : step.technique;
}
