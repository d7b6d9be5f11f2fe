/** Compiles kernels/*.ts (AssemblyScript) to src/tensor/kernels/*.generated.ts: `npx tsx scripts/kernels.ts [name …]`. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = join(import.meta.dirname, "..");

/** Every kernel's name. */
export const kernels = readdirSync(join(root, "kernels"))
  .filter((f) => f.endsWith(".ts"))
  .map((f) => basename(f, ".ts"));

export const generatedPath = (name: string) => join(root, "src/tensor/kernels", `${name}.generated.ts`);

/** The text of a kernel's generated file. Errors: what the compiler says. */
export async function compile(name: string): Promise<string> {
  const source = readFileSync(join(root, "kernels", `${name}.ts`), "utf8");
  let wasm = new Uint8Array();
  const flags = "-O3 --noAssert --runtime stub --importMemory --noExportMemory --initialMemory 1 --enable simd".split(" ");
  const { error, stderr } = await asc.main([`${name}.ts`, "-o", `${name}.wasm`, ...flags], {
    readFile: (path) => (path === `${name}.ts` ? source : null),
    writeFile: (_, contents) => {
      wasm = contents as Uint8Array<ArrayBuffer>;
    },
    listFiles: () => [],
  });
  if (error) throw new Error(`kernels/${name}.ts: ${stderr.toString()}`);
  const text = Buffer.from(wasm).toString("base64");
  return `/** kernels/${name}.ts, compiled (${wasm.byteLength} bytes): see scripts/kernels.ts. */\nexport default "${text}";\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of process.argv.length > 2 ? process.argv.slice(2) : kernels) writeFileSync(generatedPath(name), await compile(name));
}
