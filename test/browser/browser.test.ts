import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build, preview } from "vite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checks, sample } from "./checks.ts";
import { executablePath, launch, skipped } from "./chromium.ts";

/** Kernels sum in another order, and 8-bit rounding may fall to the other side: about one step of 1/255 of the range of the outputs. */
const tolerance = (name: string, x: number) => (name === "static int8" ? 0.02 : 1e-4) * Math.max(1, Math.abs(x));

describe.skipIf(!executablePath)(`in a browser worker${skipped}`, () => {
  let stop: () => Promise<void>;
  let ask: (name: string, bytes: Uint8Array) => Promise<Record<string, number>>;

  beforeAll(async () => {
    const outDir = mkdtempSync(join(tmpdir(), "pith-web-"));
    const config = { root: import.meta.dirname, configFile: false as const, logLevel: "warn" as const };
    await build({
      ...config,
      resolve: { conditions: ["source", "browser", "module", "import", "default"] },
      worker: { format: "es" },
      build: { outDir, emptyOutDir: true, minify: false },
    });
    const server = await preview({
      ...config,
      build: { outDir },
      preview: {
        port: 0,
        host: "127.0.0.1",
        headers: { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" },
      },
    });
    const browser = await launch();
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on("pageerror", (e) => errors.push(e.message));
    page.on("console", (m) => m.type() === "error" && errors.push(m.text()));
    await page.goto(server.resolvedUrls!.local[0]!);
    stop = async () => {
      await browser.close();
      await server.close();
      expect(errors).toEqual([]);
    };
    ask = async (name, bytes) => {
      const answer = await page.evaluate(
        ([n, b]) =>
          (window as unknown as { ask: (n: string, b: string) => Promise<{ value?: Record<string, number>; error?: string }> }).ask(n, b),
        [name, Buffer.from(bytes).toString("base64")] as [string, string],
      );
      if (answer.error) throw new Error(answer.error);
      return answer.value!;
    };
  }, 120_000);

  afterAll(() => stop?.());

  test.each(Object.keys(checks))("%s gives the same numbers as in Node", async (name) => {
    const bytes = sample();
    const here = await checks[name]!(bytes);
    const there = await ask(name, bytes);
    expect(Object.keys(there)).toEqual(Object.keys(here));
    for (const [key, x] of Object.entries(here)) {
      expect(x, key).not.toBeNaN();
      expect(Math.abs(there[key]! - x), `${key}: ${there[key]} in the browser, ${x} in Node`).toBeLessThanOrEqual(tolerance(name, x));
    }
  }, 180_000);
});
