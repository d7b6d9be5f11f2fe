/** The charts of a group: accuracy against each cost, one at a time, chosen by tabs that need no script. */
import { mark, type Point, scatter } from "./chart.ts";
import { type Figure, figureOf, intervalText, milliseconds } from "./figures.ts";
import { bytes } from "./format.ts";
import { type Group, seriesTitles, shapes } from "./group.ts";
import { escaped } from "./html.ts";

interface View {
  readonly figure: Figure;
  readonly tab: string;
  readonly title: string;
  readonly text: (v: number) => string;
}

/** Nothing where quality is not known, or where nothing differs in cost. */
export function charts(g: Group, figures: readonly Figure[], index: number): string {
  const quality = figures.find((f) => f.quality);
  if (!quality) return "";
  const view = (key: string, tab: string, title: string, text: (v: number) => string): View[] => {
    const figure = figureOf(figures, key);
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
  if (!views.some((v) => spread(v) > 1.1)) return "";
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
export function tabStyle(index: number): string {
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
