/** pith compress: a recipe's steps on a model, the gate, the measured result. */
import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import type { Model } from "../ir/graph.ts";
import { load } from "../onnx/file.ts";
import { parseRecipe, parseStep, type Recipe, stepText } from "../recipe/recipe.ts";
import { table } from "../report/table.ts";
import type { Step } from "../techniques/technique.ts";
import { sizeOf } from "../tensor/dtype.ts";
import { Fault } from "../tensor/fault.ts";
import { liftConstants } from "../transform/fold.ts";
import { weightsOf } from "../transform/weights.ts";
import { type ApplyOptions, applySteps, withApply } from "./apply.ts";
import { print } from "./terminal.ts";
import { repeated, Usage } from "./usage.ts";

interface Options extends ApplyOptions {
  readonly step?: readonly Step[];
  readonly recipe?: string;
  readonly dryRun?: true;
}

const command = new Command("compress")
  .description("makes a model smaller: runs steps, checks and measures the result, writes it")
  .argument("<model>", "an ONNX file")
  .addOption(
    new Option("--step <technique:name=value,...>", "a step (repeatable); pith help <technique> has its parameters").argParser(
      repeated((text) => parseStep(text)),
    ),
  )
  .option("--recipe <file>", 'steps and seed as JSON: {"steps": [{"technique": "int8"}], "seed": 0}')
  .option("--dry-run", "only say which weights the steps' selectors match");
withApply(command).action(run);

export { command as compressCommand };

async function run(path: string, options: Options): Promise<void> {
  const recipe = recipeOf(options);
  if (options.dryRun) return print(matches(load(path), recipe.steps));
  await applySteps("compress", path, recipe.steps, { ...options, seed: options.seed ?? recipe.seed ?? 0 }, [options.recipe]);
}

function recipeOf({ step, recipe }: Options): Recipe {
  if (step && recipe !== undefined) throw new Usage("give steps with --step or with --recipe, not both");
  if (step) return { seed: null, steps: step };
  if (recipe === undefined) throw new Usage("compress needs steps: --step int8, or --recipe recipe.json");
  let raw: unknown;
  try {
    raw = JSON.parse(readFileSync(recipe, "utf8"));
  } catch (e) {
    throw new Fault(recipe, e instanceof SyntaxError ? `is not JSON: ${e.message}` : "cannot be read", { cause: e });
  }
  try {
    return parseRecipe(raw);
  } catch (e) {
    throw e instanceof Fault ? new Fault(recipe, e.message, { cause: e }) : e;
  }
}

/** The weights each step would work on. */
function matches(model: Model, steps: readonly Step[]): string {
  liftConstants(model);
  const all = weightsOf(model);
  return steps
    .map((step) => {
      const { include, exclude } = step.params;
      const chosen = weightsOf(model, {
        ...(typeof include === "string" && include ? { include } : {}),
        ...(typeof exclude === "string" && exclude ? { exclude } : {}),
      });
      if (chosen.length === 0) {
        const some = all.slice(0, 3).map((w) => w.value.name);
        return `${stepText(step)}: matches none of the ${all.length} weights${some.length ? `; they have names like ${some.join(", ")}` : ""}`;
      }
      const rows = chosen.map((w) => [
        w.value.name,
        [...new Set(w.uses.map((u) => u.node.opType))].join(", "),
        w.value.data!.shape.join("×"),
        String(sizeOf(w.value.data!.shape)),
      ]);
      const columns = [{ title: "weight" }, { title: "op" }, { title: "shape" }, { title: "elements", align: "right" } as const];
      return `${stepText(step)}: ${chosen.length} of ${all.length} weights\n${table(columns, rows, "  ")}`;
    })
    .join("\n\n");
}
