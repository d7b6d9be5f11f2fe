/** A scatter chart as inline SVG: what a model costs across, what it is worth up, with intervals, the front and labels that keep clear of each other. */
import { escaped } from "./html.ts";

export interface Point {
  readonly label: string;
  readonly x: number;
  readonly y: number;
  /** Around y; null: exact. */
  readonly interval: readonly [number, number] | null;
  /** Points of a series share a colour (CSS class `s-<series>`) and a shape. */
  readonly series: string;
  /** Shown on hovering. */
  readonly title: string;
}

export interface Axis {
  readonly title: string;
  readonly text: (v: number) => string;
}

export interface ChartOptions {
  /** Logarithmic, less is better. */
  readonly x: Axis;
  /** Linear, more is better. */
  readonly y: Axis;
  /** The shape of each series. */
  readonly shapes: Readonly<Record<string, Shape>>;
  readonly width?: number;
  readonly height?: number;
}

export type Shape = "circle" | "square" | "triangle" | "diamond" | "ring" | "cross" | "hexagon";

interface Box {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

const margin = { left: 62, right: 26, top: 18, bottom: 50 };
/** Height of a label, and the mean width of its characters at 13 px. */
const font = { line: 16, char: 6.9 };

/** The chart. The first point is the one all others are compared with: its level and interval run through as a band. Points with an x of 0 or less are left out. */
export function scatter(all: readonly Point[], options: ChartOptions): string {
  const { width = 960, height = 480 } = options;
  const points = all.filter((p) => p.x > 0 && Number.isFinite(p.y));
  const inner = { x0: margin.left, x1: width - margin.right, y0: height - margin.bottom, y1: margin.top };
  const [lx0, lx1] = padded(Math.min(...points.map((p) => Math.log10(p.x))), Math.max(...points.map((p) => Math.log10(p.x))), 0.07, 0.6);
  const lows = points.map((p) => p.interval?.[0] ?? p.y);
  const highs = points.map((p) => p.interval?.[1] ?? p.y);
  const [y0, y1] = padded(Math.min(...lows), Math.max(...highs), 0.06, 0.5);
  const X = (v: number) => inner.x0 + ((Math.log10(v) - lx0) / (lx1 - lx0)) * (inner.x1 - inner.x0);
  const Y = (v: number) => inner.y0 - ((v - y0) / (y1 - y0)) * (inner.y0 - inner.y1);
  const out: string[] = [
    `<svg class="chart" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(`${options.y.title} against ${options.x.title}`)}">`,
  ];
  for (const v of linearTicks(y0, y1)) {
    out.push(`<line class="grid" x1="${inner.x0}" x2="${inner.x1}" y1="${r(Y(v))}" y2="${r(Y(v))}"/>`);
    out.push(`<text class="tick" x="${inner.x0 - 10}" y="${r(Y(v) + 4)}" text-anchor="end">${escaped(options.y.text(v))}</text>`);
  }
  for (const v of logTicks(10 ** lx0, 10 ** lx1)) {
    out.push(`<line class="grid" x1="${r(X(v))}" x2="${r(X(v))}" y1="${inner.y0}" y2="${inner.y1}"/>`);
    out.push(`<text class="tick" x="${r(X(v))}" y="${inner.y0 + 20}" text-anchor="middle">${escaped(options.x.text(v))}</text>`);
  }
  out.push(`<text class="axis" x="${inner.x1}" y="${height - 8}" text-anchor="end">${escaped(options.x.title)} → larger</text>`);
  out.push(`<text class="axis" x="${inner.x0 + 8}" y="${inner.y1 + 10}">↑ ${escaped(options.y.title)}</text>`);
  const first = points[0]!;
  if (first.interval) {
    const [low, high] = first.interval;
    out.push(`<rect class="band" x="${inner.x0}" width="${inner.x1 - inner.x0}" y="${r(Y(high))}" height="${r(Y(low) - Y(high))}"/>`);
  }
  out.push(`<line class="level" x1="${inner.x0}" x2="${inner.x1}" y1="${r(Y(first.y))}" y2="${r(Y(first.y))}"/>`);
  const best = front(points);
  if (best.length > 1) {
    const path = best.map((p, i) => (i ? `H${r(X(p.x))}V${r(Y(p.y))}` : `M${r(X(p.x))} ${r(Y(p.y))}`));
    out.push(`<path class="front" d="${path.join("")}"/>`);
  }
  for (const p of points) {
    if (!p.interval) continue;
    const [low, high] = p.interval;
    const x = X(p.x);
    out.push(
      `<path class="whisker s-${p.series}" d="M${r(x)} ${r(Y(low))}V${r(Y(high))}M${r(x - 4)} ${r(Y(low))}h8M${r(x - 4)} ${r(Y(high))}h8"/>`,
    );
  }
  const placed = place(
    points.map((p) => ({ x: X(p.x), y: Y(p.y), label: p.label })),
    points.flatMap((p) => (p.interval ? [{ x: X(p.x) - 3, y: Y(p.interval[1]), w: 6, h: Y(p.interval[0]) - Y(p.interval[1]) }] : [])),
    { x: inner.x0, y: inner.y1, w: inner.x1 - inner.x0, h: inner.y0 - inner.y1 },
  );
  points.forEach((p, i) => {
    const x = X(p.x);
    const y = Y(p.y);
    const at = placed[i]!;
    out.push(`<g class="point s-${p.series}"><title>${escaped(p.title)}</title>`);
    out.push(mark(options.shapes[p.series] ?? "circle", x, y));
    out.push(`<text class="label" x="${r(at.x)}" y="${r(at.y + 12)}">${escaped(p.label)}</text></g>`);
  });
  out.push("</svg>");
  return out.join("\n");
}

/** Points that no other beats in both: from the smallest x on, each y higher than all before. */
export function front<P extends { readonly x: number; readonly y: number }>(points: readonly P[]): P[] {
  const out: P[] = [];
  for (const p of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) if (!out.length || p.y > out[out.length - 1]!.y) out.push(p);
  return out;
}

/** A series' mark, centred. */
export function mark(shape: Shape, cx: number, cy: number): string {
  const x = r(cx);
  const y = r(cy);
  switch (shape) {
    case "circle":
      return `<circle class="mark" cx="${x}" cy="${y}" r="6"/>`;
    case "ring":
      return `<circle class="mark ring" cx="${x}" cy="${y}" r="6"/>`;
    case "square":
      return `<rect class="mark" x="${r(cx - 5.5)}" y="${r(cy - 5.5)}" width="11" height="11" rx="1.5"/>`;
    case "diamond":
      return `<path class="mark" d="M${x} ${r(cy - 7.5)}l7.5 7.5l-7.5 7.5l-7.5 -7.5z"/>`;
    case "triangle":
      return `<path class="mark" d="M${x} ${r(cy - 7)}l7 12.5h-14z"/>`;
    case "hexagon":
      return `<path class="mark" d="M${r(cx - 3.6)} ${r(cy - 6.3)}h7.2l3.6 6.3l-3.6 6.3h-7.2l-3.6 -6.3z"/>`;
    case "cross":
      return `<path class="mark" d="M${r(cx - 2.2)} ${r(cy - 6.5)}h4.4v4.3h4.3v4.4h-4.3v4.3h-4.4v-4.3h-4.3v-4.4h4.3z"/>`;
  }
}

/** A place for every label beside its point: the first of eight around it, then further out, that covers least of what is there already. */
function place(points: readonly { x: number; y: number; label: string }[], obstacles: readonly Box[], frame: Box): Box[] {
  const taken: Box[] = [...obstacles, ...points.map((p) => ({ x: p.x - 7, y: p.y - 7, w: 14, h: 14 }))];
  const gap = 11;
  return points.map((p) => {
    const w = p.label.length * font.char;
    const h = font.line;
    let best: Box = { x: p.x + gap, y: p.y - h / 2, w, h };
    let least = Number.POSITIVE_INFINITY;
    for (const lift of [0, 0.6, 1.2, 2, 3]) {
      const candidates = [
        [gap, -h / 2 - lift * h],
        [gap, -h / 2 + lift * h],
        [-gap - w, -h / 2 - lift * h],
        [-gap - w, -h / 2 + lift * h],
        [-w / 2, -gap - h - lift * h],
        [-w / 2, gap + lift * h],
      ] as const;
      for (const [dx, dy] of candidates) {
        const box = { x: p.x + dx, y: p.y + dy, w, h };
        const outside = w * h - overlap(box, frame);
        const cost = taken.reduce((sum, t) => sum + overlap(box, t), 0) + 4 * outside + 3 * lift;
        if (cost < least - 1e-9) {
          least = cost;
          best = box;
        }
      }
    }
    taken.push(best);
    return best;
  });
}

function overlap(a: Box, b: Box): number {
  const w = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x);
  const h = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y);
  return w > 0 && h > 0 ? w * h : 0;
}

/** A range widened by a share of itself on both sides, at least `least` wide. */
function padded(low: number, high: number, share: number, least: number): [number, number] {
  const pad = Math.max((high - low) * share, (least - (high - low)) / 2, least * share);
  return [low - pad, high + pad];
}

/** About six round numbers in a range. */
export function linearTicks(low: number, high: number): number[] {
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) ?? 10);
  const out: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** Round numbers in a range: powers of ten where it spans more than two and a half decades, 1, 2 and 5 times them, or finer ones within less than one. */
export function logTicks(low: number, high: number): number[] {
  const digits = high / low > 300 ? [1] : high / low > 8 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const out: number[] = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const d of digits) {
      const v = Number(`${d}e${e}`);
      if (v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9)) out.push(v);
    }
  return out;
}

function r(x: number): number {
  return Math.round(x * 10) / 10;
}
