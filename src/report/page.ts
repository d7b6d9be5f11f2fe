/** Runs as one self-contained HTML page: findings, accuracy against cost, the figures, what was done, on which machine. */
import { named } from "../lint/finding.ts";
import type { Run } from "../recipe/run.ts";
import { figuresOf } from "./figures.ts";
import { findings } from "./findings.ts";
import { grouped, seconds } from "./format.ts";
import { type Group, grouping } from "./group.ts";
import { escaped } from "./html.ts";
import { figureTable, recorded } from "./rows.ts";
import { style } from "./style.ts";
import { charts, tabStyle } from "./views.ts";

/** A page about these runs; those that began with the same model and were measured on the same data are compared. No assets, no scripts. */
export function page(runs: readonly Run[], options: { readonly title?: string } = {}): string {
  const groups = grouping(runs);
  const title =
    options.title ??
    ((groups.length === 1 ? groups[0]!.title : [...new Set(runs.map((r) => r.model.name))].join(", ")) || "Nothing measured");
  // One model on several data: its name stands above all.
  const one = new Set(runs.map((r) => r.model.name)).size === 1;
  const heading = (g: Group) => (groups.length === 1 ? "" : one && g.data ? `On ${g.data.name}` : g.title);
  const newest = runs
    .map((r) => r.date)
    .sort()
    .at(-1);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)} · pith</title>
<style>${style}${groups.map((_, i) => tabStyle(i)).join("")}</style>
</head>
<body><main>
<div class="brand"><b>pith</b><span>${[`${runs.length} ${runs.length === 1 ? "result" : "results"}`, newest && when(newest)].filter(Boolean).join(" · ")}</span></div>
<h1>${escaped(title)}</h1>
${groups.map((g, i) => section(g, i, heading(g))).join("\n")}
${machines(runs)}
<footer>Made by pith ${escaped(runs[0]?.pith ?? "")}. Intervals are 95 %. Every result that was measured is shown, the disappointing ones too.</footer>
</main></body>
</html>
`;
}

function section(g: Group, index: number, heading: string): string {
  const figures = figuresOf(g.rows.map((r) => r.measured));
  const on = g.data ? `Measured on ${grouped(g.data.length)} examples of ${escaped(g.data.name)}.` : "";
  return [
    heading ? `<h2>${escaped(heading)}</h2>` : "",
    on ? `<p class="soft">${on}</p>` : "",
    findings(g, figures),
    charts(g, figures, index),
    figureTable(g, figures),
    warnings(g),
    details(g),
  ].join("\n");
}

/** What stands in the way of results on their runtime, or slows them, where nobody has to open anything to see it. */
function warnings(g: Group): string {
  const lines = g.rows.flatMap(({ name, run }) =>
    (run?.findings ?? []).filter((f) => f.level !== "note").map((f) => `<li><b>${escaped(name)}</b> ${escaped(f.what)}</li>`),
  );
  return lines.length ? `<div class="card"><ul class="notes" style="margin:14px 18px">${lines.join("")}</ul></div>` : "";
}

function details(g: Group): string {
  const runs = g.rows.flatMap((r) => (r.run ? [r.run] : []));
  if (!runs.length) return "";
  const one = (run: Run) => {
    const steps = run.steps.map((s, i) => {
      const notes = s.notes.map((note) => `<li>${escaped(note)}</li>`).join("");
      const json = run.recipe.steps[i];
      return `<li><code>${escaped(json ? recorded(json) : s.technique)}</code> <span class="soft">${seconds(s.seconds)}</span>${notes ? `<ul class="notes">${notes}</ul>` : ""}</li>`;
    });
    const gate = run.gate
      ? `<p class="soft" style="margin-bottom:12px">Gate: ${escaped(run.gate.metric)} went from ${run.gate.before.toFixed(2)} to ${run.gate.after.toFixed(2)} on ${grouped(run.gate.n)} validation examples; ${run.gate.maxDrop} points may be lost.</p>`
      : "";
    const findings = run.findings.map(
      (f) =>
        `<li><b>${f.level}</b> ${escaped(f.what)} <span class="soft">${escaped([named(f.nodes), f.basis].filter(Boolean).join(" · "))}</span></li>`,
    );
    const found = findings.length ? `<ul class="notes" style="margin-bottom:12px">${findings.join("")}</ul>` : "";
    const unmeasured = run.unmeasured ? `<p class="soft" style="margin-bottom:12px">Not measured: ${escaped(run.unmeasured)}</p>` : "";
    const recipe = run.recipe.steps.length ? `<pre>${escaped(JSON.stringify({ ...run.recipe, seed: run.seed }, null, 2))}</pre>` : "";
    return `<details><summary><span class="name">${escaped(run.name)}</span><span class="soft">what was done, recipe, seed ${run.seed}</span></summary>
<ol class="steps">${steps.join("")}</ol>${found}${gate}${unmeasured}${recipe}</details>`;
  };
  return `<div class="card">${runs.map(one).join("\n")}</div>`;
}

function machines(runs: readonly Run[]): string {
  const first = runs[0];
  if (!first) return "";
  const conditions = new Map<string, Map<string, Set<string>>>();
  for (const m of [...first.before, ...first.after])
    for (const [k, v] of Object.entries(m.at ?? {})) {
      if (k === "percentile") continue;
      const of = conditions.get(m.metric) ?? new Map<string, Set<string>>();
      conditions.set(m.metric, of.set(k, (of.get(k) ?? new Set()).add(String(v))));
    }
  const under = (of: Map<string, Set<string>>) => [...of].map(([k, values]) => `${k} ${[...values].join(" and ")}`).join(", ");
  const rows = [
    ...Object.entries(first.machine).map(([k, v]) => [k, String(v)] as const),
    ...[...conditions].filter(([metric]) => metric !== "speedup").map(([metric, of]) => [metric, under(of)] as const),
    ["original", `${first.model.name}, sha256 ${first.model.sha256.slice(0, 16)}…`] as const,
  ];
  return `<h2>How it was measured</h2>
<div class="card"><dl style="margin:0">${rows.map(([k, v]) => `<dt>${escaped(k)}</dt><dd>${escaped(v)}</dd>`).join("")}</dl></div>`;
}

function when(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
}
