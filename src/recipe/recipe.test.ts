import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { choice, number, optional, text } from "../data/params.ts";
import { defineTechnique, type Technique } from "../techniques/technique.ts";
import { parseRecipe, parseStep, recipeJson, stepText } from "./recipe.ts";
import { version } from "./version.ts";

const known = {
  fade: defineTechnique({
    technique: "fade",
    family: "prune",
    doc: "For this test.",
    paper: "none",
    params: {
      sparsity: number(0.5, { min: 0, max: 1, doc: "how much" }),
      scope: choice(["global", "layer"], { doc: "where" }),
      layers: text("*", { doc: "which" }),
      rank: optional({ ...number(1, { doc: "rank" }) }),
    },
    neutral: { sparsity: 0 },
    apply: async () => {},
  }) as unknown as Technique,
};

test("JSON → steps → JSON spells every parameter out and is stable", () => {
  const { steps, seed } = parseRecipe({ seed: 3, steps: [{ technique: "fade", sparsity: 0.9 }, { technique: "fade" }] }, known);
  const json = recipeJson(steps, seed!);
  expect(json).toEqual({
    seed: 3,
    steps: [
      { technique: "fade", sparsity: 0.9, scope: "global", layers: "*", rank: null },
      { technique: "fade", sparsity: 0.5, scope: "global", layers: "*", rank: null },
    ],
  });
  const again = parseRecipe(JSON.parse(JSON.stringify(json)), known);
  expect(recipeJson(again.steps, again.seed!)).toEqual(json);
});

test("a step as text takes selectors with commas, and is written back in short", () => {
  const step = parseStep("fade:sparsity=0.9,layers=*q*,op:Conv,!*head*,scope=layer", known);
  expect(step.params).toEqual({ sparsity: 0.9, scope: "layer", layers: "*q*,op:Conv,!*head*", rank: null });
  expect(stepText(step, known)).toBe("fade:sparsity=0.9,scope=layer,layers=*q*,op:Conv,!*head*");
  expect(parseStep(stepText(step, known), known).params).toEqual(step.params);
  expect(stepText(parseStep("fade", known), known)).toBe("fade");
});

test.each([
  [{ steps: [{ technique: "fad" }] }, 'recipe: unknown technique "fad"; there are fade'],
  [{ steps: [{ technique: "fade", bits: 8 }] }, 'fade: unknown parameter "bits"; it takes sparsity, scope, layers, rank'],
  [{ steps: [{ technique: "fade", sparsity: 2 }] }, "fade: sparsity must be a number from 0 to 1; got 2"],
  [{ steps: [] }, 'recipe: steps must be a list of at least one step like {"technique": "int8"}; got []'],
  [{ steps: [{}] }, "recipe, step 1: technique must be a name; got nothing"],
  [{ steps: ["fade"] }, 'recipe, step 1: must be an object; got "fade"'],
  [{ step: [] }, 'recipe: unknown key "step"; it takes steps and seed'],
  [{ steps: [{ technique: "fade" }], seed: 0.5 }, "recipe: seed must be a whole number; got 0.5"],
  [[], "recipe: must be an object; got []"],
  [{ steps: [{ technique: "toString" }] }, 'recipe: unknown technique "toString"; there are fade'],
])("%j is refused in one line", (raw, message) => {
  expect(() => parseRecipe(raw, known)).toThrow(expect.objectContaining({ message }));
});

test("malformed step text is refused", () => {
  expect(() => parseStep("fade:0.9", known)).toThrow('fade: "0.9" is not name=value; write fade:name=value,name=value');
});

test("the version is package.json's", () => {
  const { version: packaged } = JSON.parse(readFileSync(join(import.meta.dirname, "../../package.json"), "utf8"));
  expect(version).toBe(packaged);
});
