/** Models side by side: the one table of the command line, the demo and the library. */
import type { Measurement } from "../measure/measurement.ts";
import { figuresOf, intervalText } from "./figures.ts";
import { grouped } from "./format.ts";
import { type Column, table } from "./table.ts";

export interface Row {
  readonly name: string;
  readonly measured: readonly Measurement[];
}

/**
 * A table of all figures. Under each model's line stands what belongs to its figures: the 95 % interval of a metric and its change in
 * points, and how many times smaller or faster than the first model it is ("3.9×").
 */
export function comparison(rows: readonly Row[], indent = ""): string {
  const columns: Column[] = [{ title: "model" }];
  const titles: string[] = [""];
  const figures: string[][] = rows.map((r) => [r.name]);
  const below: string[][] = rows.map(() => [""]);
  for (const f of figuresOf(rows.map((r) => r.measured)).filter((f) => !f.minor)) {
    const found = rows.map((r) => f.of(r.measured));
    const n = f.quality && found.find((m) => m?.interval)?.n;
    columns.push({ title: f.title, align: "right" });
    titles.push([f.condition, n ? `n = ${grouped(n)}` : ""].filter(Boolean).join(", "));
    const [base] = found;
    found.forEach((m, i) => {
      figures[i]!.push(m ? f.text(m) : "");
      const change = base && m ? f.change(base, m, rows[i]!.measured) : "";
      below[i]!.push(f.quality ? [change, intervalText(m)].filter(Boolean).join("  ") : change);
    });
  }
  const lines = rows.flatMap((_, i) => [figures[i]!, ...(below[i]!.some(Boolean) ? [below[i]!] : [])]);
  const under = titles.some(Boolean) ? titles : undefined;
  return table(columns, lines, indent, under);
}
