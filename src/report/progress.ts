/** How far something is, as a line of text. */
import type { Progress } from "../techniques/technique.ts";
import { seconds } from "./format.ts";

/** "fine-tuning  120/500  24 %  loss 0.1234  metric 0.971  12 s left". */
export function progressText(p: Progress): string {
  const parts = [p.what, `${p.step}/${p.of}`, `${Math.floor((100 * p.step) / Math.max(1, p.of))} %`];
  if (p.loss !== undefined) parts.push(`loss ${p.loss.toPrecision(4)}`);
  if (p.metric !== undefined) parts.push(`metric ${p.metric.toPrecision(4)}`);
  if (p.left !== undefined && Number.isFinite(p.left)) parts.push(`${seconds(p.left)} left`);
  return parts.join("  ");
}
