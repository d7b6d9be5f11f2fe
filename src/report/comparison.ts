/** Models side by side: the one table of the command line, the demo and the library. */
import type { Measurement } from "../measure/measurement.ts";
import { figuresOf, intervalText } from "./figures.ts";
import { grouped } from "./format.ts";
import { type Column, table } from "./table.ts";

export interface Row {
  readonly name: string;
  readonly measured: readonly Measurement[];
}

/** A table of all figures, each beside how it compares with the first row: smaller and faster as "3.9×", metrics as points. */
export function comparison(rows: readonly Row[], indent = ""): string {
  const columns: Column[] = [{ title: "model" }];
  const cells: string[][] = rows.map((r) => [r.name]);
  const add = (title: string, texts: readonly string[]) => {
    columns.push({ title, align: "right" });
    texts.forEach((t, i) => {
      cells[i]!.push(t);
    });
  };
  for (const f of figuresOf(rows.map((r) => r.measured))) {
    const found = rows.map((r) => f.of(r.measured));
    add(
      f.title,
      found.map((m) => (m ? f.text(m) : "")),
    );
    const n = f.quality && found.find((m) => m?.interval)?.n;
    if (n) add(`95 %, n=${grouped(n)}`, found.map(intervalText));
    const [base] = found;
    const changes = found.map((m, i) => (base && m ? f.change(base, m, rows[i]!.measured) : ""));
    if (changes.some(Boolean)) add("", changes);
  }
  return table(columns, cells, indent);
}
