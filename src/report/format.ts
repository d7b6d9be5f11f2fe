/** Numbers as people read them. */

/** 1234 → "1.2 kB"; decimal units, as file managers show them. */
export function bytes(n: number): string {
  return n < 1000 ? `${n} B` : si(n, "B");
}

/** 2312441 → "2.31 M"; plain below ten thousand. */
export function count(n: number): string {
  return n < 10_000 ? String(n) : si(n, "");
}

function si(n: number, unit: string): string {
  const units = ["", "k", "M", "G", "T"];
  let at = 0;
  let x = n;
  // 999.95 k would print as 1000 k: go on to M.
  while (Math.round(x * 10) / 10 >= 1000 && at < units.length - 1) {
    x /= 1000;
    at++;
  }
  return `${+x.toPrecision(x >= 100 ? 4 : 3)} ${units[at]}${unit}`.trimEnd();
}

/** 1234567 → "1,234,567". */
export function grouped(n: number): string {
  return String(n).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** A share of a whole as "12.3 %"; "–" of nothing. */
export function share(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–";
}

/** 75.3 → "1 min 15 s". */
export function seconds(s: number): string {
  if (s < 10) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Text in lines of at most `width` characters, broken between words. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line];
}
