/** How far it is: one line that is rewritten on a terminal; elsewhere a line a second at most. */
import { seconds } from "../report/format.ts";
import type { Progress } from "../techniques/technique.ts";

export interface ProgressLine {
  show(p: Progress): void;
  /** Take the line away before something else is printed. */
  clear(): void;
}

/** `quiet`: nothing is shown. */
export function progressLine(stream: NodeJS.WriteStream = process.stderr, quiet = false): ProgressLine {
  const every = stream.isTTY ? 80 : 1000;
  let last = Number.NEGATIVE_INFINITY;
  let shown = false;
  return {
    show(p) {
      const now = performance.now();
      // The end of something is always worth a line on a terminal, where the next one replaces it.
      if (quiet || (now - last < every && !(stream.isTTY && p.step === p.of))) return;
      last = now;
      const text = progressText(p);
      if (stream.isTTY) stream.write(`\r\u001b[K${text.slice(0, (stream.columns || 80) - 1)}`);
      else stream.write(`${text}\n`);
      shown = true;
    },
    clear() {
      if (stream.isTTY && shown) stream.write("\r\u001b[K");
      shown = false;
    },
  };
}

/** "fine-tuning  120/500  24 %  loss 0.1234  97.12 %  12 s left". */
export function progressText(p: Progress): string {
  const parts = [p.what, `${p.step}/${p.of}`, `${Math.floor((100 * p.step) / Math.max(1, p.of))} %`];
  if (p.loss !== undefined) parts.push(`loss ${p.loss.toPrecision(4)}`);
  if (p.metric !== undefined) parts.push(`metric ${p.metric.toPrecision(4)}`);
  if (p.left !== undefined && Number.isFinite(p.left)) parts.push(`${seconds(p.left)} left`);
  return parts.join("  ");
}
