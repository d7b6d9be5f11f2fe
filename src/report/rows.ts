/** The figures of a group as an HTML table. */

import type { StepJson } from "../recipe/recipe.ts";
import { stepText } from "../recipe/recipe.ts";
import { mark } from "./chart.ts";
import { type Figure, intervalText, verdict } from "./figures.ts";
import { grouped } from "./format.ts";
import { type Group, shapes } from "./group.ts";
import { escaped } from "./html.ts";

/** One row a model, each figure with its interval and how it compares with the original. */
export function figureTable(g: Group, figures: readonly Figure[]): string {
  const first = g.rows[0]!;
  const n = figures.map((f) => f.of(first.measured)).find((m, i) => m?.interval && figures[i]!.quality)?.n;
  const under = (f: Figure) => [f.condition, f.quality && n ? `n = ${grouped(n)}` : ""].filter(Boolean).join(", ");
  const head = figures.map((f) => `<th>${escaped(f.title)}${under(f) ? `<br>${escaped(under(f))}` : ""}</th>`).join("");
  const body = g.rows.map((row) => {
    const cells = figures.map((f) => {
      const m = f.of(row.measured);
      if (!m) return "<td></td>";
      const base = f.of(first.measured);
      const delta = base ? f.change(base, m, row.measured) : "";
      const tone = base && delta !== "1×" ? verdict(f, base, m, row.measured) : "";
      const more = [
        m.interval && f.quality ? `<span class="more">${intervalText(m)}</span>` : "",
        delta ? `<span class="more ${tone}">${delta}</span>` : "",
      ].join("");
      const others = g.rows.flatMap((r) => f.of(r.measured)?.value ?? []);
      const best = f.better && new Set(others).size > 1 && m.value === (f.better === "lower" ? Math.min(...others) : Math.max(...others));
      return `<td><span${best ? ' class="best"' : ""}>${escaped(f.text(m))}</span>${more}</td>`;
    });
    const how = row.run ? row.run.recipe.steps.map(recorded).join(" → ") || "trained" : "the original";
    return `<tr${row.run ? "" : ' class="first"'}><td><svg class="dot s-${row.series}" viewBox="-7 -7 14 14">${mark(shapes[row.series]!, 0, 0)}</svg><span class="name">${escaped(row.name)}</span><span class="how">${escaped(how)}</span></td>${cells.join("")}</tr>`;
  });
  return `<div class="card scroll"><table><thead><tr><th>model</th>${head}</tr></thead><tbody>\n${body.join("\n")}\n</tbody></table></div>`;
}

/** A recorded step in short. */
export function recorded({ technique, ...params }: StepJson): string {
  return stepText({ technique, params, apply: async () => {} });
}
