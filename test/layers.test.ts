import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, test } from "vitest";

// A file takes values only from its own folder or from a lower floor (DESIGN: floors). `import type` is free.
const floors: readonly (readonly string[])[] = [
  ["tensor"],
  ["ir", "data"],
  ["ops", "onnx"],
  ["runtime"],
  ["nets", "transform"],
  ["lint"],
  ["measure"],
  ["train"],
  ["techniques"],
  ["recipe"],
  ["report", "search", "transformers"],
  ["cli", "."],
];
/** What only some files may import, with the reason. */
const guarded: readonly { readonly what: RegExp; readonly who: RegExp; readonly why: string }[] = [
  {
    what: /^onnxruntime-/,
    who: /^runtime\//,
    why: "only runtime/ may know ONNX Runtime, so that the same library runs in Node and in a browser",
  },
  {
    what: /^node:/,
    who: /^(onnx\/file|data\/.*\.node|runtime\/.*\.node|measure\/.*\.node|recipe\/.*\.node|transformers\/.*\.node|report\/.*\.node|search\/|cli\/)/,
    why: "everything else runs in a browser",
  },
];

const src = join(import.meta.dirname, "../src");
const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter(
  (f) => f.endsWith(".ts") && !f.endsWith(".test.ts") && !f.endsWith(".d.ts"),
);
const floorOf = (file: string) => {
  const folder = file.includes("/") ? file.split("/")[0]! : ".";
  const at = floors.findIndex((f) => f.includes(folder));
  if (at < 0) throw new Error(`${file}: its folder "${folder}" stands on no floor`);
  return at;
};
const imports = files.flatMap((file) =>
  [...readFileSync(join(src, file), "utf8").matchAll(/^(?:import|export)\s+(?!type\b)(?:[^"';]*?from\s*)?"([^"]+)"/gms)].map((m) => ({
    file,
    to: m[1]!,
    onlyTypes: /^(?:import|export)\s*\{\s*(type\s+\w+[^,]*,?\s*)+\}/.test(m[0]),
  })),
);

test("values are imported from the own folder or a lower floor", () => {
  const wrong = imports.filter(({ file, to, onlyTypes }) => {
    if (!to.startsWith(".") || onlyTypes) return false;
    const target = relative(src, join(src, dirname(file), to));
    return dirname(target).split("/")[0] !== dirname(file).split("/")[0] && floorOf(target) >= floorOf(file);
  });
  expect(wrong.map(({ file, to }) => `${file} imports ${to}, which is not on a lower floor`)).toEqual([]);
});

test("guarded packages are imported only where they may be", () => {
  const wrong = imports.flatMap(({ file, to }) =>
    guarded.filter((g) => g.what.test(to) && !g.who.test(file)).map((g) => `${file} imports ${to}: ${g.why}`),
  );
  expect(wrong).toEqual([]);
});

test("a technique imports no other technique, and nothing of another family's folder", () => {
  // A technique is what the index exports. What a family shares is a file of its folder; what several share lies beside technique.ts.
  const index = "techniques/index.ts";
  const targetOf = ({ file, to }: { file: string; to: string }) => relative(src, join(src, dirname(file), to));
  const techniques = new Set(imports.filter((i) => i.file === index).map(targetOf));
  const familyOf = (file: string) => /^techniques\/(\w+)\//.exec(file)?.[1] ?? null;
  const wrong = imports.filter((i) => {
    if (!i.file.startsWith("techniques/") || i.file === index || !i.to.startsWith(".")) return false;
    const target = targetOf(i);
    const family = familyOf(target);
    return target === index || techniques.has(target) || (family !== null && family !== familyOf(i.file));
  });
  expect(techniques.size).toBeGreaterThan(0);
  expect(wrong.map(({ file, to }) => `${file} imports ${to}`)).toEqual([]);
});

test("there are no cycles", () => {
  const graph = new Map<string, string[]>(
    files.map((f) => [
      f,
      imports.filter((i) => i.file === f && i.to.startsWith(".") && !i.onlyTypes).map((i) => relative(src, join(src, dirname(f), i.to))),
    ]),
  );
  const done = new Set<string>();
  const visit = (f: string, path: string[]) => {
    if (path.includes(f)) throw new Error(`import cycle: ${[...path.slice(path.indexOf(f)), f].join(" → ")}`);
    if (done.has(f)) return;
    for (const to of graph.get(f) ?? []) visit(to, [...path, f]);
    done.add(f);
  };
  for (const f of files) visit(f, []);
});
