import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { compile, generatedPath, kernels } from "../../../scripts/kernels.ts";

test.each(kernels)("the committed module of kernels/%s.ts is what it compiles to", async (name) => {
  expect(await compile(name), "run: npx tsx scripts/kernels.ts").toBe(readFileSync(generatedPath(name), "utf8"));
});
