/** What stands out among results: the smallest, the fastest, the most accurate. */
import { type Figure, figureOf, intervalText, verdict } from "./figures.ts";
import type { Group, Row } from "./group.ts";
import { escaped } from "./html.ts";

/** The accuracy a result may lose and still be named as a finding, in points. */
const tolerated = 1;
/** How many times smaller or faster is worth a finding. */
const worth = 1.1;

/** The cards above the chart, with the rule they were chosen by; nothing where there is no accuracy. */
export function findings(g: Group, figures: readonly Figure[]): string {
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
    const f = figureOf(figures, key);
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
  const chosen = cards.length > 0;
  const sharpest = [...g.rows.slice(1)].sort((a, b) => loss(a) - loss(b))[0]!;
  const value = quality.of(sharpest.measured);
  if (value) card("most accurate", quality.text(value), sharpest);
  const rule = !kept.length
    ? `None of the ${g.rows.length - 1} results stays within ${tolerated} point of the original's ${quality.text(base)} accuracy.`
    : chosen
      ? `Size and speed among the ${kept.length} of ${g.rows.length - 1} results that lose at most ${tolerated} point of accuracy (the original has ${quality.text(base)}, ${intervalText(base)}).`
      : "";
  return `<div class="findings">${cards.join("")}</div>\n<p class="soft" style="margin-top:8px;font-size:13px">${rule}</p>`;
}
