/** How far it is: one line that is rewritten on a terminal; elsewhere a line a second at most. */
import { progressText } from "../report/progress.ts";
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
