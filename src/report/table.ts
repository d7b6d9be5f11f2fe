/** Text in columns: the one table printer. */

export interface Column {
  readonly title: string;
  /** Numbers stand right. Default left. */
  readonly align?: "left" | "right";
}

/**
 * Rows under their titles (and a second line of titles), two spaces between columns. A row that is null is a rule. Widths count
 * characters as a terminal shows them (no wide ones are used).
 */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[] | null)[],
  indent = "",
  subtitles?: readonly string[],
): string {
  const heads = [columns.map((c) => c.title), ...(subtitles ? [subtitles] : [])];
  const widths = columns.map((_, i) => Math.max(...[...heads, ...rows].map((r) => length(r?.[i] ?? ""))));
  const line = (cells: readonly string[]) =>
    indent +
    columns
      .map((c, i) => {
        const text = cells[i] ?? "";
        const pad = " ".repeat(widths[i]! - length(text));
        return c.align === "right" ? pad + text : text + pad;
      })
      .join("  ")
      .trimEnd();
  const rule = indent + widths.map((w) => "─".repeat(w)).join("──");
  return [...heads.map(line), rule, ...rows.map((r) => (r ? line(r) : rule))].join("\n");
}

function length(text: string): number {
  return [...text].length;
}
