/** Runs as one self-contained HTML page: findings, accuracy against cost, the figures, what was done, on which machine. */
import type { Measurement } from "../measure/measurement.ts";
import { stepText, techniques } from "../recipe/recipe.ts";
import type { Run } from "../recipe/run.ts";
import { mark, type Point, type Shape, scatter } from "./chart.ts";
import { type Figure, figuresOf, intervalText, milliseconds, verdict } from "./figures.ts";
import { bytes, grouped, seconds } from "./format.ts";
import { escaped } from "./html.ts";
import { style } from "./style.ts";

/** What is compared with one original on the same data; the original comes first. */
interface Group {
  readonly title: string;
  readonly data: Run["data"];
  readonly rows: readonly Row[];
}

interface Row {
  readonly name: string;
  readonly series: string;
  readonly measured: readonly Measurement[];
  /** null: the original. */
  readonly run: Run | null;
}

const shapes: Readonly<Record<string, Shape>> = {
  original: "ring",
  quantize: "circle",
  prune: "triangle",
  factorize: "square",
  distill: "diamond",
  lora: "cross",
  several: "hexagon",
  other: "circle",
};

const seriesTitles: Readonly<Record<string, string>> = {
  quantize: "quantized",
  prune: "pruned",
  factorize: "factorized",
  distill: "distilled",
  lora: "LoRA",
  several: "several families",
  other: "other",
};

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

function grouping(runs: readonly Run[]): Group[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = JSON.stringify([run.model.sha256, run.data?.name ?? null]);
    groups.set(key, [...(groups.get(key) ?? []), run]);
  }
  return [...groups.values()].map((members) => {
    const first = members[0]!;
    return {
      title: first.data ? `${first.model.name} on ${first.data.name}` : first.model.name,
      data: first.data,
      rows: [
        { name: first.model.name, series: "original", measured: first.before, run: null },
        ...members.map((run) => ({ name: run.name, series: seriesOf(run), measured: run.after, run })),
      ],
    };
  });
}

function seriesOf(run: Run): string {
  const families = new Set(run.recipe.steps.map((s) => techniques[s.technique]?.family ?? "other"));
  if (families.size > 1) return "several";
  return [...families][0] ?? "other";
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
    details(g),
  ].join("\n");
}

/** The accuracy a result may lose and still be named as a finding, in points. */
const tolerated = 1;
/** How many times smaller or faster is worth a finding. */
const worth = 1.1;

function findings(g: Group, figures: readonly Figure[]): string {
  const quality = figures.find((f) => f.key === "accuracy");
  const first = g.rows[0]!;
  const base = quality?.of(first.measured);
  if (!quality || !base || g.rows.length < 2) return "";
  const loss = (row: Row) => base.value - (quality.of(row.measured)?.value ?? Number.NEGATIVE_INFINITY);
  const kept = g.rows.slice(1).filter((row) => loss(row) <= tolerated);
  const cards: string[] = [];
  const card = (what: string, figure: string, row: Row) =>
    cards.push(
      `<div class="finding"><div class="what">${what}</div><div class="figure">${figure}</div><div class="who">${escaped(row.name)} <span class="soft">${points(row)}</span></div></div>`,
    );
  const points = (row: Row) => {
    const m = quality.of(row.measured);
    return m ? `${quality.change(base, m, row.measured)} points` : "";
  };
  const best = (key: string) => {
    const f = figures.find((x) => x.key === key);
    const of = (row: Row) => f?.of(row.measured)?.value ?? Number.POSITIVE_INFINITY;
    const row = [...kept].sort((a, b) => of(a) - of(b))[0];
    const [was, is] = [f?.of(first.measured), row && f?.of(row.measured)];
    const found = f && row && was && is && worth * is.value < was.value && verdict(f, was, is, row.measured) === "good";
    return found ? { row, text: f.change(was, is, row.measured) } : null;
  };
  const download = best("brotli") ?? best("file");
  if (download) card("smallest to download", `${download.text} smaller`, download.row);
  const latency = best("latency/50");
  if (latency) card("fastest", `${latency.text} faster`, latency.row);
  const sharpest = [...g.rows.slice(1)].sort((a, b) => loss(a) - loss(b))[0]!;
  const value = quality.of(sharpest.measured);
  if (value) card("most accurate", quality.text(value), sharpest);
  const rule = kept.length
    ? `Size and speed among the ${kept.length} of ${g.rows.length - 1} results that lose at most ${tolerated} point of accuracy (the original has ${quality.text(base)}, ${intervalText(base)}).`
    : `None of the ${g.rows.length - 1} results stays within ${tolerated} point of the original's ${quality.text(base)} accuracy.`;
  return `<div class="findings">${cards.join("")}</div>\n<p class="soft" style="margin-top:8px;font-size:13px">${rule}</p>`;
}

interface View {
  readonly figure: Figure;
  readonly tab: string;
  readonly title: string;
  readonly text: (v: number) => string;
}

function charts(g: Group, figures: readonly Figure[], index: number): string {
  const quality = figures.find((f) => f.quality);
  if (!quality) return "";
  const view = (key: string, tab: string, title: string, text: (v: number) => string): View[] => {
    const figure = figures.find((f) => f.key === key);
    return figure ? [{ figure, tab, title, text }] : [];
  };
  const views = [
    ...view("brotli", "download", "download (brotli), log scale", bytes),
    ...view("file", "file", "file, log scale", bytes),
    ...view("latency/50", "latency", "median latency, log scale", milliseconds),
  ];
  // Where nothing differs in cost there is no picture to draw.
  const spread = (v: View) => {
    const values = g.rows.flatMap((r) => v.figure.of(r.measured)?.value ?? []);
    return Math.max(...values) / Math.min(...values);
  };
  if (!views.some((v) => spread(v) > worth)) return "";
  const id = (v: View) => `g${index}-${v.tab}`;
  const inputs = views.map((v, i) => `<input type="radio" name="g${index}" id="${id(v)}"${i ? "" : " checked"}>`);
  const labels = views.map((v) => `<label for="${id(v)}">${v.tab}</label>`);
  const used = new Set(g.rows.map((r) => r.series));
  const legend = Object.keys(seriesTitles).filter((s) => used.has(s));
  const figuresHtml = views.map((v) => {
    const points = g.rows.flatMap((row): Point[] => {
      const x = v.figure.of(row.measured);
      const y = quality.of(row.measured);
      if (!x || !y) return [];
      const title = `${row.name}\n${v.figure.text(x)} · ${quality.text(y)}${y.interval ? ` (${intervalText(y)})` : ""}`;
      return [{ label: shortName(row.name), x: x.value, y: y.value, interval: y.interval, series: row.series, title }];
    });
    const unit = points.length && quality.key === "accuracy" ? " %" : "";
    const chart = points.length
      ? scatter(points, { x: { title: v.title, text: v.text }, y: { title: quality.title, text: (t) => `${t}${unit}` }, shapes })
      : "";
    return `<div class="view view-${v.tab}">${chart}</div>`;
  });
  return `<div class="card views">${inputs.join("")}
<div class="tabs"><span class="soft">${escaped(quality.title)} against</span><span class="set">${labels.join("")}</span><span class="legend">${legend
    .map((s) => `<span><svg class="s-${s}" viewBox="-7 -7 14 14">${mark(shapes[s]!, 0, 0)}</svg>${seriesTitles[s]}</span>`)
    .join("")}</span></div>
${figuresHtml.join("\n")}</div>`;
}

/** Which view a tab opens. */
function tabStyle(index: number): string {
  return ["download", "file", "latency"]
    .map((key) => {
      const id = `#g${index}-${key}`;
      return `${id}:checked ~ .view-${key} { display: block; }
${id}:checked ~ .tabs label[for="${id.slice(1)}"] { background: var(--card); color: var(--ink); box-shadow: 0 1px 2px rgb(0 0 0 / 0.12); }
${id}:focus-visible ~ .tabs label[for="${id.slice(1)}"] { outline: 2px solid var(--accent); }
`;
    })
    .join("");
}

function shortName(name: string): string {
  return name.replace(/\.onnx$/, "");
}

function figureTable(g: Group, figures: readonly Figure[]): string {
  const first = g.rows[0]!;
  const n = figures.map((f) => f.of(first.measured)).find((m, i) => m?.interval && figures[i]!.quality)?.n;
  const head = figures.map((f) => `<th>${escaped(f.title)}${f.quality && n ? `<br>n = ${grouped(n)}` : ""}</th>`).join("");
  const body = g.rows.map((row) => {
    const cells = figures.map((f) => {
      const m = f.of(row.measured);
      if (!m) return "<td></td>";
      const base = f.of(first.measured);
      const delta = base ? f.change(base, m, row.measured) : "";
      const tone = base && verdict(f, base, m, row.measured);
      const more = [
        m.interval && f.quality ? `<span class="more">${intervalText(m)}</span>` : "",
        delta ? `<span class="more ${tone}">${delta}</span>` : "",
      ].join("");
      const others = g.rows.flatMap((r) => f.of(r.measured)?.value ?? []);
      const best = f.better && new Set(others).size > 1 && m.value === (f.better === "lower" ? Math.min(...others) : Math.max(...others));
      return `<td><span${best ? ' class="best"' : ""}>${escaped(f.text(m))}</span>${more}</td>`;
    });
    const how = row.run ? row.run.recipe.steps.map(stepOf).join(" → ") : "the original";
    return `<tr${row.run ? "" : ' class="first"'}><td><svg class="dot s-${row.series}" viewBox="-7 -7 14 14">${mark(shapes[row.series]!, 0, 0)}</svg><span class="name">${escaped(row.name)}</span><span class="how">${escaped(how)}</span></td>${cells.join("")}</tr>`;
  });
  return `<div class="card scroll"><table><thead><tr><th>model</th>${head}</tr></thead><tbody>\n${body.join("\n")}\n</tbody></table></div>`;
}

function stepOf({ technique, ...params }: Run["recipe"]["steps"][number]): string {
  return stepText({ technique, params, apply: async () => {} });
}

function details(g: Group): string {
  const runs = g.rows.flatMap((r) => (r.run ? [r.run] : []));
  if (!runs.length) return "";
  const one = (run: Run) => {
    const steps = run.steps.map((s, i) => {
      const notes = s.notes.map((note) => `<li>${escaped(note)}</li>`).join("");
      const json = run.recipe.steps[i];
      return `<li><code>${escaped(json ? stepOf(json) : s.technique)}</code> <span class="soft">${seconds(s.seconds)}</span>${notes ? `<ul class="notes">${notes}</ul>` : ""}</li>`;
    });
    const gate = run.gate
      ? `<p class="soft" style="margin-bottom:12px">Gate: ${escaped(run.gate.metric)} went from ${run.gate.before.toFixed(2)} to ${run.gate.after.toFixed(2)} on ${grouped(run.gate.n)} validation examples; ${run.gate.maxDrop} points may be lost.</p>`
      : "";
    const recipe = run.recipe.steps.length ? `<pre>${escaped(JSON.stringify({ ...run.recipe, seed: run.seed }, null, 2))}</pre>` : "";
    return `<details><summary><span class="name">${escaped(run.name)}</span><span class="soft">what was done, recipe, seed ${run.seed}</span></summary>
<ol class="steps">${steps.join("")}</ol>${gate}${recipe}</details>`;
  };
  return `<div class="card">${runs.map(one).join("\n")}</div>`;
}

function machines(runs: readonly Run[]): string {
  const first = runs[0];
  if (!first) return "";
  const conditions = new Map<string, string>();
  for (const m of [...first.before, ...first.after])
    for (const [k, v] of Object.entries(m.at ?? {})) if (k !== "percentile") conditions.set(k, String(v));
  const rows = [
    ...Object.entries(first.machine).map(([k, v]) => [k, String(v)] as const),
    ...[...conditions].map(([k, v]) => [k, v] as const),
    ["original", `${first.model.name}, sha256 ${first.model.sha256.slice(0, 16)}…`] as const,
  ];
  return `<h2>How it was measured</h2>
<div class="card"><dl style="margin:0">${rows.map(([k, v]) => `<dt>${escaped(k)}</dt><dd>${escaped(v)}</dd>`).join("")}</dl></div>`;
}

function when(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
}
