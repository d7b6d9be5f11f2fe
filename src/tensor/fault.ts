/** An error of the input, not of pith: one line that says where, what is wrong and what would be right. The command line prints it without a stack. */
export class Fault extends Error {
  readonly where: string;
  constructor(where: string, what: string, options?: ErrorOptions) {
    super(oneLine(`${where}: ${what}`), options);
    this.name = "Fault";
    this.where = where;
  }
}

/** Longest message: names from hostile files may be anything. */
const longest = 2000;

/** Control characters (of names from files, too) as escapes, what is too long cut. */
function oneLine(text: string): string {
  const line = text.length > longest ? `${text.slice(0, longest)}…` : text;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return line.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
