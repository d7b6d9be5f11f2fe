/** Models side by side: the one table of the command line, the demo and the library. */
import type { Measurement } from "../measure/measurement.ts";
import { change, figuresOf, intervalText } from "./figures.ts";
import { grouped } from "./format.ts";
import { type Column, table } from "./table.ts";

export interface Row {
  readonly name: string;
  readonly measured: readonly Measurement[];
}

/** A table of all figures, each beside how it compares with the first row: smaller and faster as "3.9×", metrics as points. */
export function comparison(rows: readonly Row[], indent = ""): string {
  const figures = figuresOf(rows.map((r) => r.measured));
  const columns: Column[] = [{ title: "model" }];
  const cells: string[][] = rows.map((r) => [r.name]);
  for (const f of figures) {
    const found = rows.map((r) => f.of(r.measured));
    columns.push({ title: f.title, align: "right" });
    found.forEach((m, i) => {
      cells[i]!.push(m ? f.text(m) : "");
    });
    const n = found.find((m) => m?.interval)?.n;
    if (f.key === "accuracy" && n) {
      columns.push({ title: `95 % of n=${grouped(n)}`, align: "right" });
      found.forEach((m, i) => {
        cells[i]!.push(intervalText(m));
      });
    }
    const changes = found.map((m) => change(f, found[0], m));
    if (changes.some(Boolean) && f.key !== "p95") {
      columns.push({ title: "", align: "right" });
      changes.forEach((c, i) => {
        cells[i]!.push(c);
      });
    }
  }
  return table(columns, cells, indent);
}
