/** The pipeline of transformers.js in a Chromium that reaches nothing but this machine. */
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, extname, join, normalize } from "node:path";
import { launch } from "../browser/chromium.ts";

const types: Readonly<Record<string, string>> = {
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".html": "text/html",
};

export interface Answer {
  readonly label: string;
  readonly score: number;
}

export interface Page {
  classify(model: string, dtype: string, texts: readonly string[]): Promise<readonly Answer[]>;
  close(): Promise<void>;
}

const html = `<!doctype html><title>transformers.js</title><script type="module">
import { env, pipeline } from "/transformers/transformers.min.js";
Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: "/models/", useBrowserCache: false });
env.backends.onnx.wasm.wasmPaths = "/runtime/";
window.classify = async (model, dtype, texts) => {
  const run = await pipeline("text-classification", model, { dtype, device: "wasm" });
  const answers = await run(texts);
  await run.dispose();
  return answers;
};
</script>`;

/** Serves `models` (a folder of model folders), transformers.js and its runtime, and opens a page on them. */
export async function openPage(models: string): Promise<Page> {
  const transformers = dirname(createRequire(import.meta.url).resolve("@huggingface/transformers"));
  const runtime = dirname(createRequire(join(transformers, "x.js")).resolve("onnxruntime-web"));
  const roots: Readonly<Record<string, string>> = { models, transformers, runtime };
  const server = createServer((request, response) => {
    const [, root, ...rest] = normalize(new URL(request.url!, "http://x").pathname).split("/");
    const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
    if (root === "") return void response.writeHead(200, { ...headers, "Content-Type": "text/html" }).end(html);
    const path = join(roots[root!] ?? "/nowhere", ...rest);
    if (!existsSync(path) || !statSync(path).isFile()) return void response.writeHead(404, headers).end();
    response.writeHead(200, {
      ...headers,
      "Content-Type": types[extname(path)] ?? "application/octet-stream",
      "Content-Length": statSync(path).size,
    });
    createReadStream(path).pipe(response);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const browser = await launch();
  const page = await browser.newPage();
  const foreign: string[] = [];
  page.on("request", (r) => {
    if (!/^(blob|data):/.test(r.url()) && !r.url().startsWith(origin)) foreign.push(r.url());
  });
  await page.goto(origin);
  await page.waitForFunction(() => "classify" in window);
  return {
    classify: (model, dtype, texts) =>
      page.evaluate(([m, d, t]) => (window as unknown as { classify: (...args: unknown[]) => Promise<Answer[]> }).classify(m, d, t), [
        model,
        dtype,
        texts,
      ] as const),
    async close() {
      await browser.close();
      server.close();
      if (foreign.length) throw new Error(`the page asked for ${foreign.join(", ")}`);
    },
  };
}
